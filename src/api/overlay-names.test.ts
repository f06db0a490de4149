import { expect, test } from 'vitest';
import type { OverlayHere } from '../model/attachments.ts';
import { inUserWords, withEngineNetworks, withOverlayNames } from './overlay-names.ts';

const HERE: OverlayHere = {
  id: 'net1',
  name: 'net1-name',
  environment: 'default',
  subnet: '10.0.16.0/20',
  gateway: '10.0.16.2',
  vni: 4097,
  dataPathPort: 4789,
  ingress: false,
  internal: false,
  attachable: true,
  labels: {},
  options: {},
  engineNetwork: 'drover-1-aaaa',
};

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
