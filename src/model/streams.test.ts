import fc from 'fast-check';
import { expect, test } from 'vitest';
import { dataFrame, messageFrame, StreamFrameError, StreamFrames, type StreamMessage } from './streams.ts';

const message: fc.Arbitrary<StreamMessage> = fc.oneof(
  fc.record({ type: fc.constant('opened' as const), tty: fc.boolean() }),
  fc.record({ type: fc.constant('error' as const), status: fc.integer({ min: 0, max: 599 }), message: fc.string() }),
  fc.record({ type: fc.constant('end' as const), exitCode: fc.integer() }),
  fc.record({
    type: fc.constant('resize' as const),
    height: fc.integer({ min: 0, max: 65_535 }),
    width: fc.integer({ min: 0, max: 65_535 }),
  }),
);
const item = fc.oneof(message, fc.uint8Array({ maxLength: 300 }));

/** Runs of data as one text each, messages between them. */
function joined(frames: Iterable<Uint8Array | StreamMessage>): unknown[] {
  const items: unknown[] = [];
  let data = Buffer.alloc(0);
  const flush = () => {
    if (data.length > 0) items.push(data.toString('hex'));
    data = Buffer.alloc(0);
  };
  for (const frame of frames) {
    if (frame instanceof Uint8Array) data = Buffer.concat([data, frame]);
    else {
      flush();
      items.push(frame);
    }
  }
  flush();
  return items;
}

test('whatever goes in comes out in order, however the bytes are cut', () => {
  fc.assert(
    fc.property(fc.array(item), fc.array(fc.nat(40)), (items, cuts) => {
      const bytes = Buffer.concat(
        items.map((each) => (each instanceof Uint8Array ? dataFrame(each) : messageFrame(each))),
      );
      const frames = new StreamFrames();
      const out: (Buffer | StreamMessage)[] = [];
      let at = 0;
      for (let i = 0; at < bytes.length; i++) {
        const size = 1 + (cuts[i % Math.max(1, cuts.length)] ?? 1000);
        out.push(...frames.push(bytes.subarray(at, (at += size))));
      }
      expect(joined(out)).toEqual(joined(items));
    }),
  );
});

test('what is no frame is said so', () => {
  const push = (bytes: Buffer) => [...new StreamFrames().push(bytes)];
  expect(() => push(Buffer.from([9, 0, 0, 0, 1, 0]))).toThrow(StreamFrameError);
  expect(() => push(Buffer.from([1, 1, 0, 0, 0]))).toThrow(/at most|1 to/);
  expect(() => push(Buffer.concat([Buffer.from([1, 0, 0, 0, 2]), Buffer.from('{}')]))).toThrow(/not understood/);
  expect(() => push(Buffer.concat([Buffer.from([1, 0, 0, 0, 1]), Buffer.from('{')]))).toThrow(/not JSON/);
});
