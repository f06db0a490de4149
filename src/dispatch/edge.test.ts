/** What the manager's port does with those who may not, and with what nobody understands. */
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { connect as connectTcp } from 'node:net';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { TaskState } from '../model/states.ts';
import type { Identity } from '../pki/identity.ts';
import { encodeFrame } from './frames.ts';
import { frame, hello, newManager, putService, raw, running, service, task, type Manager } from './testbed.fixture.ts';

const until = <T>(fn: () => T) => vi.waitFor(fn, { timeout: 30_000, interval: 5 });

let m: Manager;
beforeEach(async () => {
  m = await newManager();
});
afterEach(() => m.close());

const nodeState = (id: string) => m.store.view((view) => view.nodes.get(id)?.status.state);

describe('at the edge', () => {
  const refused = async (identity: Identity | undefined, bytes: Buffer) => {
    const { stream, connection, answer } = await raw(m.address, identity);
    stream.write(bytes);
    const result = await answer;
    connection.destroy();
    return result;
  };

  test('a session needs a certificate of this cluster', async () => {
    expect(await refused(undefined, hello('x'))).toEqual({
      status: 401,
      body: { message: 'a certificate of this cluster is needed' },
    });
    const other = await newManager();
    const stranger = await other.certify();
    expect(await refused(stranger, hello(stranger.nodeId))).toEqual({
      status: 401,
      body: { message: 'the certificate is not of this cluster' },
    });
    await other.close();
  });

  test('a node cannot speak for another', async () => {
    const [a, b] = [await m.certify(), await m.certify()];
    const { status, body } = await refused(a, hello(b.nodeId));
    expect(status).toBe(403);
    expect(body).toEqual({ message: `the certificate is that of node ${a.nodeId}, not of ${b.nodeId}` });
    expect(nodeState(b.nodeId)).toBe('unknown');
  });

  test.each([
    ['a frame that is too large', Buffer.from([0x7f, 0xff, 0xff, 0xff]), /a message of 2147483647 bytes/],
    ['what is not JSON', encodeFrame('{'), /not JSON/],
    ['an unknown message', frame({ type: 'sing' }), /not understood/],
    ['a status before the hello', frame({ type: 'status', number: 1, reports: [] }), /before the welcome/],
    ['a hello without description', frame({ type: 'hello', nodeId: 'x' }), /description/],
  ])('%s is refused in words', async (_what, bytes, message) => {
    const { status, body } = await refused(await m.certify(), bytes);
    expect(status).toBe(400);
    expect((body as { message: string }).message).toMatch(message);
  });

  test('a state that is the manager’s to set ends the session', async () => {
    const identity = await m.certify();
    await m.store.update((tx) => {
      putService(tx, service('web'));
      tx.tasks.create(task('t1', 'web', identity.nodeId));
    });
    const { memory, session } = m.agent(identity);
    await until(() => expect(memory.replaced).toBe(1));
    await expect(session.report([running('t1', TaskState.ORPHANED)])).rejects.toThrow('reports.0.status.state');
    expect(m.store.view((view) => view.tasks.get('t1')!.status.state)).toBe(TaskState.ASSIGNED);
  });

  test('a client that says nothing at all does not hold the manager up when it stops', async () => {
    const own = await newManager();
    const mute = connectTcp(own.port, '127.0.0.1');
    await new Promise((resolve) => mute.once('connect', resolve));
    const closed = new Promise((resolve) => mute.once('close', resolve));
    await own.close();
    await closed;
    expect(mute.destroyed).toBe(true);
  }, 5_000);

  test('nothing that anybody sends harms the others', async () => {
    const goodIdentity = await m.certify();
    const good = m.agent(goodIdentity);
    await until(() => expect(good.memory.replaced).toBe(1));
    const bad = await m.certify();
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 1, maxLength: 200 }),
        fc.constantFrom('tcp', 'tls', 'http1', 'stream', 'session'),
        async (bytes, how) => {
          const garbage = Buffer.from(bytes);
          if (how === 'stream' || how === 'session') {
            const { stream, connection, answer } = await raw(m.address, bad);
            if (how === 'session') stream.write(hello(bad.nodeId));
            stream.write(garbage);
            stream.end();
            await answer.catch(() => {});
            stream.resume();
            if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve));
            connection.destroy();
            return;
          }
          const socket =
            how === 'tcp'
              ? connectTcp(m.port, '127.0.0.1')
              : connectTls({
                  port: m.port,
                  host: '127.0.0.1',
                  rejectUnauthorized: false,
                  ALPNProtocols: [how === 'tls' ? 'h2' : 'http/1.1'],
                });
          socket.on('error', () => {});
          await new Promise((resolve) =>
            socket.once(how === 'tcp' ? 'connect' : 'secureConnect', resolve).once('close', resolve),
          );
          (socket as TLSSocket).end(garbage);
          socket.destroySoon();
          await new Promise((resolve) => (socket.closed ? resolve(undefined) : socket.once('close', resolve)));
        },
      ),
      { numRuns: 40 },
    );
    await m.store.update((tx) => {
      putService(tx, service('web'));
      tx.tasks.create(task('t1', 'web', goodIdentity.nodeId));
    });
    await until(() => expect(good.memory.facts.has('task t1')).toBe(true));
    expect(good.memory.replaced).toBe(1);
  });
});
