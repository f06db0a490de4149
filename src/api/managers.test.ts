/** Any manager serves the whole API: what it cannot answer itself the leader does, over the way between managers as it is. */
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage, type RequestListener } from 'node:http';
import { connect } from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { Channel } from '../dispatch/streams-channel.ts';
import type { ServeStream } from '../dispatch/streams-agent.ts';
import { dataFrame, StreamFrames } from '../model/streams.ts';
import { descriptionOf, Memory } from '../dispatch/testbed.fixture.ts';
import { DECIDED } from './answered-by.ts';
import { aNode, anOverlay, aService, aTask, json } from './api.fixture.ts';
import type { Leadership } from './leader.ts';
import { apiManagers, config, type ApiManager, type ApiManagers } from './managers.fixture.ts';

const NO_LEADER =
  "The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online.";
const until = <T>(fn: () => T) => vi.waitFor(fn, { timeout: 20_000, interval: 5 });

let all: ApiManagers;
let leader: ApiManager;
let follower: ApiManager;

async function start(count = 2, playEngine?: (at: number) => RequestListener | undefined): Promise<void> {
  all = await apiManagers(count, playEngine);
  [leader, follower] = all.apis as [ApiManager, ApiManager];
}

afterEach(() => all.close());

/** A request whose answer has begun. */
async function open(of: ApiManager, method: string, path: string): Promise<IncomingMessage> {
  const request = httpRequest({ socketPath: of.socketPath, method, path, agent: false });
  request.on('error', () => {});
  request.end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return response;
}

test('of every route it is decided who answers it', async () => {
  await start(1);
  expect(leader.api.routes.filter((route) => !DECIDED.includes(route))).toEqual([]);
  expect(DECIDED.filter((route) => !leader.api.routes.includes(route))).toEqual([]);
});

describe('a manager that follows', () => {
  test('has the leader write, and shows what was written', async () => {
    await start(3);
    for (let i = 0; i < 20; i++) {
      const of = all.apis[i % 3]!;
      const made = await of.call('POST', '/v1.41/configs/create', config(`c${i}`));
      expect(made).toMatchObject({
        status: 201,
        headers: { 'content-type': 'application/json', 'api-version': '1.41' },
      });
      expect(made.headers).not.toHaveProperty('drover-index');
      expect(await of.configNames()).toContain(`c${i}`);
    }
    expect(await leader.configNames()).toHaveLength(20);
  });

  test('passes refusals on as they are', async () => {
    await start();
    await leader.call('POST', '/configs/create', config('there'));
    expect(await follower.call('POST', '/configs/create', config('there'))).toMatchObject({
      status: 409,
      headers: { 'content-type': 'application/json' },
      json: { message: 'config there already exists' },
    });
    expect(await follower.call('DELETE', '/v1.41/services/nothing')).toMatchObject({ status: 404 });
    expect(await follower.call('POST', '/configs/create', '{')).toMatchObject({ status: 400 });
    expect(await follower.call('POST', '/env/other/configs/create', config('x'))).toMatchObject({ status: 404 });
    const request = httpRequest({
      socketPath: follower.socketPath,
      method: 'POST',
      path: '/configs/create',
      agent: false,
    });
    // The rest of the body may meet a closed connection.
    request.on('error', () => {});
    request.end(Buffer.alloc(5 * 1024 * 1024));
    const [tooLong] = (await once(request, 'response')) as [IncomingMessage];
    expect(tooLong.statusCode).toBe(413);
    tooLong.resume();
  });

  test('answers what concerns its host itself', async () => {
    const asked: string[] = [];
    await start(2, (at) => (request, response) => {
      if (request.url !== '/info' && request.url !== '/version') asked.push(`${at} ${request.method} ${request.url}`);
      json(response, 200, []);
    });
    await follower.call('GET', '/containers/json');
    await follower.call('POST', '/containers/x/stop');
    await follower.call('POST', '/networks/create', { Name: 'mine', Driver: 'bridge' });
    expect(asked).toEqual(['1 GET /containers/json', '1 POST /containers/x/stop', '1 POST /networks/create']);
    expect((await follower.call('GET', '/_ping')).headers.swarm).toBe('active/manager');
    expect((await follower.call('GET', '/info')).json.Swarm).toMatchObject({
      NodeID: follower.member.nodeId,
      ControlAvailable: true,
      Nodes: 2,
      Managers: 2,
      Error: '',
    });
    expect((await follower.call('POST', '/swarm/leave')).json.message).toMatch(
      /leaves 1 managers out of 2. Without a Raft quorum/,
    );
  });

  test('goes by who leads now', async () => {
    await start(3);
    for (const next of [1, 2, 0]) {
      await all.elect(all.apis[next]!.member);
      for (const [at, of] of all.apis.entries()) {
        expect(await of.call('POST', '/configs/create', config(`by${next}at${at}`))).toMatchObject({ status: 201 });
      }
    }
    expect(await leader.configNames()).toHaveLength(9);
  });
});

describe('overlays, at a manager that follows', () => {
  /** Both hosts have a network of their own with the name of the overlay. */
  const engines =
    (asked: string[]) =>
    (at: number): RequestListener =>
    (request, response) => {
      if (request.method === 'GET') {
        // That of the follower comes only when it asks by name; its engine is not in the way of making one.
        json(response, 200, at === 0 ? [{ Name: 'app', Id: 'f'.repeat(64), Driver: 'bridge', Labels: {} }] : []);
        return;
      }
      asked.push(`${at} ${request.method} ${request.url?.replace(/\?.*/, '')}`);
      json(response, 200, { NetworksDeleted: [`engine${at}`] });
    };
  const overlay = { Name: 'app', Driver: 'overlay', Scope: 'swarm' };

  test('are made, shown and removed by the leader, whose host has no say', async () => {
    const asked: string[] = [];
    await start(2, engines(asked));
    const made = await follower.call('POST', '/networks/create', overlay);
    expect(made).toMatchObject({ status: 201 });
    expect((await follower.call('GET', '/networks/app')).json).toMatchObject({ Id: made.json.Id, Driver: 'overlay' });
    expect(await follower.call('DELETE', '/v1.41/networks/app')).toMatchObject({ status: 204 });
    expect(leader.member.store.view((view) => [...view.networks.all()].every(({ removing }) => removing))).toBe(true);
    expect(asked).toEqual([]);
  });

  test('are pruned there, and the networks of the engine here', async () => {
    const asked: string[] = [];
    await start(2, engines(asked));
    await leader.member.store.update((tx) => tx.networks.create(anOverlay('idle')));
    const pruned = await follower.call('POST', '/networks/prune');
    expect(pruned.json).toEqual({ NetworksDeleted: ['engine1', 'idle-name'] });
    expect(asked).toEqual(['1 POST /networks/prune']);
  });
});

describe('what agents have to be asked', () => {
  const serving = async (serve: ServeStream): Promise<void> => {
    const identity = await leader.member.certify();
    const memory = new Memory(() => descriptionOf('host'));
    const { session } = leader.member.agent(identity, {
      agent: {
        replace: (facts) => memory.replace(facts),
        apply: (changes) => memory.apply(changes),
        description: () => memory.description(),
        stream: serve,
      },
    });
    await until(() => expect(session.state().phase).toBe('connected'));
    await leader.member.store.update((tx) => {
      tx.services.create(aService('web'));
      tx.tasks.create(aTask('t1', 'web', { nodeId: identity.nodeId }));
    });
  };

  test('is streamed as it comes, and ends when the client goes', async () => {
    await start();
    const more = Promise.withResolvers<void>();
    const gone = Promise.withResolvers<void>();
    await serving(async (_request, channel: Channel) => {
      await channel.tell({ type: 'opened', tty: false });
      await channel.write(Buffer.from('{"first":1}'));
      await more.promise;
      await channel.write(Buffer.from('{"second":2}'));
      await channel.closed;
      gone.resolve();
    });
    const response = await open(follower, 'GET', '/drover/tasks/t1/stats?stream=1');
    expect(response.statusCode).toBe(200);
    const chunks = response.iterator({ destroyOnReturn: false });
    expect(String((await chunks.next()).value)).toBe('{"first":1}');
    more.resolve();
    expect(String((await chunks.next()).value)).toBe('{"second":2}');
    response.destroy();
    await gone.promise;
  });

  test('becomes a raw stream in both directions', async () => {
    await start();
    await serving(async (request, channel: Channel) => {
      expect(request).toMatchObject({ kind: 'exec', exec: { Cmd: ['cat'] } });
      await channel.tell({ type: 'opened', tty: true });
      for await (const frame of channel.frames()) {
        if (!Buffer.isBuffer(frame) || frame.toString() === '.') break;
        await channel.write(Buffer.from(frame.toString().toUpperCase()));
      }
      await channel.tell({ type: 'end', exitCode: 7 });
    });
    const body = '{"Cmd":["cat"],"AttachStdin":true}';
    const socket = connect(follower.socketPath);
    socket.write(
      `POST /v1.41/drover/tasks/web.1.t1/exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n` +
        `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    socket.write(dataFrame(Buffer.from('hello')));
    socket.write(dataFrame(Buffer.from(' world')));
    socket.write(dataFrame(Buffer.from('.')));
    let answer = Buffer.alloc(0);
    for await (const chunk of socket) answer = Buffer.concat([answer, chunk as Buffer]);
    const head = answer.indexOf('\r\n\r\n') + 4;
    expect(answer.subarray(0, head).toString()).toMatch(/^HTTP\/1.1 101 /);
    const frames = [...new StreamFrames().push(answer.subarray(head))];
    expect(frames.filter((frame) => Buffer.isBuffer(frame)).join('')).toBe('HELLO WORLD');
    expect(frames.filter((frame) => !Buffer.isBuffer(frame))).toContainEqual({ type: 'end', exitCode: 7 });
  });

  test('breaks off visibly when another leads', async () => {
    await start(3);
    await serving(async (_request, channel: Channel) => {
      await channel.tell({ type: 'opened', tty: false });
      await channel.write(Buffer.from('x'));
      await channel.closed;
    });
    const response = await open(follower, 'GET', '/drover/tasks/t1/stats?stream=1');
    const cut = once(response, 'error');
    response.resume();
    await all.elect(all.apis[2]!.member);
    await cut;
    expect(response.complete).toBe(false);
  });
});

describe('without a leader', () => {
  test('writes fail at once, reads go on and say so', async () => {
    await start();
    await leader.call('POST', '/configs/create', config('there'));
    await all.stepDown();
    for (const of of all.apis) {
      for (const [method, path] of [
        ['POST', '/configs/create'],
        ['DELETE', '/configs/there'],
        ['GET', '/services/web/logs'],
        ['POST', '/networks/prune'],
        ['POST', `/nodes/${of.member.nodeId}/update?version=1`],
      ] as const) {
        expect(await of.call(method, path, method === 'POST' ? config('no') : undefined)).toMatchObject({
          status: 503,
          json: { message: NO_LEADER },
        });
      }
      const overlay = await of.call('POST', '/networks/create', { Name: 'no', Driver: 'overlay' });
      expect(overlay).toMatchObject({ status: 503, json: { message: NO_LEADER } });
      const list = await of.call('GET', '/configs');
      expect(list.json).toHaveLength(1);
      expect(list.headers.warning).toBe(`199 drover "${NO_LEADER} What is shown may be old."`);
      expect((await of.call('GET', '/info')).json.Swarm.Error).toBe(NO_LEADER);
      expect((await of.call('POST', '/swarm/leave')).json.message).toMatch(/--force-new-cluster/);
    }
    await all.elect(follower.member);
    expect((await leader.call('GET', '/configs')).headers).not.toHaveProperty('warning');
    expect((await leader.call('GET', '/info')).json.Swarm.Error).toBe('');
  });

  test('an exec is refused too', async () => {
    await start();
    await all.stepDown();
    const socket = connect(follower.socketPath);
    socket.write(
      'POST /drover/tasks/x/exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n',
    );
    let answer = '';
    for await (const chunk of socket) answer += String(chunk);
    expect(answer).toMatch(/^HTTP\/1.1 503 /);
    expect(answer).toContain(JSON.stringify({ message: NO_LEADER }));
  });

  test('two that take each other for the leader do not relay in a circle', async () => {
    await start();
    await all.stepDown();
    const [a, b] = all.members;
    leader.believes = { leading: false, leader: b! };
    follower.believes = { leading: false, leader: a! };
    a!.server.leaderIs(b);
    b!.server.leaderIs(a);
    for (const of of all.apis) {
      const asked = of.call('POST', '/configs/create', config('round'));
      expect(await all.overTime(asked)).toMatchObject({ status: 503, json: { message: NO_LEADER } });
    }
  });

  test('a leader whose state has stepped down says there is none, and is not asked again by itself', async () => {
    await start();
    // Its port still lets others in; its API knows already.
    leader.believes = { leading: false, leader: follower.member };
    const asked = follower.call('POST', '/configs/create', config('x'));
    expect(await all.overTime(asked)).toMatchObject({ status: 503, json: { message: NO_LEADER } });
  });

  test('one that goes away in the middle of a write leaves it in doubt', async () => {
    await start();
    const stalled = all.stall();
    const made = follower.call('POST', '/configs/create', config('maybe'));
    await stalled.reached;
    follower.member.server.leaderIs({ nodeId: 'another', address: '127.0.0.1:1' });
    expect(await made).toMatchObject({
      status: 503,
      json: { message: expect.stringMatching(/it is not known whether this change was made/) },
    });
    stalled.go();
  });
});

describe('while the leader changes', () => {
  const create = (of: ApiManager, name: string) => of.call('POST', '/configs/create', config(name));
  /** Nobody has led for so long, as every manager sees it. */
  const missing = (ms: number) => {
    for (const of of all.apis) of.believes = { leading: false, missingSinceMs: of.clock.monotonic() - ms };
  };
  const seen = () => {
    for (const of of all.apis) of.believes = undefined;
  };
  /** This manager is wrong about who leads; resolves once it was asked that so often. */
  const deceive = async (of: ApiManager, belief: Leadership, asked: number): Promise<void> => {
    const often = Promise.withResolvers<void>();
    let reads = 0;
    const get = () => {
      if (++reads === asked) often.resolve();
      return belief;
    };
    Object.defineProperty(of, 'believes', { get, configurable: true });
    await often.promise;
  };

  test('what was asked waits for the next one, of any manager, the next leader among them', async () => {
    await start(3, () => (_request, response) => json(response, 200, { NetworksDeleted: null }));
    await all.stepDown();
    missing(0);
    let answered = 0;
    const asked = all.apis.map((of, at) => create(of, `waits${at}`).finally(() => answered++));
    const overlay = follower.call('POST', '/networks/create', { Name: 'waits', Driver: 'overlay' });
    const prune = follower.call('POST', '/networks/prune');
    for (const { clock } of all.apis) await clock.advance(5_000);
    expect(answered).toBe(0);
    await all.elect(follower.member);
    seen();
    for (const made of await all.overTime(Promise.all([...asked, overlay]))) expect(made.status).toBe(201);
    expect((await all.overTime(prune)).status).toBe(200);
    expect(await leader.configNames()).toEqual(['waits0', 'waits1', 'waits2']);
  });

  test('it does not wait for longer than 6 s, nor where nobody has led for so long', async () => {
    await start();
    await all.stepDown();
    missing(0);
    const asked = create(follower, 'no');
    expect(await all.overTime(asked)).toMatchObject({ status: 503, json: { message: NO_LEADER } });
    expect(follower.clock.monotonic()).toBeGreaterThanOrEqual(6_000);
    expect(follower.clock.monotonic()).toBeLessThan(6_300);
    // No time passes.
    expect(await create(follower, 'no')).toMatchObject({ status: 503, json: { message: NO_LEADER } });
    expect(await follower.call('POST', '/networks/prune')).toMatchObject({ status: 503 });
    missing(4_000);
    const later = create(follower, 'no');
    const from = follower.clock.monotonic();
    await all.overTime(later);
    expect(follower.clock.monotonic() - from).toBeLessThan(2_300);
  });

  test('what a manager that leads no more has not begun is made by the one that does', async () => {
    await start(3);
    // Its port still lets others in; its API knows already.
    const refused = deceive(leader, { leading: false, leader: follower.member }, 5);
    const asked = create(all.apis[2]!, 'asked-twice');
    await all.overTime(refused);
    await all.elect(follower.member);
    expect(await all.overTime(asked)).toMatchObject({ status: 201 });
    expect(await follower.configNames()).toEqual(['asked-twice']);
  });

  test('a leader that is deposed before it begins with a write has the next one make it', async () => {
    await start();
    await all.elect(follower.member);
    // Its API has not heard yet that its store leads no more.
    const refused = deceive(leader, { leading: true }, 10);
    const asked = create(leader, 'mine');
    await all.overTime(refused);
    Object.defineProperty(leader, 'believes', { value: undefined });
    expect(await all.overTime(asked)).toMatchObject({ status: 201 });
    expect(await follower.configNames()).toEqual(['mine']);
  });

  test('however many wait, a leader that cannot be reached is dialled twice a second', async () => {
    await start();
    const dial = vi.spyOn(follower.member.server, 'tunnel').mockRejectedValue(new Error('refused'));
    const first = create(follower, 'c0');
    await until(() => expect(dial).toHaveBeenCalled());
    const others = Array.from({ length: 20 }, (_, i) => create(follower, `c${i + 1}`));
    for (const { status } of await all.overTime(Promise.all([first, ...others]))) expect(status).toBe(503);
    const seconds = follower.clock.monotonic() / 1_000;
    expect(dial.mock.calls.length).toBeGreaterThan(6);
    expect(dial.mock.calls.length).toBeLessThan(21 + 2 * seconds + 1);
    dial.mockRestore();
  });

  test('who goes away while it waits has changed nothing', async () => {
    await start();
    await all.stepDown();
    missing(0);
    const request = httpRequest({
      socketPath: follower.socketPath,
      method: 'POST',
      path: '/configs/create',
      headers: { 'content-type': 'application/json' },
      agent: false,
    });
    const closed = new Promise((resolve) => request.on('error', () => {}).once('close', resolve));
    request.end(JSON.stringify(config('gone')));
    await follower.clock.advance(1_000);
    request.destroy();
    await closed;
    await all.elect(leader.member);
    seen();
    await follower.clock.advance(6_000);
    expect(await create(leader, 'there')).toMatchObject({ status: 201 });
    expect(await leader.configNames()).toEqual(['there']);
  });
});

describe('nodes, from a manager that follows', () => {
  const version = (id: string) => follower.member.store.view((view) => view.nodes.get(id)!.meta.version);
  const change = (id: string, Role: string) =>
    follower.call('POST', `/nodes/${id}/update?version=${version(id)}`, { Labels: {}, Role, Availability: 'active' });

  test('are promoted and demoted, with the guards', async () => {
    await start(3);
    await leader.member.store.update((tx) => tx.nodes.create(aNode('w')));
    expect(await change('w', 'manager')).toMatchObject({ status: 200 });
    expect((await follower.call('GET', '/nodes/w')).json.Spec.Role).toBe('manager');
    expect(await change('w', 'worker')).toMatchObject({ status: 200 });
    const third = all.apis[2]!.member.nodeId;
    await leader.member.store.update((tx) => {
      const row = tx.nodes.get(third)!;
      tx.nodes.update({ ...row, manager: { ...row.manager!, reachability: 'unreachable' } });
    });
    const list = (await follower.call('GET', '/nodes')).json as { ID: string; ManagerStatus?: object }[];
    expect(Object.fromEntries(list.map(({ ID, ManagerStatus }) => [ID, ManagerStatus]))).toMatchObject({
      w: undefined,
      [leader.member.nodeId]: { Leader: true, Reachability: 'reachable', Addr: leader.member.address },
      [follower.member.nodeId]: { Reachability: 'reachable' },
      [third]: { Reachability: 'unreachable' },
    });
    follower.believes = { leading: false };
    const unled = (await follower.call('GET', '/nodes')).json as { ID: string; ManagerStatus?: object }[];
    expect(Object.fromEntries(unled.map(({ ID, ManagerStatus }) => [ID, ManagerStatus]))).toEqual({
      w: undefined,
      [leader.member.nodeId]: { Reachability: 'unknown', Addr: leader.member.address },
      [follower.member.nodeId]: { Reachability: 'reachable', Addr: follower.member.address },
      [third]: { Reachability: 'unknown', Addr: all.apis[2]!.member.address },
    });
    follower.believes = undefined;
    expect(await change(follower.member.nodeId, 'worker')).toMatchObject({
      status: 400,
      json: { message: "can't remove member from the raft: this would result in a loss of quorum" },
    });
    expect((await follower.call('DELETE', `/nodes/${third}?force=1`)).json.message).toMatch(
      /is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal/,
    );
    expect(await change(third, 'worker')).toMatchObject({ status: 200 });
    expect(await follower.call('DELETE', `/nodes/${third}?force=1`)).toMatchObject({ status: 200 });
    expect(await change(follower.member.nodeId, 'worker')).toMatchObject({ status: 200 });
    // Its certificate still says manager. Its rights are gone.
    expect(await all.overTime(change('w', 'manager'))).toMatchObject({ status: 503, json: { message: NO_LEADER } });
    const last = await leader.call('POST', `/nodes/${leader.member.nodeId}/update?version=1`, {
      Role: 'worker',
      Availability: 'active',
    });
    expect(last).toMatchObject({
      status: 400,
      json: { message: 'attempting to demote the last manager of the swarm' },
    });
  });
});
