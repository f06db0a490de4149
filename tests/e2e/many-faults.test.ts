/**
 * Faults in any order and several at once: after each round all that is declared runs, the hosts are as the store says, and
 * every task answers through every host. `DROVER_SOAK=1`: 200 rounds; `DROVER_SEED=…` repeats the choices.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Chance } from '../../src/sim/seeded.ts';
import { eventually, get, Lab } from './lab.ts';

const ROUNDS = process.env['DROVER_SOAK'] ? 200 : 6;
const HOSTS = ['h1', 'h2', 'h3'];
/** The manager is on the first. */
const WORKERS = HOSTS.slice(1);
const ROUND_MS = 120_000;

describe('many faults', () => {
  const seed = Number(process.env['DROVER_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  const chance = new Chance(seed);
  let lab: Lab;
  let replicas = 3;

  beforeAll(async () => {
    console.log(`seed ${seed} (DROVER_SEED=${seed} repeats the choices)`);
    lab = await Lab.up('many-faults');
    await lab.docker('h1', 'network', 'create', '-d', 'overlay', 'backend');
    const options = ['--replicas', '3', '--network', 'backend', '-p', '8080:8080', '--restart-delay', '100ms'];
    await lab.docker('h1', 'service', 'create', '--detach', '--name', 'web', ...options, lab.image('web:1'));
    await lab.converged('web', replicas);
  });
  afterAll(async () => {
    await lab?.down();
  });

  const statusOf = (host: string) =>
    lab.docker('h1', 'node', 'ls', '--filter', `name=${host}`, '--format', '{{.Status}}');

  /** droverd neither reads nor writes for so long. On a host that is off by then there is nothing to halt. */
  const halted = async (host: string, ms: number): Promise<void> => {
    const halt = `p=$(pgrep -f '[d]aemon/main') && kill -STOP $p && sleep ${ms / 1000} && kill -CONT $p`;
    await lab.exec(host, 'sh', '-c', `${halt} || true`).catch((error: unknown) => console.log(String(error)));
  };

  const faults: Record<string, (chance: Chance) => Promise<void>> = {
    async 'a container dies'(chance) {
      const host = chance.pick(HOSTS);
      const label = 'label=com.docker.swarm.service.name=web';
      const ids = await lab.engine(host, 'ps', '-q', '--filter', label).catch(() => '');
      // It may be on its way out already.
      if (ids !== '') await lab.engine(host, 'kill', chance.pick(ids.split('\n'))).catch(() => '');
    },
    async 'the resolver dies'(chance) {
      const kill = 'pkill -9 -f "[n]etwork/resolver/main" || true';
      await lab.exec(chance.pick(HOSTS), 'sh', '-c', kill).catch(() => '');
    },
    'droverd pauses': (chance) => halted(chance.pick(WORKERS), 1_500),
    'droverd is away for so long that its node is given up': (chance) => halted(chance.pick(WORKERS), 4_000),
    async 'droverd is killed'(chance) {
      await lab.drover('restart-daemon', chance.pick(['h1', 'h2']));
    },
    async 'h3 loses power'() {
      await lab.drover('kill', 'h3');
      await eventually('h3 is down', async () => (await statusOf('h3')) === 'Down');
      await lab.drover('start', 'h3');
    },
    async 'the service is scaled'(chance) {
      replicas = chance.pick([2, 3, 6, 9]);
      // The manager may be the one that was killed just now.
      await eventually('it is scaled', () => lab.docker('h1', 'service', 'scale', '--detach', `web=${replicas}`));
    },
  };

  test(`${ROUNDS} rounds of one to three at once`, { timeout: ROUNDS * ROUND_MS }, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const names = new Set(Array.from({ length: chance.pick([1, 2, 3]) }, () => chance.pick(Object.keys(faults))));
      const what = `round ${round} (seed ${seed}): ${[...names].join(', ')}`;
      await Promise.all([...names].map((name) => faults[name]!(chance.of(`${round} ${name}`))));
      await eventually(`${what}: all run`, async () => {
        const states = await Promise.all(HOSTS.map(statusOf));
        return states.every((state) => state === 'Ready') && (await lab.runningOn('web')).length === replicas;
      });
      await eventually(`${what}: a clean audit`, async () => {
        await lab.drover('audit');
        return true;
      });
      for (const host of HOSTS) {
        const url = `http://${await lab.address(host)}:8080/`;
        // They take turns: each is called at least once.
        for (let call = 0; call < replicas; call++)
          expect(await get(url).then(({ status }) => status, String), `${what}: call ${call} of ${host}`).toBe(200);
      }
    }
  });
});
