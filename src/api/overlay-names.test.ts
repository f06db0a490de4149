import { expect, test } from 'vitest';
import { inUserWords, withEngineNetworks, withOverlayNames } from './overlay-names.ts';
import { HERE } from './overlays.fixture.ts';

test('texts are changed where they stand', () => {
  const big = '{"Networks":{"drover-1-aaaa":null},"Memory":9223372036854775807}';
  expect(withOverlayNames(big, [HERE])).toBe('{"Networks":{"net1-name":null},"Memory":9223372036854775807}');
  expect(withOverlayNames('not "drover-1-aaaa" json', [HERE])).toBe('not "net1-name" json');
  expect(withEngineNetworks('{"network":{"net1":true},"id":["x"]}', [HERE])).toBe(
    '{"network":{"drover-1-aaaa":true},"id":["x"]}',
  );
  expect(withEngineNetworks('{broken', [HERE])).toBe('{broken');
  expect(inUserWords('drover-1-aaaa and $&', [HERE])).toBe('net1-name and $&');
});
