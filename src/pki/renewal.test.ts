/** A certificate over its life, under a clock that the test moves. */
import { X509Certificate } from 'node:crypto';
import * as fc from 'fast-check';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { silentLog } from '../model/clock.ts';
import { FakeClock, settle } from '../sim/fake-clock.ts';
import {
  BACKDATE_MS,
  createCertificateRequest,
  createRootCa,
  crossSign,
  issueNodeCertificate,
  type RootCa,
} from './authority.ts';
import { identityOf, lifeOf, type Identity, type NodeRole } from './identity.ts';
import { Renewal, renewalTime, type RenewalDeps } from './renewal.ts';

const START = Date.UTC(2026, 0, 1);
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const subject = { nodeId: 'n'.repeat(25), role: 'worker' as NodeRole, clusterId: 'c'.repeat(25) };

let root: RootCa;
beforeAll(async () => {
  root = await createRootCa(START);
});

test('renewal is due at 50–80 % of the time since the issue, evenly spread', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1_000, max: 400 * DAY }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (lifeMs, at) => {
        const due = renewalTime({ fromMs: START - BACKDATE_MS, untilMs: START + lifeMs }, () => at) - START;
        expect(due / lifeMs).toBeCloseTo(0.5 + at * 0.3, 6);
      },
    ),
  );
});

async function setup(lifeMs: number, random = () => 0.5, more: Pick<RenewalDeps, 'mayChangeIssuer'> = {}) {
  const clock = new FakeClock(START);
  const authority = {
    down: undefined as Error | undefined,
    subject: { ...subject },
    lifeMs,
    signs: { root, links: '' },
    asked: 0,
    open: Promise.resolve(),
    answer: Promise.resolve(''),
  };
  const answer = async (csr: string) => {
    if (authority.down !== undefined) throw authority.down;
    await authority.open;
    const { root: by, links } = authority.signs;
    return (await issueNodeCertificate(by, csr, authority.subject, clock.now(), authority.lifeMs)) + links;
  };
  const certify = (csr: string) => {
    authority.asked += 1;
    return (authority.answer = answer(csr));
  };
  const { key, csr } = await createCertificateRequest();
  const certificate = await issueNodeCertificate(root, csr, subject, START, lifeMs);
  const identity = identityOf({ certificate, key, rootCertificate: root.certificate }, START);
  const saved: string[] = [];
  const used: Identity[] = [];
  const renewal = new Renewal({
    identity,
    clock,
    random,
    log: silentLog,
    certify,
    save: async (parts) => void saved.push(parts.certificate),
    renewed: (next) => void used.push(next),
    ...more,
  });
  renewal.start();
  /** Certificates are made outside of the clock's world. */
  const until = (fn: () => void) => vi.waitFor(fn, { timeout: 30_000, interval: 1 });
  return { clock, authority, identity, renewal, saved, used, until };
}

describe('a node', () => {
  test('renews by itself for as long as it lives, each time with a new key', async () => {
    const { clock, identity, renewal, saved, used, until } = await setup(90 * DAY);
    await clock.advance(58 * DAY);
    expect(used).toHaveLength(0);
    for (let round = 1; round <= 3; round++) {
      await clock.advance(DAY);
      await until(() => expect(used).toHaveLength(round));
      await until(() => expect(renewal.life().untilMs).toBeGreaterThan(clock.now() + 89 * DAY));
      expect(saved).toEqual(used.map((one) => one.certificate));
      await clock.advance(57.5 * DAY);
      expect(used).toHaveLength(round);
    }
    const keys = [identity, ...used].map((one) => one.key);
    expect(new Set(keys).size).toBe(4);
    expect(used.every((one) => one.nodeId === identity.nodeId && one.rootCertificate === root.certificate)).toBe(true);
    await renewal.stop();
  });

  test('what the manager says counts: another role, another life', async () => {
    const { clock, authority, used, renewal, until } = await setup(60 * MINUTE);
    authority.subject.role = 'manager';
    authority.lifeMs = 7 * DAY;
    await clock.advance(39 * MINUTE);
    await until(() => expect(used).toHaveLength(1));
    expect(used[0]!.role).toBe('manager');
    expect(lifeOf(new X509Certificate(used[0]!.certificate)).untilMs).toBe(START + 39 * MINUTE + 7 * DAY);
    await renewal.stop();
  });

  test('tries again after growing pauses, says what is wrong meanwhile, and recovers', async () => {
    const { clock, authority, used, renewal, until } = await setup(60 * MINUTE, () => 0);
    authority.down = new Error('cannot reach a manager at m:2377: it is away');
    const asked = (times: number) => until(() => expect(authority.asked).toBe(times));
    await clock.advance(30 * MINUTE);
    await asked(1);
    await until(() =>
      expect(renewal.trouble()).toBe(
        'the certificate of this node ends at 2026-01-01T01:00:00.000Z and could not be renewed: cannot reach a manager at m:2377: it is away',
      ),
    );
    // Half of 5 s, then of 10 s, and of 20 s; never more than half of 10 min.
    const pauses = [2.5, 5, 10];
    for (const [i, seconds] of pauses.entries()) {
      await clock.advance(seconds * 1_000 - 1);
      expect(authority.asked).toBe(i + 1);
      await clock.advance(1);
      await asked(i + 2);
    }
    authority.down = undefined;
    await clock.advance(20_000);
    await until(() => expect(used).toHaveLength(1));
    expect(renewal.trouble()).toBe('');
    await renewal.stop();
  });

  test('a certificate that does not hold here, or is that of another, is not taken', async () => {
    const { clock, authority, used, renewal, until } = await setup(60 * MINUTE, () => 0);
    authority.subject.nodeId = 'x'.repeat(25);
    await clock.advance(30 * MINUTE);
    await until(() => expect(renewal.trouble()).toMatch(/the certificate that came is that of node x{25}$/));
    authority.subject.nodeId = subject.nodeId;
    authority.lifeMs = -MINUTE;
    await clock.advance(2_500);
    await until(() => expect(renewal.trouble()).toMatch(/has expired: it held until .*, and the clock here says/));
    expect(used).toEqual([]);
    await renewal.stop();
  });

  test('goes by the wall clock: a host that slept over the moment renews within minutes', async () => {
    const { clock, used, renewal, until } = await setup(90 * DAY);
    const slept = vi.spyOn(clock, 'now').mockImplementation(() => START + 70 * DAY);
    await clock.advance(10 * MINUTE);
    await until(() => expect(used).toHaveLength(1));
    slept.mockRestore();
    await renewal.stop();
  });

  test('saves nothing once it is stopped, whatever was under way', async () => {
    const { clock, authority, saved, used, renewal, until } = await setup(60 * MINUTE);
    const doors = Promise.withResolvers<void>();
    authority.open = doors.promise;
    await clock.advance(39 * MINUTE);
    await until(() => expect(authority.asked).toBe(1));
    await renewal.stop();
    doors.resolve();
    await authority.answer;
    await settle();
    expect([saved, used]).toEqual([[], []]);
    await clock.advance(DAY);
    expect(authority.asked).toBe(1);
  });

  test('follows what it is told: renews within the spread, trusts once it can, and rests', async () => {
    const { clock, authority, identity, renewal, saved, used, until } = await setup(90 * DAY);
    const next = await createRootCa(START);
    const link = await crossSign(next.certificate, root);
    const told = { rootCertificate: root.certificate, issuerCertificate: root.certificate };
    renewal.follow(told, 10_000);
    await clock.advance(20_000);
    expect(authority.asked).toBe(0);

    authority.signs = { root: next, links: link };
    renewal.follow({ ...told, issuerCertificate: next.certificate }, 10_000);
    await clock.advance(4_999);
    expect(authority.asked).toBe(0);
    await clock.advance(1);
    await until(() => expect(used).toHaveLength(1));
    expect(used[0]).toMatchObject({ nodeId: identity.nodeId, rootCertificate: root.certificate });
    expect(used[0]!.certificate.endsWith(link)).toBe(true);
    // Told the same once more: it has done that.
    await settle();
    renewal.follow({ ...told, issuerCertificate: next.certificate }, 0);
    await clock.advance(1_000);
    expect(authority.asked).toBe(1);

    renewal.follow({ rootCertificate: next.certificate, issuerCertificate: next.certificate }, 10_000);
    await clock.advance(0);
    await until(() => expect(used).toHaveLength(2));
    expect(used[1]).toEqual({ ...used[0], rootCertificate: next.certificate });
    expect(saved).toHaveLength(2);
    expect(authority.asked).toBe(1);
    // Its age counts from its own issue, and asks as ever.
    await clock.advance(58 * DAY);
    expect(authority.asked).toBe(1);
    await clock.advance(DAY);
    await until(() => expect(authority.asked).toBe(2));
    await renewal.stop();
  });

  test('changes the issuer only once it may; its age and another role do not wait for that', async () => {
    let may = false;
    const mayChangeIssuer = async () => may;
    const { clock, authority, renewal, used, until } = await setup(20 * MINUTE, () => 0, { mayChangeIssuer });
    const next = await createRootCa(START);
    authority.signs = { root: next, links: await crossSign(next.certificate, root) };
    const told = { rootCertificate: root.certificate, issuerCertificate: next.certificate };
    renewal.follow(told, 0);
    await clock.advance(2_000);
    expect([authority.asked, renewal.trouble()]).toEqual([0, '']);
    may = true;
    await clock.advance(1_000);
    await until(() => expect(used).toHaveLength(1));
    await settle();

    may = false;
    const another = { ...told, issuerCertificate: root.certificate };
    authority.signs = { root, links: '' };
    authority.subject = { ...subject, role: 'manager' };
    renewal.follow({ ...another, role: 'manager' }, 0);
    await clock.advance(0);
    await until(() => expect(used).toHaveLength(2));
    expect(used[1]!.role).toBe('manager');
    await settle();

    renewal.follow({ ...told, role: 'manager' }, 0);
    await clock.advance(9 * MINUTE);
    expect(authority.asked).toBe(2);
    await clock.advance(2 * MINUTE);
    await until(() => expect(authority.asked).toBe(3));
    await renewal.stop();
  });

  test('told what the manager it asks does not do yet, it asks again after growing pauses, and says nothing is wrong', async () => {
    const { clock, authority, renewal, used, until } = await setup(90 * DAY, () => 0);
    const next = await createRootCa(START);
    renewal.follow({ rootCertificate: root.certificate, issuerCertificate: next.certificate }, 0);
    await clock.advance(0);
    await until(() => expect(used).toHaveLength(1));
    await settle();
    await clock.advance(2_499);
    expect(authority.asked).toBe(1);
    await clock.advance(1);
    await until(() => expect(used).toHaveLength(2));
    expect(renewal.trouble()).toBe('');
    authority.signs = { root: next, links: await crossSign(next.certificate, root) };
    await settle();
    await clock.advance(5_000);
    await until(() => expect(used).toHaveLength(3));
    await settle();
    await clock.advance(DAY);
    expect(authority.asked).toBe(3);
    await renewal.stop();
  });

  test('what is told while a step is under way is taken up after it; what is no root is ignored', async () => {
    const { clock, authority, renewal, used, until } = await setup(90 * DAY);
    const [one, two] = [await createRootCa(START), await createRootCa(START)];
    const told = { rootCertificate: root.certificate, issuerCertificate: one.certificate };
    const doors = Promise.withResolvers<void>();
    authority.open = doors.promise;
    authority.signs = { root: two, links: await crossSign(two.certificate, root) };
    renewal.follow(told, 0);
    await clock.advance(0);
    await until(() => expect(authority.asked).toBe(1));
    renewal.follow({ ...told, issuerCertificate: two.certificate }, 0);
    doors.resolve();
    await until(() => expect(used).toHaveLength(1));
    await settle();
    renewal.follow({ ...told, issuerCertificate: 'nonsense' }, 0);
    await clock.advance(DAY);
    expect(authority.asked).toBe(1);
    await renewal.stop();
  });
});
