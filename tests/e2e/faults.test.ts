/**
 * What breaks at night: a container, a daemon, an engine, a host's power, a host's cable. Declared services come back by
 * themselves, and what did not break does not notice.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { seeded } from '../../src/sim/seeded.ts';
import { eventually, get, Lab, run } from './lab.ts';

const hosts = ['h1', 'h2', 'h3'];
/** 50 in `make soak`. */
const KILLS = process.env['DROVER_SOAK'] ? 50 : 5;

describe('faults', () => {
  let lab: Lab;

  beforeAll(async () => {
    lab = await Lab.up('faults');
    await lab.docker('h1', 'network', 'create', '-d', 'overlay', 'backend');
    await lab.docker(
      'h1',
      'service',
      'create',
      '--detach',
      '--name',
      'steady',
      '--replicas',
      '3',
      '--network',
      'backend',
      '-p',
      '8080:8080',
      lab.image('web:1'),
    );
    await lab.converged('steady', 3);
    // One asker a host: looks the service up by name and calls it, ten times a second, and says how it went.
    await lab.docker(
      'h1',
      'service',
      'create',
      '--detach',
      '--name',
      'asker',
      '--mode',
      'global',
      '--network',
      'backend',
      '--init',
      lab.image('busybox:latest'),
      'sh',
      '-c',
      'while true; do nslookup steady. >/dev/null 2>&1 && echo looked-up || echo LOOK-UP-FAILED; wget -q -O /dev/null http://steady:8080/ 2>/dev/null && echo called || echo CALL-FAILED; usleep 100000; done',
    );
    await lab.converged('asker', 3);
  });
  afterAll(async () => {
    await lab?.down();
  });

  /** `id started` of each running container of a service, over all hosts. */
  async function containers(service: string): Promise<string[]> {
    const found = await Promise.all(
      hosts.map(async (host) => {
        const ids = await lab.engine(
          host,
          'ps',
          '-q',
          '--no-trunc',
          '--filter',
          `label=com.docker.swarm.service.name=${service}`,
        );
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

  const cleanAudit = () =>
    eventually('a clean audit', async () => {
      await lab.drover('audit');
      return true;
    });

  test(
    `kill -9 of droverd at ${KILLS} random moments: nothing acknowledged is lost, nothing that runs notices`,
    async () => {
      const seed = Number(process.env['DROVER_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
      console.log(`seed ${seed} (DROVER_SEED=${seed} repeats the choices)`);
      const random = seeded(seed);
      const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
      const before = await containers('steady');
      const askers = await containers('asker');
      expect(before).toHaveLength(3);

      // A client outside, ten requests a second on every host, each on a fresh connection.
      const calls = { made: 0, failed: [] as string[] };
      const over = new AbortController();
      const outside = Promise.all(
        hosts.map(async (host) => {
          const url = `http://${await lab.address(host)}:8080/`;
          while (!over.signal.aborted) {
            calls.made++;
            try {
              const answer = await get(url);
              if (answer.status !== 200) calls.failed.push(`${url}: ${answer.status}`);
            } catch (error) {
              calls.failed.push(`${url}: ${(error as Error).message}`);
            }
            await new Promise((next) => setTimeout(next, 100));
          }
        }),
      );

      // A client that creates, scales and removes. What was acknowledged must be true at the end; what was not may be either.
      const acknowledged = new Map<string, number | 'removed'>();
      const inDoubt = new Set<string>();
      let made = 0;
      const change = async (name: string, value: number | 'removed', ...args: string[]): Promise<void> => {
        const answer = await run('docker', args, {
          env: { DOCKER_HOST: await lab.socket('h1'), DOCKER_CONTEXT: undefined },
        });
        if (answer.code === 0) {
          acknowledged.set(name, value);
          inDoubt.delete(name);
        } else inDoubt.add(name);
      };
      const churn = (async () => {
        while (!over.signal.aborted) {
          const known = [...acknowledged]
            .filter(([name, value]) => value !== 'removed' && !inDoubt.has(name))
            .map(([name]) => name);
          const roll = random();
          if (known.length < 3 || roll < 0.4) {
            const name = `churn${made++}`;
            const replicas = 1 + Math.floor(random() * 3);
            await change(
              name,
              replicas,
              'service',
              'create',
              '--detach',
              '--name',
              name,
              '--replicas',
              String(replicas),
              '--network',
              'backend',
              lab.image('web:1'),
            );
          } else if (roll < 0.7) {
            const name = pick(known);
            const replicas = 1 + Math.floor(random() * 4);
            await change(name, replicas, 'service', 'scale', '--detach', `${name}=${replicas}`);
          } else {
            const name = pick(known);
            await change(name, 'removed', 'service', 'rm', name);
          }
        }
      })();

      try {
        for (let kill = 0; kill < KILLS; kill++) {
          await new Promise((next) => setTimeout(next, random() * 2000));
          await lab.drover('restart-daemon', pick(hosts));
        }
      } finally {
        over.abort();
        await Promise.all([outside, churn]);
      }

      const services = await eventually('the manager answers', () =>
        lab.docker('h1', 'service', 'ls', '--format', '{{.Name}} {{.Replicas}}'),
      );
      const listed = new Map(services.split('\n').map((line) => line.split(' ') as [string, string]));
      for (const [name, value] of acknowledged) {
        if (inDoubt.has(name)) continue;
        if (value === 'removed') expect(listed.has(name), `${name} was removed`).toBe(false);
        else expect(listed.get(name), `${name} has ${value} replicas`).toMatch(new RegExp(`/${value}$`));
      }
      for (const name of listed.keys()) {
        if (name.startsWith('churn')) await lab.docker('h1', 'service', 'rm', name);
      }
      expect(await containers('steady')).toEqual(before);
      expect(await containers('asker')).toEqual(askers);
      console.log(
        `${calls.made} calls from outside, ${acknowledged.size} changes acknowledged, ${inDoubt.size} in doubt`,
      );
      expect(calls.failed).toEqual([]);
      expect(calls.made).toBeGreaterThan(KILLS * 10);
      for (const host of hosts) {
        const [asker] = (
          await lab.engine(host, 'ps', '-q', '--filter', 'label=com.docker.swarm.service.name=asker')
        ).split('\n');
        const said = (await lab.engine(host, 'logs', asker!)).split('\n');
        expect(said.filter((line) => line === 'looked-up').length).toBeGreaterThan(KILLS * 3);
        expect(said.filter((line) => line.includes('FAILED'))).toEqual([]);
      }
      await cleanAudit();
    },
    KILLS * 60_000 + 120_000,
  );

  test('a container that dies is replaced', async () => {
    const before = await containers('steady');
    const [victim] = before[0]!.split(' ');
    for (const host of hosts) {
      if ((await lab.engine(host, 'ps', '-q', '--no-trunc')).includes(victim!)) await lab.engine(host, 'kill', victim!);
    }
    const after = await eventually('three containers again', async () => {
      const now = await containers('steady');
      return now.length === 3 && !now.some((line) => line.startsWith(victim!)) && now;
    });
    expect(after.filter((line) => before.includes(line))).toHaveLength(2);
    const history = await lab.docker(
      'h1',
      'service',
      'ps',
      'steady',
      '--no-trunc',
      '--format',
      '{{.CurrentState}} {{.Error}}',
    );
    expect(history).toMatch(/Failed .*task: non-zero exit \(137\)/);
  });

  test('the resolver dies: it is back at once', async () => {
    const pid = await resolverPid('h2');
    await lab.exec('h2', 'kill', '-9', pid);
    await eventually('a new resolver', async () => {
      const next = await resolverPid('h2');
      return next !== '' && next !== pid;
    });
    const [asker] = (await lab.engine('h2', 'ps', '-q', '--filter', 'label=com.docker.swarm.service.name=asker')).split(
      '\n',
    );
    await eventually('names resolve', async () =>
      (await lab.engine('h2', 'exec', asker!, 'nslookup', 'steady.')).includes('Address'),
    );
  });

  /** Inside the host's process namespace; '' while there is none. */
  async function resolverPid(host: string): Promise<string> {
    return (await lab.exec(host, 'sh', '-c', 'pgrep -f "[n]etwork/resolver/main" || true')).trim();
  }

  test('a host that only pauses for 2 s is not declared down', async () => {
    const before = await containers('steady');
    // By the host itself: the pause is to be 2 s, however long the lab takes to reach it.
    const pause = "p=$(pgrep -f '[d]aemon/main'); kill -STOP $p; sleep 2; kill -CONT $p";
    await lab.exec('h3', 'sh', '-c', pause);
    // Down would come within the next second if it came.
    const states = new Set<string>();
    const end = performance.now() + 2000;
    while (performance.now() < end)
      states.add(await lab.docker('h1', 'node', 'ls', '--filter', 'name=h3', '--format', '{{.Status}}'));
    expect([...states]).toEqual(['Ready']);
    expect(await containers('steady')).toEqual(before);
  });

  test('a host loses power: its tasks run elsewhere within seconds; it comes back empty and clean', async () => {
    await lab.docker('h1', 'service', 'scale', 'steady=9');
    const began = performance.now();
    await lab.drover('kill', 'h3');
    const cut = performance.now();
    await eventually(
      'h3 is down',
      async () => (await lab.docker('h1', 'node', 'ls', '--filter', 'name=h3', '--format', '{{.Status}}')) === 'Down',
    );
    const down = performance.now();
    await eventually('nine tasks on two hosts', async () => {
      const nodes = await lab.runningOn('steady');
      return nodes.length === 9 && !nodes.includes('h3');
    });
    const replaced = performance.now();
    console.log(
      `host lost: down after ${Math.round(down - began)} ms (kill took ${Math.round(cut - began)} ms), 3 tasks running elsewhere after ${Math.round(replaced - began)} ms`,
    );
    // That h3 is down is known to the manager first; on a busy machine the others hear of it a little later.
    for (const host of ['h1', 'h2']) {
      await eventually(`${host} asks none of the dead`, async () => {
        for (let i = 0; i < 9; i++)
          if ((await get(`http://${await lab.address(host)}:8080/`)).status !== 200) return false;
        return true;
      });
    }
    await lab.drover('start', 'h3');
    await eventually(
      'h3 is ready',
      async () => (await lab.docker('h1', 'node', 'ls', '--filter', 'name=h3', '--format', '{{.Status}}')) === 'Ready',
    );
    await eventually(
      'h3 answers through the mesh',
      async () => (await get(`http://${await lab.address('h3')}:8080/`)).status === 200,
    );
    await cleanAudit();
  });

  test('a host cut off and mended: what was replaced stops there', async () => {
    await lab.docker('h1', 'service', 'scale', 'steady=6');
    await lab.drover('cut', 'h2');
    await eventually('six tasks without h2', async () => {
      const nodes = await lab.runningOn('steady');
      return nodes.length === 6 && !nodes.includes('h2');
    });
    await lab.drover('mend', 'h2');
    await eventually('six containers in all', async () => (await containers('steady')).length === 6);
    await cleanAudit();
  });

  test('everything removed: nothing is left over', async () => {
    await lab.docker('h1', 'service', 'rm', 'steady', 'asker');
    await eventually('the network goes', () => lab.docker('h1', 'network', 'rm', 'backend'));
    for (const host of hosts)
      await eventually(`no container on ${host}`, async () => (await lab.engine(host, 'ps', '-aq')) === '');
    await cleanAudit();
  });
});
