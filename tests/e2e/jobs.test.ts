/**
 * Jobs, crash loops and rebalancing on real engines, through the untouched docker client: what it prints while it waits,
 * what it ends with, and what `docker service ls` and `ps` show.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, Lab, run, succeed } from './lab.ts';

const CLONE = new URL('../../bin/drover', import.meta.url).pathname;

describe('jobs, crash loops, rebalancing', () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await Lab.up('jobs', { hosts: 3 });
  });
  afterAll(async () => {
    await lab?.down();
  });

  const shell = (script: string) => [lab.image('busybox:latest'), 'sh', '-c', script];
  const create = (name: string, ...args: string[]) =>
    lab.docker('h1', 'service', 'create', '--no-resolve-image', '--name', name, ...args);
  /** `docker service ls`: `0/3 (3/5 completed)`. */
  const replicas = (name: string) =>
    lab.docker('h1', 'service', 'ls', '--filter', `name=${name}`, '--format', '{{.Replicas}}');
  /** `docker service ps`: `<desired> <state> <error>`, newest first in each slot. */
  async function ps(name: string, format = '{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}'): Promise<string[]> {
    const out = await lab.docker('h1', 'service', 'ps', '--no-trunc', '--format', format, name);
    const lines = out === '' ? [] : out.split('\n');
    return lines.map((line) => line.replaceAll(/(Complete|Failed|Running|Shutdown|Ready) [^\t]*/g, '$1').trimEnd());
  }
  const inspect = async <T>(name: string) =>
    (JSON.parse(await lab.docker('h1', 'service', 'inspect', name)) as T[])[0]!;

  async function drover(...args: string[]) {
    return run(CLONE, args, { env: { DOCKER_HOST: await lab.socket('h1') } });
  }

  test('a replicated job: the attached client follows it to its end', async () => {
    const out = await create(
      'batch',
      '--mode',
      'replicated-job',
      '--replicas',
      '5',
      '--max-concurrent',
      '2',
      '--env',
      'INDEX={{.Task.Slot}}',
      ...shell('echo "I am $INDEX"; sleep 0.5'),
    );
    expect(out).toContain('job complete');
    expect(await replicas('batch')).toBe('0/2 (5/5 completed)');
    expect(await ps('batch', '{{.Name}}\t{{.DesiredState}}\t{{.CurrentState}}')).toEqual(
      expect.arrayContaining([1, 2, 3, 4].map((slot) => `batch.${slot}\tComplete\tComplete`)),
    );
    const { JobStatus } = await inspect<{ JobStatus: { JobIteration: { Index?: number }; LastExecution: string } }>(
      'batch',
    );
    expect(JobStatus.JobIteration.Index ?? 0).toBe(0);
    expect(Date.now() - Date.parse(JobStatus.LastExecution)).toBeLessThan(120_000);
    const indexes = await Promise.all(
      ['h1', 'h2', 'h3'].map(async (host) => {
        const ids = await lab.engine(host, 'ps', '-aq', '--filter', 'label=com.docker.swarm.service.name=batch');
        return Promise.all(
          ids
            .split('\n')
            .filter(Boolean)
            .map((id) => lab.engine(host, 'logs', id)),
        );
      }),
    );
    expect(indexes.flat().sort()).toEqual([0, 1, 2, 3, 4].map((index) => `I am ${index}`));
  });

  test('tasks in a network that end at once have completed: none was too short for it', async () => {
    await lab.docker('h1', 'network', 'create', '--driver', 'overlay', 'quick');
    await create('quick', '--mode', 'replicated-job', '--replicas', '30', '--network', 'quick', ...shell('true'));
    expect(await ps('quick')).toEqual(Array(30).fill('Complete\tComplete'));
    await lab.docker('h1', 'service', 'rm', 'quick');
    await eventually('its network is free', () => lab.docker('h1', 'network', 'rm', 'quick'));
  });

  test('it runs again when it is changed or forced, and keeps what was', async () => {
    expect(await lab.docker('h1', 'service', 'update', '--force', '--no-resolve-image', 'batch')).toContain(
      'job complete',
    );
    expect(await replicas('batch')).toBe('0/2 (5/5 completed)');
    const rows = (await ps('batch')).sort();
    expect(rows).toEqual([...Array(5).fill('Complete\tComplete'), ...Array(5).fill('Shutdown\tComplete')]);
    expect(await lab.docker('h1', 'service', 'scale', 'batch=1')).toContain('job complete');
    expect(await replicas('batch')).toBe('0/2 (1/1 completed)');
    expect(await lab.docker('h1', 'service', 'rollback', 'batch')).toContain('job complete');
    expect(await replicas('batch')).toBe('0/2 (5/5 completed)');
    const refused = await lab.tryDocker('h1', 'service', 'update', '--update-parallelism', '2', 'batch');
    expect(refused.stderr).toContain('Jobs may not have an update config');
    expect(refused.code).toBe(1);
  });

  test('a task that fails is tried again as often as the policy says; then its slot has failed for good', async () => {
    const policy = ['--restart-delay', '100ms', '--restart-max-attempts', '2'];
    await create(
      'fails',
      '--detach',
      '--mode',
      'replicated-job',
      '--replicas',
      '2',
      '--max-concurrent',
      '1',
      ...policy,
      ...shell('exit 7'),
    );
    const rows = await eventually('both slots have failed for good', async () => {
      const all = await ps('fails');
      return all.length === 6 && all.every((row) => row.startsWith('Shutdown\tFailed')) && all;
    });
    expect(new Set(rows)).toEqual(new Set(['Shutdown\tFailed\t"task: non-zero exit (7)"']));
    expect(await replicas('fails')).toBe('0/1 (0/2 completed)');
    await lab.docker('h1', 'service', 'update', '--detach', '--no-resolve-image', '--args', 'sh -c true', 'fails');
    await eventually('the next run completes', async () => (await replicas('fails')) === '0/1 (2/2 completed)');
  });

  test('a job in a stack; one that was not changed does not run again', async () => {
    const file = `services:\n  migrate:\n    image: ${lab.image('busybox:latest')}\n    command: "true"\n    deploy: {mode: replicated-job, replicas: 2}\n`;
    const deploy = async () =>
      succeed('docker', ['stack', 'deploy', '--resolve-image', 'never', '--detach=true', '-c', '-', 'shop'], {
        env: { DOCKER_HOST: await lab.socket('h1') },
        input: file,
      });
    await deploy();
    await eventually('migrated', async () => (await replicas('shop_migrate')) === '0/2 (2/2 completed)');
    const before = await ps('shop_migrate', '{{.ID}}');
    await deploy();
    expect(await ps('shop_migrate', '{{.ID}}')).toEqual(before);
    await lab.docker('h1', 'stack', 'rm', 'shop');
  });

  test('a crash loop is slowed, and says so', async () => {
    await create('loops', '--detach', '--restart-delay', '100ms', ...shell('exit 3'));
    const waiting = await eventually('it waits', async () => {
      const [newest] = await ps('loops');
      return newest?.includes('crash loop') === true && newest;
    });
    expect(waiting).toMatch(/^Ready\t.*crash loop: \d+ quick failures in a row; not started before 20.*Z/);
    expect((await ps('loops')).at(-1)).toBe('Shutdown\tFailed\t"task: non-zero exit (3)"');
    await lab.docker('h1', 'service', 'rm', 'loops');
    const refused = await lab.tryDocker(
      'h1',
      'service',
      'create',
      '--name',
      'slow',
      '--label',
      'drover.restart.backoff=slow',
      ...shell('true'),
    );
    expect(refused.stderr).toContain('label drover.restart.backoff: "slow" is not understood: off is needed');
  });

  test('an unhealthy task says what its health check said', async () => {
    const check = ['--health-cmd', 'echo no database; exit 1', '--health-interval', '500ms', '--health-retries', '1'];
    const options = ['--detach', '--restart-condition', 'none', '--init', ...check];
    await create('sick', ...options, ...shell('sleep 1000'));
    const rows = await eventually('it has ended', async () => {
      const all = await ps('sick');
      return all[0]?.startsWith('Shutdown\tFailed') === true && all;
    });
    expect(rows).toEqual([
      expect.stringMatching(/"task: non-zero exit \(\d+\): dockerexec: unhealthy container: no database"$/),
    ]);
  });

  test('a global job, a drain in the middle of jobs, and a rebalance when the node returns', async () => {
    const spread = ['--replicas', '6', '--label', 'drover.drain=0', ...shell('trap "exit 0" TERM; sleep 1000 & wait')];
    const web = create('web', '--detach', ...spread);
    const auto = create('auto', '--detach', '--label', 'drover.rebalance=auto', ...spread);
    await Promise.all([web, auto]);
    await Promise.all([lab.converged('web', 6), lab.converged('auto', 6)]);
    const h3IsEmpty = () =>
      eventually('h3 is empty', async () => {
        const nodes = [...(await lab.runningOn('web')), ...(await lab.runningOn('auto'))];
        return nodes.length === 12 && !nodes.includes('h3');
      });
    await create(
      'work',
      '--detach',
      '--mode',
      'replicated-job',
      '--replicas',
      '3',
      ...shell('trap "exit 1" TERM; sleep 4 & wait'),
    );
    await eventually('all three work', async () => (await replicas('work')) === '3/3 (0/3 completed)');
    await lab.docker('h1', 'node', 'update', '--availability', 'drain', 'h3');
    expect(await create('everywhere', '--mode', 'global-job', ...shell('true'))).toContain('job complete');
    expect(await replicas('everywhere')).toBe('0/0 (2/2 completed)');
    await eventually('the work is done on other nodes', async () => (await replicas('work')) === '0/3 (3/3 completed)');
    await h3IsEmpty();

    await lab.docker('h1', 'node', 'update', '--availability', 'active', 'h3');
    await eventually('the job runs on h3 too', async () => (await replicas('everywhere')) === '0/0 (3/3 completed)');
    const plan = await drover('rebalance', '--dry-run');
    expect(plan.stdout).toMatch(/TASK +FROM +TO\n/);
    expect(plan.stdout.match(/^web\.\d +h[12] +h3$/gm)).toHaveLength(2);
    expect(await lab.runningOn('web')).not.toContain('h3');

    const done = await drover('rebalance');
    expect(done).toMatchObject({ code: 0, stderr: '' });
    expect(done.stdout.match(/^moved web\.\d from h[12] to h3$/gm)).toHaveLength(2);
    const even = ['h1', 'h1', 'h2', 'h2', 'h3', 'h3'];
    expect((await lab.runningOn('web')).sort()).toEqual(even);
    const autoIsEven = () =>
      eventually('auto is even', async () => (await lab.runningOn('auto')).sort().join() === even.join());
    await autoIsEven();
    expect((await drover('rebalance')).stdout).toBe('Nothing to move.\n');

    await lab.docker('h1', 'node', 'update', '--availability', 'drain', 'h3');
    await h3IsEmpty();
    await lab.docker('h1', 'node', 'update', '--availability', 'active', 'h3');
    await autoIsEven();
    expect(await lab.runningOn('web')).not.toContain('h3');
  });
});
