import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { StdDemuxer, stdFrame } from './stdcopy.ts';
import type { StdStream } from './stdcopy.ts';

const frames = fc.array(
  fc.record({ stream: fc.constantFrom<StdStream>('stdout', 'stderr'), text: fc.string({ maxLength: 40 }) }),
);

test('any cutting of any frames gives back each stream whole and in order', () => {
  fc.assert(
    fc.property(frames, fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1 }), (input, cuts) => {
      const bytes = Buffer.concat(input.map((frame) => stdFrame(frame.stream, Buffer.from(frame.text))));
      const demuxer = new StdDemuxer();
      const seen = { stdin: '', stdout: '', stderr: '', systemerr: '' };
      const parts: Record<StdStream, Buffer[]> = { stdin: [], stdout: [], stderr: [], systemerr: [] };
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = cuts[i % cuts.length] ?? 1;
        for (const piece of demuxer.push(bytes.subarray(at, at + size))) parts[piece.stream].push(piece.data);
        at += size;
      }
      for (const stream of ['stdout', 'stderr'] as const) {
        seen[stream] = Buffer.concat(parts[stream]).toString();
        expect(seen[stream]).toBe(
          input
            .filter((frame) => frame.stream === stream)
            .map((frame) => Buffer.from(frame.text).toString())
            .join(''),
        );
      }
    }),
  );
});

test('bytes of a TTY are refused, not guessed at', () => {
  expect(() => new StdDemuxer().push(Buffer.from('hello world'))).toThrow(RangeError);
});
