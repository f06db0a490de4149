import type { ServerResponse } from 'node:http';
import { duplexPair, Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { NodeAway, type OpenStream } from '../../dispatch/streams.ts';
import { Channel, ChannelRefused } from '../../dispatch/streams-channel.ts';
import { StdDemuxer, stdFrame } from '../../docker/stdcopy.ts';
import { TaskState } from '../../model/states.ts';
import type { StreamRequest } from '../../model/streams.ts';
import { AT, aNode, aService, aTask, startApi, type TestApi } from '../api.fixture.ts';
import { FollowedLog } from './followed-log.ts';
import { reasonOf } from './missing.ts';
import { engineQuery, parseLogQuery, type LogQuery } from './query.ts';
import { ofService, ofTask } from './selection.ts';
import { LogSink, ReaderGone } from './sink.ts';
import { writeWholeLog, type WholeLogDeps } from './whole-log.ts';

const until = (fn: () => void) => vi.waitFor(fn, { timeout: 5_000, interval: 5 });
const at = (n: number) => `2026-01-01T00:00:00.${String(n).padStart(9, '0')}Z`;
const line = (n: number, text: string) => stdFrame('stdout', Buffer.from(`${at(n)} ${text}\n`));

/** A client that reads all it gets, and tells it as text. */
class Reader extends Writable {
  readonly #demuxer = new StdDemuxer();
  readonly out: string[] = [];
  readonly err: string[] = [];
  /** Reads no more, and says nothing of it. */
  stopped = false;

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    for (const { stream, data } of this.#demuxer.push(chunk))
      (stream === 'stderr' ? this.err : this.out).push(data.toString().trimEnd());
    if (!this.stopped) done();
  }
}

/** What a task's node answers: its log, as an engine gives it, or why not. */
type Play = (request: Extract<StreamRequest, { kind: 'read' }>, channel: Channel) => Promise<void>;

let api: TestApi;
let plays: Record<string, Play>;
let asked: string[];
let reader: Reader;
let gone: AbortController;
beforeEach(async () => {
  api = await startApi();
  plays = {};
  asked = [];
  reader = new Reader();
  gone = new AbortController();
  await api.store.update((tx) => {
    tx.services.create(aService('web'));
    tx.nodes.create(aNode('node1'));
    tx.nodes.create(aNode('node2', { status: { state: 'down', message: '', address: '', since: AT } }));
  });
});
afterEach(() => api.close());

const running = (id: string, slot: number, nodeId = 'node1', state: TaskState = TaskState.RUNNING) =>
  aTask(id, 'web', {
    slot,
    nodeId,
    status: { timestamp: AT, state, message: '', container: { id: `c-${id}`, pid: 1 } },
  });

function deps(query: LogQuery): WholeLogDeps {
  return {
    streams: {
      async open(_nodeId, request): Promise<OpenStream> {
        if (request.kind !== 'read') throw new Error('not a log');
        asked.push(`${request.taskId} ${request.query['since'] ?? ''}`.trim());
        const play = plays[request.taskId];
        if (play === undefined) throw new NodeAway('it has no session with this manager');
        const [near, far] = duplexPair();
        const channel = new Channel(far);
        play(request, channel).then(
          () => channel.end(),
          () => channel.destroy(),
        );
        const open = new Channel(near);
        return { channel: open, ...(await open.opened()) };
      },
    },
    clock: api.clock,
    query,
    signal: gone.signal,
    sink: new LogSink(reader as unknown as ServerResponse),
    format: { timestamps: false, details: false, raw: false },
    reason: (task, error) =>
      reasonOf(
        error,
        api.store.view((view) => view.nodes.get(task.nodeId)),
      ),
    hostname: (nodeId) => `host-${nodeId}`,
  };
}

const says =
  (...lines: [number, string][]): Play =>
  async (_request, channel) => {
    await channel.tell({ type: 'opened', tty: false });
    for (const [n, text] of lines) await channel.write(line(n, text));
    await channel.tell({ type: 'end' });
  };

describe('a whole log', () => {
  const query = parseLogQuery({ stdout: '1' });

  test("slots merged by time, a slot's tasks one after the other", async () => {
    plays = { old: says([1, 'a'], [5, 'b']), new: says([2, 'c'], [7, 'd']), other: says([3, 'e'], [6, 'f']) };
    const old = { ...running('old', 1), meta: { version: 1, createdAt: '2025-01-01T00:00:00Z', updatedAt: '' } };
    await writeWholeLog(deps(query), [running('new', 1), running('other', 2), old]);
    expect(reader.out).toEqual(['a', 'e', 'b', 'c', 'f', 'd']);
    expect(reader.err).toEqual([]);
  });

  test('what is missing is said at the end, once for each node and reason', async () => {
    plays = {
      t1: says([1, 'here']),
      t5: async (_request, channel) =>
        channel.tell({ type: 'error', status: 501, message: 'configured logging driver does not support reading' }),
      t6: async (_request, channel) => {
        await channel.tell({ type: 'opened', tty: false });
        await channel.write(line(2, 'half'));
      },
    };
    const tasks = [
      running('t1', 1),
      running('t2', 2, 'node2'),
      running('t3', 3, 'node2'),
      running('t4', 4, 'node3'),
      running('t5', 5),
      running('t6', 6),
    ];
    await writeWholeLog(deps(query), tasks);
    expect(reader.out).toEqual(['here', 'half']);
    expect(reader.err.toSorted()).toEqual([
      'log incomplete: web.2.t2, web.3.t3 on node host-node2: the node is down',
      'log incomplete: web.4.t4 on node host-node3: the node was removed',
      'log incomplete: web.5.t5 on node host-node1: configured logging driver does not support reading',
      'log incomplete: web.6.t6 on node host-node1: the stream ended in the middle',
    ]);
  });

  test('an engine that has begun and says nothing more is given up', async () => {
    plays = {
      t1: async (_request, channel) => {
        await channel.tell({ type: 'opened', tty: false });
        await channel.closed;
      },
      t2: says([1, 'here']),
    };
    const writing = writeWholeLog(deps(query), [running('t1', 1), running('t2', 2)]);
    await until(() => expect(asked).toHaveLength(2));
    await vi.waitFor(async () => {
      await api.clock.advance(61_000);
      expect(reader.err).toHaveLength(1);
    });
    await writing;
    expect([reader.out, reader.err]).toEqual([['here'], [expect.stringMatching(/nothing came for 60 s/)]]);
  });

  test('ends when the reader goes away, and so do the streams', async () => {
    const closed = Promise.withResolvers<void>();
    plays = {
      t1: async (_request, channel) => {
        await channel.tell({ type: 'opened', tty: false });
        for (let n = 0; ; n++)
          await channel.write(line(n, 'x'.repeat(1000))).catch((error: unknown) => {
            closed.resolve();
            throw error;
          });
      },
    };
    reader.stopped = true;
    const writing = writeWholeLog(deps(query), [running('t1', 1)]);
    writing.catch(() => {});
    await until(() => expect(reader.writableNeedDrain).toBe(true));
    reader.destroy();
    await expect(writing).rejects.toBeInstanceOf(ReaderGone);
  });
});

describe('a followed log', () => {
  const query = parseLogQuery({ stdout: '1', follow: '1', tail: '3' });
  const follow = (selection = ofService('web')) => new FollowedLog(deps(query), api.store, selection).run();

  test('sees tasks that come later, and ends with its service', async () => {
    plays = { t1: says([1, 'one']), t2: says([2, 'two']) };
    await api.store.update((tx) => tx.tasks.create(running('t1', 1)));
    const over = follow();
    await until(() => expect(reader.out).toEqual(['one']));
    await api.store.update((tx) =>
      tx.tasks.create({ ...running('t2', 2), status: { timestamp: AT, state: TaskState.PREPARING, message: '' } }),
    );
    expect(asked).toEqual(['t1']);
    await api.store.update((tx) => tx.tasks.update(running('t2', 2)));
    await until(() => expect(reader.out).toEqual(['one', 'two']));
    await api.store.update((tx) => tx.services.remove('web'));
    await over;
    expect(reader.err).toEqual([]);
  });

  test('a log opened before its container ran is opened again', async () => {
    let ran = false;
    plays = { t1: (request, channel) => (ran ? says([1, 'up']) : says())(request, channel) };
    await api.store.update((tx) => tx.tasks.create(running('t1', 1, 'node1', TaskState.STARTING)));
    const over = follow(ofTask('t1'));
    await until(() => expect(asked).toHaveLength(1));
    ran = true;
    await api.store.update((tx) => tx.tasks.update(running('t1', 1, 'node1', TaskState.COMPLETE)));
    await vi.waitFor(async () => {
      await api.clock.advance(1_000);
      expect(reader.out).toEqual(['up']);
    });
    await over;
  });

  test('after a break it goes on where it was: nothing lost, nothing twice, the break said once', async () => {
    let tries = 0;
    plays = {
      t1: async (request, channel) => {
        tries += 1;
        if (tries === 1) {
          await channel.tell({ type: 'opened', tty: false });
          await channel.write(Buffer.concat([line(1, 'a'), line(2, 'b'), line(2, 'c')]));
          throw new Error('the node went away');
        }
        if (tries < 4) return channel.tell({ type: 'error', status: 503, message: 'the engine is away' });
        expect(request.query).toEqual({ ...engineQuery(query), since: '1767225600.000000002', tail: 'all' });
        return says([2, 'b'], [2, 'c'], [2, 'd'], [3, 'e'])(request, channel);
      },
    };
    await api.store.update((tx) => tx.tasks.create(running('t1', 1)));
    const over = follow(ofTask('t1'));
    await vi.waitFor(async () => {
      await api.clock.advance(1_000);
      expect(reader.out).toEqual(['a', 'b', 'c', 'd', 'e']);
    });
    await api.store.update((tx) => tx.tasks.update(running('t1', 1, 'node1', TaskState.COMPLETE)));
    await over;
    expect(reader.err).toHaveLength(1);
  });

  test('ends with its reader', async () => {
    const over = follow();
    gone.abort(new ReaderGone());
    await expect(over).rejects.toBeInstanceOf(ReaderGone);
  });
});

test('a refusal keeps its words', () => {
  expect(reasonOf(new ChannelRefused(501, 'no reading'), undefined)).toBe('no reading');
});
