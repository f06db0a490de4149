/** The engine's streams of JSON objects (events, pull progress), one a line. */
import type { Readable } from 'node:stream';

/** Every object of the stream as it arrives. @throws what the stream fails with; SyntaxError on broken JSON. */
export async function* jsonLines<T>(stream: Readable): AsyncGenerator<T, void, undefined> {
  for await (const line of textLines(stream)) {
    if (line.trim() === '') continue;
    const item: T = JSON.parse(line);
    yield item;
  }
}

async function* textLines(stream: Readable): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder();
  let pending = '';
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    pending += decoder.decode(chunk, { stream: true });
    const lines = pending.split('\n');
    pending = lines.pop() ?? '';
    yield* lines;
  }
  yield pending + decoder.decode();
}
