import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { EtcdRefused, type MemberApi } from './api.ts';
import { Hosts, clock, type Host } from './hosts.fixture.ts';
import type { Admit, EtcdMember } from './member.ts';
import { AddressTaken, Membership, nodeOf, QuorumLoss, type MembershipDeps } from './membership.ts';
import { silentLog } from '../../model/clock.ts';

let hosts: Hosts;
let loops: Membership[];
beforeEach(async () => {
  hosts = await Hosts.make();
  loops = [];
});
afterEach(async () => {
  await Promise.all(loops.map((loop) => loop.stop()));
  await hosts.dispose();
});

const never = new AbortController().signal;

/** Looks after the members from `host`, as the manager that leads does. */
function membershipAt(host: Host, overrides: Partial<MembershipDeps> = {}): Membership {
  const endpoints = () => [host.endpoint];
  const loop = new Membership({
    connect: host.connect,
    probe: host.probe,
    endpoints,
    clock,
    log: silentLog,
    ...overrides,
  });
  loop.start();
  loops.push(loop);
  return loop;
}

const admitBy =
  (membership: Membership): Admit =>
  (candidate, signal) =>
    membership.admit(candidate, signal);

/** `count` managers with a vote each; the first one looks after them. */
async function cluster(count: number): Promise<{ all: Host[]; members: EtcdMember[]; membership: Membership }> {
  const all = await Promise.all(Array.from({ length: count }, () => hosts.add()));
  const members = all.map((host) => host.member());
  await members[0]!.bootstrap();
  const membership = membershipAt(all[0]!);
  await Promise.all(members.slice(1).map((member) => member.join(admitBy(membership), never)));
  await expect.poll(() => all.map(({ nodeId }) => membership.answers(nodeId))).toEqual(all.map(() => true));
  return { all, members, membership };
}

const voters = (membership: Membership) =>
  membership.members
    .filter(({ learner }) => !learner)
    .map(({ name }) => nodeOf(name))
    .toSorted();
const ids = (list: Host[]) => list.map(({ nodeId }) => nodeId).toSorted();
const address = '127.0.0.1';

describe('members come and go', () => {
  test('one, three at once, two, one: what was written stays, and the removed put their data aside', async () => {
    const { all, members, membership } = await cluster(3);
    const [a, b, c] = all as [Host, Host, Host];
    await expect.poll(() => voters(membership)).toEqual(ids(all));
    await c.put('a', '1');
    expect(await b.get('a')).toBe('1');

    await membership.remove({ nodeId: c.nodeId, address: '10.9.9.9' });
    expect(voters(membership)).toEqual(ids(all));
    await membership.remove({ nodeId: c.nodeId, address });
    await expect.poll(() => members[2]!.life).toBe('none');
    await membership.remove({ nodeId: c.nodeId, address });
    await membership.remove({ nodeId: b.nodeId, address });
    await expect.poll(() => members[1]!.life).toBe('none');
    await expect.poll(() => voters(membership)).toEqual([a.nodeId]);
    await a.put('b', '2');
    expect(await a.get('a')).toBe('1');
    await expect(membership.remove({ nodeId: a.nodeId, address })).rejects.toThrow(QuorumLoss);

    // Back again, as a new member: the old id is gone for ever.
    await members[1]!.join(admitBy(membership), never);
    expect(await b.get('b')).toBe('2');
  });

  test('a member that dies is known to within seconds, guarded by the quorum, and comes back by itself', async () => {
    const { all, members, membership } = await cluster(3);
    const [a, b, c] = all as [Host, Host, Host];
    process.kill(members[2]!.pid!, 'SIGSTOP');
    const stoppedMs = clock.monotonic();
    await expect.poll(() => membership.answers(c.nodeId)).toBe(false);
    expect(clock.monotonic() - stoppedMs).toBeLessThan(8_000);
    await expect(membership.remove({ nodeId: b.nodeId, address })).rejects.toThrow(QuorumLoss);
    expect(membership.answers(b.nodeId)).toBe(true);
    process.kill(members[2]!.pid!, 'SIGCONT');
    await expect.poll(() => membership.answers(c.nodeId)).toBe(true);

    await a.put('a', '1');
    process.kill(members[1]!.pid!, 'SIGKILL');
    await expect.poll(() => a.put('a', '2').then(() => 'written', String)).toBe('written');
    await expect.poll(() => b.get('a').catch(() => undefined)).toBe('2');
  });

  test('each boots while any other is down', async () => {
    const { all, members } = await cluster(3);
    const [a, , c] = all as [Host, Host, Host];
    await a.put('a', '1');
    for (const member of members) await member.detach();
    for (const { pid } of members) process.kill(pid!, 'SIGKILL');
    const last = c.member();
    expect(await last.resume()).toBe('running');
    expect(last.pid).toBeDefined();
    expect(last.degraded()).toEqual([]);
    expect(await a.member().resume()).toBe('running');
    await expect.poll(() => c.get('a').catch(() => undefined)).toBe('1');
  });
});

describe('joining', () => {
  test('a learner that is never started does not keep others out', async () => {
    const [a, b] = [await hosts.add(), await hosts.add()];
    await a.member().bootstrap();
    const membership = membershipAt(a, { stallMs: 1_000 });
    await membership.admit({ name: `${'d'.repeat(25)}-dead`, peerUrl: 'https://127.0.0.1:9' }, never);
    await b.member().join(admitBy(membership), never);
    await expect.poll(() => voters(membership)).toEqual(ids([a, b]));
    expect(membership.members).toHaveLength(2);
  });

  test('is finished by the next droverd, and by a leader whose answer was lost', async () => {
    const [a, b] = [await hosts.add(), await hosts.add()];
    await a.member().bootstrap();
    const membership = membershipAt(a);
    const first = b.member();
    const lost = vi.fn<Admit>(async (candidate, signal) => {
      await membership.admit(candidate, signal);
      return new Promise<never>(() => {});
    });
    const broken = first.join(lost, never);
    await Promise.all([expect(broken).rejects.toThrow(/looks after its etcd no longer/), detached(first, lost)]);
    expect(first.life).toBe('joining');

    const second = b.member();
    expect(await second.resume()).toBe('joining');
    await second.join(admitBy(membership), never);
    expect(second.name).toBe(lost.mock.calls[0]![0].name);
    await expect.poll(() => voters(membership)).toEqual(ids([a, b]));
  });

  test('asks again when what it was told holds no longer', async () => {
    const [a, b] = [await hosts.add(), await hosts.add()];
    await a.member().bootstrap();
    const membership = membershipAt(a);
    const api = a.connect([a.endpoint]);
    let asked = 0;
    await b.member().join(async (candidate, signal) => {
      const peers = await membership.admit(candidate, signal);
      if (++asked === 1) await removeLearner(api);
      return peers;
    }, never);
    expect(asked).toBe(2);
    await expect.poll(() => voters(membership)).toEqual(ids([a, b]));
    api.close();
  });

  test('begins anew under another name when the others evict it', async () => {
    const [a, b] = [await hosts.add(), await hosts.add()];
    await a.member().bootstrap();
    const api = a.connect([a.endpoint]);
    const names: string[] = [];
    const member = b.member();
    const joining = member.join(async (candidate, signal) => {
      names.push(candidate.name);
      if (names.length > 1) return membershipAt(a).admit(candidate, signal);
      const { added, members } = await api.addLearner(candidate.peerUrl);
      return members.map(({ id, name, peerUrls }) => ({
        name: id === added.id ? candidate.name : name,
        peerUrl: peerUrls[0]!,
      }));
    }, never);
    await expect.poll(async () => (await api.members()).filter(({ name, learner }) => learner && name)).toHaveLength(1);
    await removeLearner(api);
    await joining;
    expect(names[1]).not.toBe(names[0]);
    expect(member.name).toBe(names[1]);
    expect((await api.members()).map(({ name, learner }) => [name, learner])).toContainEqual([names[1], false]);
    api.close();
  });

  test('aborted, leaves nothing', async () => {
    const [a, b] = [await hosts.add(), await hosts.add()];
    await a.member().bootstrap();
    const membership = membershipAt(a, { stallMs: 1_000 });
    const stop = new AbortController();
    const member = b.member();
    const joining = member.join(async (candidate, signal) => {
      const peers = await membership.admit(candidate, signal);
      stop.abort(new Error('changed my mind'));
      return peers;
    }, stop.signal);
    await expect(joining).rejects.toThrow('changed my mind');
    expect(member.life).toBe('none');
    await expect.poll(() => membership.members).toHaveLength(1);
  });

  test('a node that lost its disk takes the place of what it was', async () => {
    const { all, members, membership } = await cluster(3);
    const [, , c] = all as [Host, Host, Host];
    const before = members[2]!.name;
    await members[2]!.leave();
    await expect.poll(() => membership.answers(c.nodeId)).toBe(false);
    await members[2]!.join(admitBy(membership), never);
    await expect.poll(() => voters(membership)).toEqual(ids(all));
    expect(membership.members.map(({ name }) => name)).not.toContain(before);
  });

  test('the address of a member that answers is not given away', async () => {
    const { all, membership } = await cluster(2);
    const peerUrl = `https://127.0.0.1:${all[1]!.settings.peerPort}`;
    await expect(membership.admit({ name: `${'x'.repeat(25)}-new`, peerUrl }, never)).rejects.toThrow(AddressTaken);
    expect(membership.members).toHaveLength(2);
  });

  test('etcd itself refuses what is not in step', async () => {
    const { all } = await cluster(1);
    const api = all[0]!.connect([all[0]!.endpoint]);
    await expect(api.promote('1')).rejects.toThrow(EtcdRefused);
    api.close();
  });
});

describe('the quorum is lost', () => {
  test('one goes on alone with all it has; the others, when they return, find themselves removed', async () => {
    const { all, members, membership } = await cluster(3);
    const [a, b, c] = all as [Host, Host, Host];
    await c.put('a', '1');
    await expect.poll(() => a.get('a')).toBe('1');
    for (const member of members.slice(1)) {
      await member.detach();
      process.kill(member.pid!, 'SIGKILL');
    }
    await expect.poll(() => membership.answers(b.nodeId)).toBe(false);
    await expect.poll(() => membership.answers(c.nodeId)).toBe(false);
    expect(membership.answers(a.nodeId)).toBe(true);

    await members[0]!.forceNewCluster();
    expect(await a.get('a')).toBe('1');
    await a.put('a', '2');
    await expect.poll(() => voters(membership)).toEqual([a.nodeId]);

    const onRemoved = vi.fn<() => void>();
    const returned = b.member({ onRemoved });
    await returned.resume();
    await expect.poll(() => onRemoved.mock.calls.length).toBe(1);
    expect(returned.life).toBe('none');
    await returned.join(admitBy(membership), never);
    expect(await b.get('a')).toBe('2');
  });
});

async function removeLearner(api: MemberApi): Promise<void> {
  const learner = (await api.members()).find(({ learner }) => learner);
  await api.remove(learner!.id);
}

/** Resolves when a member's asking has gone out, and it has been let go of after that. */
async function detached(member: EtcdMember, asked: ReturnType<typeof vi.fn<Admit>>): Promise<void> {
  await expect.poll(() => asked.mock.calls.length).toBe(1);
  await member.detach();
}
