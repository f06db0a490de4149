/** Several managers, with real TLS on loopback: one leads, the others name it, pass on to it, and take its place. */
import { once } from 'node:events';
import { connect, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { connect as connectTcp, createServer, type AddressInfo, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { TaskState } from '../model/states.ts';
import { createCertificateRequest } from '../pki/authority.ts';
import { parseCertificate, type Identity } from '../pki/identity.ts';
import { exchange, NotTheLeader, readJson } from './http.ts';
import { LeaderAway } from './leader-link.ts';
import { managers, type Managers, type Member } from './managers.fixture.ts';
import { PATHS, PEER_HEADER } from './messages.ts';
import { renewCertificate, requestCertificate } from './request-certificate.ts';
import type { DispatchOptions } from './server.ts';
import {
  descriptionOf,
  hello,
  Memory,
  node,
  putService,
  QUICK,
  raw,
  realClock,
  service,
  task,
} from './testbed.fixture.ts';

const until = <T>(fn: () => T) => vi.waitFor(fn, { timeout: 20_000, interval: 5 });
/** Whoever pauses once is out of time. */
const NO_PAUSES = { first: 600_000, most: 600_000 };
const NO_LEADER = /^The swarm does not have a leader/;

let all: Managers;
let a: Member;
let b: Member;
let connections: ClientHttp2Session[] = [];

async function start(count = 2, options?: (at: number) => Partial<DispatchOptions>): Promise<void> {
  all = await managers(count, options);
  [a, b] = all.members as [Member, Member];
}

afterEach(async () => {
  for (const connection of connections.splice(0)) connection.destroy();
  await all.close();
});

function dial(to: Member, identity?: Identity): ClientHttp2Session {
  const own = identity === undefined ? {} : { cert: identity.certificate, key: identity.key };
  const connection = connect(`https://${to.address}`, { rejectUnauthorized: false, ...own });
  connection.on('error', () => {});
  connections.push(connection);
  return connection;
}

const stateOf = (of: Member, nodeId: string) => of.store.view((view) => view.nodes.get(nodeId)?.status.state);

describe('an agent', () => {
  test('that dials a manager which follows goes on to the leader at once', async () => {
    await start(3);
    const { session } = a.agent(await a.certify(), {
      addresses: [all.members[2]!.address],
      backoffMs: NO_PAUSES,
    });
    await until(() => expect(session.state()).toMatchObject({ phase: 'connected', manager: a.address }));
    expect(session.addresses().toSorted()).toEqual(all.members.map(({ address }) => address).toSorted());
  });

  test('goes on to the next leader without a pause, and is not taken for lost', async () => {
    await start(3);
    const identity = await a.certify();
    await a.store.update((tx) => {
      putService(tx, service('web'));
      tx.tasks.create(task('t1', 'web', identity.nodeId));
    });
    const { session } = a.agent(identity, { backoffMs: NO_PAUSES });
    await until(() => expect(session.state().phase).toBe('connected'));
    const seen = new Set<string>();
    for (const { store } of all.members)
      store.watch((events) => {
        for (const event of events) if (event.table === 'nodes') seen.add(event.after?.status.state ?? 'gone');
      });
    for (const next of [all.members[2]!, b, a]) {
      await all.elect(next);
      await until(() => expect(session.state()).toMatchObject({ phase: 'connected', manager: next.address }));
      expect(stateOf(next, identity.nodeId)).toBe('ready');
      await session.report([
        { taskId: 't1', status: { timestamp: new Date().toISOString(), state: TaskState.RUNNING, message: 'x' } },
      ]);
    }
    expect([...seen].toSorted()).toEqual(['ready', 'unknown']);
    for (const { store } of all.members)
      expect(store.view((view) => view.tasks.get('t1')?.status.state)).toBe(TaskState.RUNNING);
  });

  test('that comes while nobody leads is kept, and goes on as soon as somebody does', async () => {
    await start(3);
    const identities = await Promise.all(all.members.map(() => a.certify()));
    await all.stepDown();
    const kept = all.members.map(({ address }, at) =>
      b.agent(identities[at]!, { addresses: [address], backoffMs: NO_PAUSES }),
    );
    await until(() => expect(all.members.map(({ server }) => server.waiting)).toEqual([1, 1, 1]));
    // One of them is with the next leader itself.
    await all.elect(b);
    for (const { session } of kept)
      await until(() => expect(session.state()).toMatchObject({ phase: 'connected', manager: b.address }));
  });

  test('is told after a while that nobody leads, and asks again before long', async () => {
    await start();
    const { session } = a.agent(await a.certify(), { backoffMs: { first: 50, most: 600_000 } });
    await until(() => expect(session.state().phase).toBe('connected'));
    await all.stepDown();
    await until(() =>
      expect(session.state()).toMatchObject({ phase: 'connecting', error: expect.stringMatching(NO_LEADER) }),
    );
    await all.elect(b);
    await until(() => expect(session.state()).toMatchObject({ phase: 'connected', manager: b.address }));
  });

  test('does without the manager that it joined', async () => {
    await start(3);
    const { session } = a.agent(await a.certify(), { addresses: [a.address] });
    await until(() => expect(session.state().phase).toBe('connected'));
    await all.stepDown();
    await a.server.close();
    await all.elect(b);
    await until(() => expect(session.state()).toMatchObject({ phase: 'connected', manager: b.address }));
  });
});

describe('a new leader', () => {
  test('gives every node its time to come back, and then takes it for down', async () => {
    await start(2, () => ({ periods: { ...QUICK, returnMs: 700 } }));
    // More than go into one transaction.
    await a.store.update((tx) => {
      for (let i = 0; i < 250; i++)
        tx.nodes.create({ ...node(`n${i}`), status: { state: 'ready', message: '', address: '', since: '' } });
    });
    await all.elect(b);
    const states = () => new Set(Array.from({ length: 250 }, (_, i) => stateOf(b, `n${i}`)));
    expect(states()).toEqual(new Set(['unknown']));
    const at = performance.now();
    await until(() => expect(states()).toEqual(new Set(['down'])));
    expect(performance.now() - at).toBeGreaterThan(500);
  });

  test('lets nobody in before it may write, and nobody at all if it may not', async () => {
    await start();
    await expect(b.server.lead()).rejects.toThrow('does not lead');
    const identity = await a.certify();
    const { stream, answer, connection } = await raw(b.address, identity);
    connections.push(connection);
    stream.write(hello(identity.nodeId));
    expect(await answer).toEqual({ status: 503, body: { message: expect.any(String), leader: a.address } });
  });

  test('that has to step down while it begins stays down', async () => {
    await start();
    await a.store.update((tx) =>
      tx.nodes.create({ ...node('n'), status: { state: 'ready', message: '', address: '', since: '' } }),
    );
    await all.elect(b);
    b.server.follow();
    const begun = b.server.lead();
    b.server.follow();
    await begun;
    const { stream, answer, connection } = await raw(b.address, await b.certify());
    connections.push(connection);
    stream.write(hello('x'));
    expect((await answer).status).toBe(503);
  });
});

describe('certificates, at a manager that follows', () => {
  const join = (at: Member, token: string) =>
    requestCertificate({ address: at.address, token, availability: 'active', clock: realClock, timeoutMs: 20_000 });

  test('the leader lets the new node in, and knows where it comes from', async () => {
    await start();
    const identity = await join(b, a.cluster.joinTokens.worker);
    expect(a.store.view((view) => view.nodes.get(identity.nodeId))).toMatchObject({
      spec: { Role: 'worker' },
      status: { address: '127.0.0.1' },
    });
    const { session } = b.agent(identity, { addresses: [b.address], backoffMs: NO_PAUSES });
    await until(() => expect(session.state()).toMatchObject({ phase: 'connected', manager: a.address }));
  });

  test('a node that its replica does not know yet is not told that it was removed', async () => {
    await start();
    all.hold();
    const identity = await join(b, a.cluster.joinTokens.worker);
    const { session } = b.agent(identity, { addresses: [b.address], backoffMs: NO_PAUSES });
    await until(() => expect(session.state()).toMatchObject({ phase: 'connected', manager: a.address }));
    all.release();
  });

  test('refusals are the leader’s', async () => {
    await start();
    await expect(
      join(
        b,
        b.cluster.joinTokens.worker.replace(/.$/, (c) => (c === 'a' ? 'b' : 'a')),
      ),
    ).rejects.toMatchObject({
      status: 403,
      message: 'A valid join token is necessary to join this cluster',
    });
    const member = await a.certify();
    const again = exchange(dial(b, member), 'POST', PATHS.certificate, {
      token: a.cluster.joinTokens.worker,
      csr: (await createCertificateRequest()).csr,
    });
    await expect(again).rejects.toMatchObject({ status: 409 });
  });

  test('a node renews, in the role of the leader’s state', async () => {
    await start();
    const identity = await a.certify();
    await a.store.update((tx) => {
      const row = tx.nodes.get(identity.nodeId)!;
      tx.nodes.update({ ...row, status: { ...row.status, address: '10.0.0.7' } });
    });
    all.hold();
    await all.setRole(identity.nodeId, 'manager');
    const { csr } = await createCertificateRequest();
    const pem = await renewCertificate({ addresses: [b.address], identity, csr, clock: realClock });
    expect(parseCertificate(pem).subject).toContain('OU=swarm-manager');
    all.release();
  });

  test('a manager that is demoted is a worker by its certificate once it is out of the journal, and not before', async () => {
    await start();
    const roles: (string | undefined)[] = [];
    const memory = new Memory(() => descriptionOf('b'));
    a.agent(b.identity, {
      agent: {
        replace: (facts) => memory.replace(facts),
        apply: (changes) => memory.apply(changes),
        description: () => memory.description(),
        authority: ({ role }) => void roles.push(role),
      },
    });
    await expect.poll(() => roles.at(-1)).toBe('manager');
    const renewed = async () => {
      const { csr } = await createCertificateRequest();
      const asked = { addresses: [a.address], identity: b.identity, csr, clock: realClock };
      return /OU=swarm-(\w+)/.exec(parseCertificate(await renewCertificate(asked)).subject)?.[1];
    };
    await all.setRole(b.nodeId, 'worker');
    expect(await renewed()).toBe('manager');
    expect(roles).not.toContain('worker');
    await a.store.update((tx) => {
      const { manager: _, ...worker } = tx.nodes.get(b.nodeId)!;
      tx.nodes.update(worker);
    });
    await expect.poll(() => roles.at(-1)).toBe('worker');
    expect(await renewed()).toBe('worker');
  });

  test('a node that was removed is told so', async () => {
    await start();
    const identity = await a.certify();
    await a.store.update((tx) => tx.nodes.remove(identity.nodeId));
    const { csr } = await createCertificateRequest();
    const renewal = renewCertificate({ addresses: [b.address], identity, csr, clock: realClock });
    await expect(renewal).rejects.toMatchObject({ status: 410 });
  });

  test('without a leader nothing is promised; a node asks the others', async () => {
    await start(3);
    const identity = await a.certify();
    b.server.leaderIs(undefined);
    await expect(join(b, a.cluster.joinTokens.worker)).rejects.toMatchObject({
      status: 503,
      message: expect.stringMatching(NO_LEADER),
    });
    const { csr } = await createCertificateRequest();
    const addresses = [b.address, all.members[2]!.address];
    expect(await renewCertificate({ addresses, identity, csr, clock: realClock })).toContain('CERTIFICATE');
  });

  test('what was passed on is not passed on again, whoever believes in whose leading', async () => {
    await start();
    await all.stepDown();
    a.server.leaderIs({ nodeId: b.nodeId, address: b.address });
    b.server.leaderIs({ nodeId: a.nodeId, address: a.address });
    await expect(join(b, a.cluster.joinTokens.worker)).rejects.toMatchObject({ status: 503 });
  });

  test('only managers may speak for others', async () => {
    await start();
    const victim = await a.certify();
    const peer = {
      address: '10.0.0.1',
      node: { nodeId: victim.nodeId, role: 'worker', clusterId: a.cluster.clusterId },
    };
    const { csr } = await createCertificateRequest();
    const ask = (identity: Identity | undefined, said: string, path: string = PATHS.renewal) =>
      exchange(dial(a, identity), 'POST', path, { csr, token: a.cluster.joinTokens.worker }, { [PEER_HEADER]: said });
    const said = JSON.stringify(peer);
    await expect(ask(await a.certify(), said)).rejects.toMatchObject({ status: 403 });
    await expect(ask(undefined, said, PATHS.certificate)).rejects.toMatchObject({ status: 403 });
    expect(await ask(b.identity, said)).toMatchObject({ certificate: expect.stringContaining('CERTIFICATE') });
    await expect(ask(b.identity, 'x{')).rejects.toMatchObject({ status: 400 });
    await expect(ask(b.identity, '{}')).rejects.toMatchObject({ status: 400 });
    await all.setRole(b.nodeId, 'worker');
    await expect(ask(b.identity, said)).rejects.toMatchObject({ status: 403 });
  });
});

describe('the way to the leader’s API', () => {
  /** Says back what it hears, and how it ended. */
  const echo = (at: number) => ({
    api: (stream: Duplex) => {
      stream.write(`m${at}:`);
      stream.pipe(stream);
    },
  });

  /** A stream to `/v1/api` by hand. */
  function open(to: Member, identity?: Identity): Promise<{ status: number; stream: ClientHttp2Stream }> {
    const stream = dial(to, identity).request({ ':method': 'POST', ':path': PATHS.api }, { endStream: false });
    stream.on('error', () => {});
    return new Promise((resolve, reject) => {
      stream.once('response', (headers) => resolve({ status: headers[':status']!, stream }));
      stream.once('close', () => reject(new Error('closed without an answer')));
    });
  }

  test('carries bytes both ways, each of which ends by itself', async () => {
    await start(2, echo);
    const streams = await Promise.all([b.server.tunnel(), b.server.tunnel(), b.server.tunnel()]);
    expect(a.server.tunnels).toBe(3);
    const said = streams.map((stream, at) => {
      stream.end(`${at}`.repeat(200_000));
      return text(stream);
    });
    expect(await Promise.all(said)).toEqual([0, 1, 2].map((at) => `m0:${`${at}`.repeat(200_000)}`));
  });

  test('is for managers, by certificate and by the state of now', async () => {
    await start(3, echo);
    const worker = await a.certify();
    expect((await open(a)).status).toBe(401);
    expect((await open(a, worker)).status).toBe(403);
    // The row says manager; the certificate does not yet.
    await all.setRole(worker.nodeId, 'manager');
    expect((await open(a, worker)).status).toBe(403);
    const { status, stream } = await open(a, b.identity);
    expect(status).toBe(200);
    const closed = new Promise((resolve) => stream.resume().once('close', resolve));
    await all.setRole(b.nodeId, 'worker');
    expect((await open(a, b.identity)).status).toBe(403);
    await closed; // what stood goes too
    await expect(b.server.tunnel()).rejects.toThrow(LeaderAway);
    await a.store.update((tx) => tx.nodes.remove(b.nodeId));
    expect((await open(a, b.identity)).status).toBe(410);
  });

  test('is served by the leader only; another names it', async () => {
    await start(2, echo);
    const { status, stream } = await open(b, a.identity);
    expect(status).toBe(503);
    expect(await readJson(stream)).toMatchObject({ leader: a.address });
    all.members[0]!.server.leaderIs({ nodeId: b.nodeId, address: b.address });
    b.server.leaderIs({ nodeId: b.nodeId, address: b.address });
    await expect(b.server.tunnel()).rejects.toThrow(LeaderAway);
  });

  test('is there only if this manager serves an API', async () => {
    await start();
    expect((await open(a, b.identity)).status).toBe(404);
  });

  test('what the leader has answered before another is heard of arrives: it may have been its own demotion', async () => {
    const served = Promise.withResolvers<Duplex>();
    await start(3, () => ({ api: served.resolve }));
    const c = all.members[2]!;
    const stream = await c.server.tunnel();
    (await served.promise).end('done');
    c.server.leaderIs({ nodeId: b.nodeId, address: b.address });
    expect(await text(stream)).toBe('done');
  });

  test('breaks soon after another leads, and goes there then', async () => {
    await start(3, echo);
    const c = all.members[2]!;
    const stream = await c.server.tunnel();
    const broken = new Promise((resolve) => stream.once('close', resolve));
    stream.on('error', () => {});
    c.server.leaderIs(undefined);
    expect(stream.destroyed).toBe(false);
    await expect(c.server.tunnel()).rejects.toThrow(LeaderAway);
    await all.elect(b);
    await broken;
    const next = await c.server.tunnel();
    next.end();
    expect(await text(next)).toBe('m1:');
  });

  test('a leader that falls silent is noticed, under a stream and by who wants one', async () => {
    await start(2, echo);
    const sockets: Socket[] = [];
    const between = createServer((client) => {
      const there = connectTcp(a.port, '127.0.0.1');
      sockets.push(client, there);
      for (const [from, to] of [
        [client, there],
        [there, client],
      ] as const) {
        from.pipe(to);
        from.on('error', () => to.destroy());
      }
    });
    await once(between.listen(0, '127.0.0.1'), 'listening');
    const { port } = between.address() as AddressInfo;
    b.server.leaderIs({ nodeId: a.nodeId, address: `127.0.0.1:${port}` });
    const stream = await b.server.tunnel();
    const broken = once(stream.resume(), 'close');
    for (const socket of sockets) socket.unpipe().pause();
    const frozenMs = performance.now();
    await expect(b.server.tunnel()).rejects.toThrow(LeaderAway);
    await broken;
    expect(performance.now() - frozenMs).toBeLessThan(8_000);
    for (const socket of sockets) socket.destroy();
    between.close();
  });

  test('a leader that cannot be reached, a client that has gone, a manager that has stopped', async () => {
    await start(2, echo);
    b.server.leaderIs({ nodeId: a.nodeId, address: '127.0.0.1:1' });
    await expect(b.server.tunnel()).rejects.toThrow(LeaderAway);
    const gone = new AbortController();
    b.server.leaderIs({ nodeId: a.nodeId, address: a.address });
    gone.abort(new Error('enough'));
    await expect(b.server.tunnel(gone.signal)).rejects.toThrow('enough');
    await b.server.close();
    await expect(b.server.tunnel()).rejects.toThrow(LeaderAway);
  });
});

test('what is said of who leads is told from other refusals', async () => {
  await start();
  const asked = exchange(dial(b, await a.certify()), 'POST', PATHS.attach, {});
  await expect(asked).rejects.toSatisfy((error) => error instanceof NotTheLeader && error.leader === a.address);
});
