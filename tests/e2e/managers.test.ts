/**
 * Several managers: any of them, the leader too, may lose power, its network, its breath or its disk. Within seconds writes
 * are taken again, nothing acknowledged is lost, and no container notices.
 */
import { join } from 'node:path';
import { mkdir } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, Lab, succeed } from './lab.ts';
import { ask, Writer } from './writer.ts';

const hosts = ['h1', 'h2', 'h3', 'h4', 'h5'];
const managers = ['h1', 'h2', 'h3'];
/** Each fault so many times; 10 in `make soak`. */
const TIMES = process.env['DROVER_SOAK'] ? 10 : 1;
const LAB_DIR = process.env['DROVER_LAB_DIR'] ?? '/var/lib/drover-lab';
const NAME = 'managers';
/** From the loss of a leader to the next acknowledged write (issue 5). */
const NEXT_WRITE_MS = 6_000;

const dataDir = (host: string) => join(LAB_DIR, NAME, host, 'drover');

describe('several managers', () => {
  let lab: Lab;

  beforeAll(async () => {
    await unmount();
    // A disk of its own for each manager, so that it can be full.
    const prepare = async () => {
      for (const host of managers) {
        await mkdir(dataDir(host), { recursive: true });
        await succeed('mount', ['-t', 'tmpfs', '-o', 'size=256m', 'tmpfs', dataDir(host)]);
      }
    };
    lab = await Lab.up(NAME, { hosts: 5, managers: 3, prepare });
    await lab.docker('h1', 'service', 'create', '--detach', '--name', 'steady', '--replicas', '10', lab.image('web:1'));
    await lab.converged('steady', 10);
  });
  afterAll(async () => {
    await unmount();
    await lab?.down();
  });

  /** What an interrupted run has left, too. */
  const unmount = () =>
    succeed('sh', [
      '-c',
      'for dir; do ! mountpoint -q "$dir" || umount -l "$dir"; done',
      'sh',
      ...managers.map(dataDir),
    ]);

  /** `hostname leader|reachable|unreachable` of each manager, as one of them says. */
  async function managersBy(host: string): Promise<Map<string, string>> {
    const listed = await lab.docker(host, 'node', 'ls', '--format', '{{.Hostname}} {{.ManagerStatus}}');
    const rows = listed.split('\n').map((line) => line.split(' ') as [string, string?]);
    return new Map(rows.flatMap(([name, status = '']) => (status === '' ? [] : [[name, status] as const])));
  }

  const leaderBy = async (host: string): Promise<string | undefined> =>
    [...(await managersBy(host))].find(([, status]) => status === 'Leader')?.[0];

  const settled = () =>
    eventually('one leader, the other managers reachable, as each of them says', async () => {
      const said = await Promise.all(
        managers.map(async (host) => [...(await managersBy(host))].map((row) => row.join(' ')).sort()),
      );
      const leaders = said[0]!.filter((row) => row.endsWith(' Leader'));
      const reachable = said[0]!.filter((row) => row.endsWith(' Reachable'));
      const same = said.every((each) => JSON.stringify(each) === JSON.stringify(said[0]));
      return same && leaders.length === 1 && reachable.length === managers.length - 1 && leaders[0]!.split(' ')[0]!;
    });

  async function containers(): Promise<string[]> {
    const found = await Promise.all(
      hosts.map(async (host) => {
        const ids = await lab.engine(host, 'ps', '-q', '--no-trunc');
        return ids === ''
          ? ''
          : lab.engine(host, 'inspect', '--format', '{{.Id}} {{.State.StartedAt}}', ...ids.split('\n'));
      }),
    );
    return found
      .join('\n')
      .split('\n')
      .filter((line) => line !== '')
      .sort();
  }

  test('each manager says the same, and the docker client works against any of them', async () => {
    await settled();
    for (const host of managers) {
      const info = await lab.docker(
        host,
        'info',
        '--format',
        '{{.Swarm.Managers}} {{.Swarm.Nodes}} {{.Swarm.ControlAvailable}}',
      );
      expect(info).toBe('3 5 true');
      await lab.docker(
        host,
        'service',
        'create',
        '--detach',
        '--name',
        `by-${host}`,
        '--replicas',
        '1',
        lab.image('web:1'),
      );
      // Its own write, at once, from the very manager.
      expect(await lab.docker(host, 'service', 'inspect', '--format', '{{.Spec.Name}}', `by-${host}`)).toBe(
        `by-${host}`,
      );
    }
    await lab.converged('by-h3', 1);
    expect(await lab.docker('h2', 'service', 'logs', 'by-h3')).toBeDefined();
    for (const host of managers) await lab.docker('h2', 'service', 'rm', `by-${host}`);
    await eventually('only steady runs', async () => (await containers()).length === 10);
    const refused = await lab.tryDocker('h4', 'node', 'ls');
    expect(refused.stderr).toContain('This node is not a swarm manager');
  });

  /** What is done to the leader, and how it ends. */
  const faults: Record<string, { begin(host: string): Promise<unknown>; end(host: string): Promise<unknown> }> = {
    'killed daemons': {
      begin: (host) => lab.exec(host, 'sh', '-c', "kill -9 $(pgrep -f '[d]aemon/main') $(pgrep -x etcd)"),
      end: (host) => lab.drover('start', host),
    },
    'cut off': { begin: (host) => lab.drover('cut', host), end: (host) => lab.drover('mend', host) },
    paused: {
      begin: (host) => lab.exec(host, 'sh', '-c', "kill -STOP $(pgrep -f '[d]aemon/main') $(pgrep -x etcd)"),
      end: (host) => lab.exec(host, 'sh', '-c', "kill -CONT $(pgrep -f '[d]aemon/main') $(pgrep -x etcd)"),
    },
    'disk full': {
      begin: (host) => succeed('sh', ['-c', `dd if=/dev/zero of=${dataDir(host)}/filler bs=64k 2>/dev/null; true`]),
      end: (host) => succeed('rm', ['-f', join(dataDir(host), 'filler')]),
    },
  };

  test(
    `the leader killed, cut off, paused, its disk filled, ${TIMES} times each: writes go on, no container notices`,
    async () => {
      const before = await containers();
      const writer = new Writer(await Promise.all(managers.map((host) => lab.socket(host))), {
        perSecond: 20,
        prefix: 'w',
      });
      const order = Array.from({ length: TIMES }, () => Object.keys(faults)).flat();
      for (let i = order.length - 1; i > 0; i--) {
        const j = Math.floor(Math.random() * (i + 1));
        [order[i], order[j]] = [order[j]!, order[i]!];
      }
      const times: Record<string, number[]> = {};
      try {
        for (const kind of order) {
          const leader = await settled();
          const sinceMs = performance.now();
          await faults[kind]!.begin(leader);
          try {
            const brokenMs = performance.now();
            const gapMs = await eventually('the next write', async () => writer.longestGap(sinceMs, brokenMs));
            (times[kind] ??= []).push(Math.round(gapMs));
          } finally {
            await faults[kind]!.end(leader);
          }
        }
        await settled();
      } finally {
        await writer.stop();
      }
      for (const [kind, all] of Object.entries(times))
        console.log(`leader ${kind}: no write for ${all.toSorted((a, b) => a - b).join(', ')} ms`);
      console.log(
        `${writer.acknowledged.length} writes acknowledged; refused: ${JSON.stringify([...writer.refusals])}`,
      );
      const kept = new Set((await lab.docker('h1', 'config', 'ls', '--format', '{{.Name}}')).split('\n'));
      expect(writer.acknowledged.filter(({ name }) => !kept.has(name))).toEqual([]);
      expect(writer.wrong).toEqual([]);
      expect(await containers()).toEqual(before);
      expect(Math.max(...Object.values(times).flat())).toBeLessThan(NEXT_WRITE_MS);
    },
    TIMES * 240_000 + 120_000,
  );

  test('without a majority reads go on and writes fail at once with words; containers run on', async () => {
    const before = await containers();
    const leader = await settled();
    const others = managers.filter((host) => host !== leader);
    for (const host of others) await lab.drover('kill', host);
    try {
      const socket = await lab.socket(leader);
      await eventually('a refusal in words', async () => {
        const refused = await ask(socket, 'POST', '/configs/create', { Name: 'refused', Labels: {}, Data: 'eA==' });
        return refused.status === 503 && /does not have a leader/.test(refused.body);
      });
      expect(await lab.docker(leader, 'service', 'ls', '--format', '{{.Name}}')).toBe('steady');
    } finally {
      for (const host of others) await lab.drover('start', host);
    }
    await settled();
    // Those of the hosts that were off are new; the others never noticed.
    const after = await containers();
    const kept = before.filter((line) => after.includes(line));
    expect(kept.length).toBeGreaterThanOrEqual(10 - 2 * 5);
    await lab.docker(leader, 'service', 'scale', '--detach', 'steady=5');
    await lab.converged('steady', 5);
  });

  test('managers come and go: 3 to 5 to 1 and back to 3, while a service is updated', async () => {
    const leader = await settled();
    const update = async (value: string) =>
      lab.docker(leader, 'service', 'update', '--detach', '--label-add', `v=${value}`, 'steady');
    for (const host of ['h4', 'h5']) {
      await lab.docker(leader, 'node', 'promote', host);
      await update(`promote-${host}`);
    }
    const reachable = (count: number) =>
      eventually(`${count} managers in reach`, async () => {
        const said = [...(await managersBy(leader)).values()];
        return said.length === count && said.every((status) => status === 'Leader' || status === 'Reachable');
      });
    await reachable(5);
    for (const host of hosts.filter((each) => each !== leader)) {
      const left = (await managersBy(leader)).size - 1;
      await lab.docker(leader, 'node', 'demote', host);
      await update(`demote-${host}`);
      await reachable(left);
    }
    const last = await lab.tryDocker(leader, 'node', 'demote', leader);
    expect(last.stderr).toContain('attempting to demote the last manager of the swarm');
    for (const host of managers.filter((each) => each !== leader)) await lab.docker(leader, 'node', 'promote', host);
    await reachable(3);
    expect(await settled()).toBe(await leaderBy(leader));
    await lab.converged('steady', 5);
  });

  test('after the loss of the majority one manager goes on alone, with all that was there', async () => {
    const before = await settled();
    const others = managers.filter((host) => host !== before);
    for (const host of others) await lab.drover('kill', host);
    await lab.docker(before, 'swarm', 'init', '--force-new-cluster', '--advertise-addr', await lab.address(before));
    expect(await managersBy(before)).toEqual(new Map([[before, 'Leader']]));
    await lab.docker(before, 'service', 'update', '--detach', '--label-add', 'v=alone', 'steady');
    for (const host of others) await lab.drover('start', host);
    // They were managers of what is no more: they find that out, and are workers.
    await eventually('the others are workers', async () => {
      const said = await Promise.all(others.map((host) => lab.tryDocker(host, 'node', 'ls')));
      return said.every(({ stderr }) => stderr.includes('Worker nodes can'));
    });
    await eventually('all of it runs', async () => {
      const replicas = await lab.docker(before, 'service', 'ls', '--format', '{{.Replicas}}');
      return replicas === '5/5';
    });
  });
});
