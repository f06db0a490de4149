import fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodeFrame, FrameError, FrameReader } from './frames.ts';

/** What a reader makes of these bytes when they come in pieces of these sizes, the last as large as need be. */
function read(bytes: Buffer, sizes: readonly number[], maxBytes = 1_000): unknown[] {
  const reader = new FrameReader(maxBytes);
  const messages: unknown[] = [];
  let at = 0;
  for (const size of [...sizes, bytes.length]) {
    messages.push(...reader.push(bytes.subarray(at, at + size)));
    at += size;
  }
  return messages;
}

test('messages are read the same, however the stream is cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.jsonValue({ maxDepth: 2 }), { maxLength: 6 }),
      fc.array(fc.nat(60), { maxLength: 20 }),
      (values, sizes) => {
        const frames = values.map((value) => encodeFrame(JSON.stringify(value)));
        const heard = values.map((value) => JSON.parse(JSON.stringify(value)) as unknown);
        const all = Buffer.concat(frames);
        expect(read(all, sizes, 1e6)).toEqual(heard);
        // Each in a piece of its own, as a session writes them.
        const each = frames.map((frame) => frame.length);
        expect(read(all, each, 1e6)).toEqual(heard);
      },
    ),
  );
});

test('a message as large as allowed is taken, a larger one is not, whole or in pieces', () => {
  const frame = (bytes: number) => encodeFrame(JSON.stringify('x'.repeat(bytes - 2)));
  for (const sizes of [[], [2], [4], [10]]) {
    expect(read(frame(1_000), sizes)).toHaveLength(1);
    expect(() => read(frame(1_001), sizes)).toThrow(FrameError);
  }
});

test('what is no JSON is no message', () => {
  for (const sizes of [[], [3]])
    expect(() => read(encodeFrame('{"type":'), sizes)).toThrow('a message that is not JSON');
});
