import { expect, test } from 'vitest';
import { lastWords, saysRemoved } from './process.ts';

test('last words: the last error, in JSON or in Go’s own words', () => {
  const info = '{"level":"info","msg":"ready"}';
  const fatal = '{"level":"fatal","msg":"failed to save","error":"no space left on device"}';
  expect(lastWords(`${fatal}\n${info}\n`)).toBe('failed to save: no space left on device');
  expect(lastWords(`${info}\npanic: runtime error\n\ngoroutine 1 [running]:\n`)).toBe('panic: runtime error');
  expect(lastWords('')).toBeUndefined();
  expect(lastWords('{"level":"in')).toBeUndefined();
});

test('only etcd’s own sentence tells of a removal', () => {
  expect(
    saysRemoved(
      '{"level":"warn","msg":"server error","error":"the member has been permanently removed from the cluster"}',
    ),
  ).toBe(true);
  expect(saysRemoved('{"level":"info","msg":"removed member"}')).toBe(false);
});
