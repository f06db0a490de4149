/**
 * Rollouts on real engines, through the untouched docker client: bad versions under each policy, with what `service ps`,
 * UpdateStatus and the client's exit code say of them; canaries, confirmation and rollback; a manager that dies half-way.
 */
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, Lab, run, type Result } from './lab.ts';

const DROVER = resolve(import.meta.dirname, '../../bin/drover');

describe('updates', () => {
  let lab: Lab;

  beforeAll(async () => {
    lab = await Lab.up('updates', { hosts: 2 });
  });
  afterAll(async () => {
    await lab?.down();
  });

  const FAST = [
    '--update-monitor',
    '1s',
    '--rollback-monitor',
    '500ms',
    '--stop-grace-period',
    '1s',
    '--restart-delay',
    '300ms',
  ];
  const create = (name: string, ...args: string[]) =>
    lab.docker('h1', 'service', 'create', '--detach', '--no-resolve-image', '--init', '--name', name, ...FAST, ...args);
  /** Attached, as people do it: the client follows the rollout and its exit code says how it ended. */
  const update = (...args: string[]): Promise<Result> =>
    lab.tryDocker('h1', 'service', 'update', '--no-resolve-image', ...args);
  const inspect = (format: string, service: string) =>
    lab.docker('h1', 'service', 'inspect', '--format', format, service);
  const state = (service: string) => inspect('{{.UpdateStatus.State}}', service);
  const message = (service: string) => inspect('{{.UpdateStatus.Message}}', service);
  const drover = async (...args: string[]): Promise<Result> =>
    run(DROVER, args, { env: { DOCKER_HOST: await lab.socket('h1'), DOCKER_CONTEXT: undefined } });
  const until = (what: string, service: string, holds: () => Promise<boolean>) =>
    eventually(`${service}: ${what}`, holds);

  interface Row {
    id: string;
    slot: string;
    node: string;
    desired: string;
    state: string;
    error: string;
    image: string;
  }
  async function ps(service: string): Promise<Row[]> {
    const format = '{{.ID}}\t{{.Name}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}\t{{.Image}}';
    const out = await lab.docker('h1', 'service', 'ps', '--no-trunc', '--format', format, service);
    return out.split('\n').map((line) => {
      const [id = '', name = '', node = '', desired = '', is = '', error = '', image = ''] = line.split('\t');
      const slot = name.replace('\\_ ', '').trim();
      return { id, slot, node, desired, state: is.split(' ')[0]!, error, image: image.split('/').at(-1)! };
    });
  }
  /** Images of the tasks that run and are wanted, by slot. */
  const images = async (service: string) =>
    (await ps(service))
      .filter((row) => row.desired === 'Running' && row.state === 'Running')
      .sort((a, b) => a.slot.localeCompare(b.slot))
      .map(({ image }) => image);
  const ids = async (service: string) =>
    (await ps(service))
      .filter(({ desired, state: is }) => desired === 'Running' && is === 'Running')
      .map(({ id }) => id);

  interface Bad {
    what: string;
    args: (order: string) => string[];
    /** What `service ps` and UpdateStatus say. */
    reason: RegExp;
  }
  const BAD: Bad[] = [
    {
      what: 'exits',
      // It is seen to run before it ends. Stop-first, without a health check, the delay is what keeps the next slot from its fate.
      args: (order) => [
        '--image',
        lab.image('busybox:latest'),
        '--args',
        'sh -c "sleep 0.1; exit 3"',
        ...(order === 'stop-first' ? ['--update-delay', '20s'] : []),
      ],
      reason: /task: non-zero exit \(3\)/,
    },
    {
      what: 'sick',
      args: () => ['--health-cmd', 'false', '--health-interval', '200ms', '--health-retries', '1'],
      reason: /unhealthy/,
    },
    { what: 'missing', args: () => ['--image', `${lab.registry}/missing:1`], reason: /No such image/ },
    {
      what: 'nowhere',
      args: () => ['--constraint-add', 'node.labels.no==such', '--label-add', 'drover.update.progress-deadline=2s'],
      reason: /no suitable node \(scheduling constraints not satisfied on 2 nodes\)/,
    },
  ];

  // All at once: what takes time is the client, which watches each service for its monitor period.
  describe.each(['stop-first', 'start-first'])('a bad version, %s', (order) => {
    const short = order.split('-')[0]!;
    const expectStayed = (before: string[], after: string[], what: string): void => {
      const stayed = before.filter((id) => after.includes(id)).length;
      if (order === 'start-first') expect(stayed, what).toBe(2);
      else expect(stayed, what).toBeGreaterThanOrEqual(1);
    };

    test('pause: the client fails, the reason is said, the rest is as before', async () => {
      await Promise.all(
        BAD.map(async ({ what, args, reason }) => {
          const name = `${what}-${short}-pause`;
          await create(name, '--replicas', '2', '--update-order', order, lab.image('web:1'));
          await lab.converged(name, 2);
          const before = await ids(name);
          const answer = await update(...args(order), '--force', name);
          const said = await message(name);
          expect(answer.code, `${name}: ${answer.stdout}${answer.stderr}`).toBe(1);
          expect(answer.stderr).toContain(`service update paused: ${said}`);
          expect(said).toMatch(/^update paused due to failure or early termination of task \w{25}: /);
          expect(said).toMatch(reason);
          const [, failed] = /task (\w{25})/.exec(said)!;
          expect((await ps(name)).find(({ id }) => id === failed)?.error).toMatch(reason);
          expect(await state(name)).toBe('paused');
          const after = await ids(name);
          expectStayed(before, after, what);
        }),
      );
    });

    test('rollback: the client ends well, the reason is said, all is as before', async () => {
      await Promise.all(
        BAD.map(async ({ what, args, reason }) => {
          const name = `${what}-${short}-back`;
          const policy = ['--update-failure-action', 'rollback', '--rollback-order', order, '--update-order', order];
          await create(name, '--replicas', '2', ...policy, lab.image('web:1'));
          await lab.converged(name, 2);
          const before = await ids(name);
          const answer = await update(...args(order), '--force', name);
          expect(answer.code, `${name}: ${answer.stdout}${answer.stderr}`).toBe(0);
          expect(answer.stdout).toMatch(/rolled back|rollback completed/);
          await until('rolled back', name, async () => (await state(name)) === 'rollback_completed');
          expect(await message(name)).toMatch(
            /^rollback completed \(update rolled back due to failure or early termination of task \w{25}: /,
          );
          expect(await message(name)).toMatch(reason);
          await lab.converged(name, 2);
          const after = await ids(name);
          expectStayed(before, after, what);
          expect((await ps(name)).map(({ error }) => error).join('\n')).toMatch(reason);
        }),
      );
      await lab.docker(
        'h1',
        'service',
        'rm',
        ...BAD.flatMap(({ what }) => [`${what}-${short}-pause`, `${what}-${short}-back`]),
      );
    });
  });

  test('a manager that is killed in the middle of a rollout goes on where it was', async () => {
    const name = 'survives';
    await create(name, '--replicas', '4', '--update-delay', '2s', lab.image('web:1'));
    await lab.converged(name, 4);
    const begin = Date.now();
    await lab.docker('h1', 'service', 'update', '--detach', '--no-resolve-image', '--image', lab.image('web:2'), name);
    await until('one is updated', name, async () => (await images(name)).includes('web:2'));
    await lab.drover('restart-daemon', 'h1', '--signal', 'SIGKILL');
    let most = 0;
    await until('completed', name, async () => {
      most = Math.max(most, 4 - (await images(name)).length);
      return (await state(name)) === 'completed';
    });
    expect(await images(name)).toEqual(Array(4).fill('web:2'));
    expect(most).toBeLessThanOrEqual(1);
    expect(Date.now() - begin).toBeGreaterThan(3 * 2000);
    await lab.docker('h1', 'service', 'rm', name);
  });

  test('canaries: promoted, and aborted', async () => {
    const name = 'canary';
    const canary = [
      '--update-order',
      'start-first',
      '--rollback-parallelism',
      '0',
      '--label',
      'drover.update.canary=50%',
    ];
    await create(name, '--replicas', '4', ...canary, lab.image('web:1'));
    await lab.converged(name, 4);
    const refused = await drover('service', 'promote', name);
    expect([refused.code, refused.stderr]).toEqual([
      1,
      `Error: service ${name} has no canaries to promote: it is not being updated\n`,
    ]);
    const waits = () =>
      until('waits', name, async () => (await message(name)).startsWith('waiting with 2 of 4 tasks updated: '));
    const to = (image: string) =>
      lab.docker('h1', 'service', 'update', '--detach', '--no-resolve-image', '--image', lab.image(image), name);
    await to('web:2');
    await waits();
    expect((await images(name)).sort()).toEqual(['web:1', 'web:1', 'web:2', 'web:2']);
    const status = await drover('service', 'status', name);
    expect(status.stdout).toMatch(/State: +updating\nMessage: +waiting with 2 of 4 tasks updated/);
    expect(await drover('service', 'promote', name)).toMatchObject({ code: 0, stdout: `${name}\n` });
    await until('completed', name, async () => (await state(name)) === 'completed');
    expect(await images(name)).toEqual(Array(4).fill('web:2'));

    await to('web:1');
    await waits();
    const stayed = (await ps(name))
      .filter((row) => row.state === 'Running' && row.image === 'web:2')
      .map(({ id }) => id);
    expect(await drover('service', 'abort', name)).toMatchObject({ code: 0 });
    await until('rolled back', name, async () => (await state(name)) === 'rollback_completed');
    expect(await message(name)).toBe('rollback completed (update aborted)');
    expect(await images(name)).toEqual(Array(4).fill('web:2'));
    expect(await ids(name)).toEqual(expect.arrayContaining(stayed));
    await lab.docker('h1', 'service', 'rm', name);
  });

  test('an update that is to be confirmed: what was is kept, and comes back at once', async () => {
    const name = 'confirm';
    await create(name, '--replicas', '4', '--label', 'drover.update.confirm=true', lab.image('web:1'));
    await lab.converged(name, 4);
    const to = (image: string) => update('--update-parallelism', '0', '--image', lab.image(image), name);
    const waits = () => until('waits', name, async () => (await message(name)).startsWith('waiting for confirmation'));
    // The attached client ends as soon as the new tasks have proved stable.
    expect((await to('web:2')).code).toBe(0);
    await waits();
    const begin = Date.now();
    expect(await drover('service', 'rollback', name)).toMatchObject({ code: 0 });
    await until(
      'the old version runs',
      name,
      async () => (await images(name)).join() === Array(4).fill('web:1').join(),
    );
    const tookMs = Date.now() - begin;
    console.log(`rollback of 4 kept tasks: ${tookMs} ms until all run, as the client sees it`);
    await until('rolled back', name, async () => (await state(name)) === 'rollback_completed');
    expect((await to('web:2')).code).toBe(0);
    await waits();
    expect(await drover('service', 'confirm', name)).toMatchObject({ code: 0 });
    await until('completed', name, async () => (await state(name)) === 'completed');
    expect(await message(name)).toBe('update completed');
    await lab.docker('h1', 'service', 'rm', name);
  });

  test('docker service rollback, with nothing before and with something', async () => {
    const name = 'back';
    await create(name, '--replicas', '2', lab.image('web:1'));
    await lab.converged(name, 2);
    const nothing = await lab.tryDocker('h1', 'service', 'rollback', name);
    expect(nothing.code).toBe(1);
    expect(nothing.stderr).toMatch(/service \w{25} does not have a previous spec/);
    expect((await update('--image', lab.image('web:2'), '--update-parallelism', '2', name)).code).toBe(0);
    const back = await lab.tryDocker('h1', 'service', 'rollback', name);
    expect([back.code, back.stdout]).toEqual([0, expect.stringContaining('manually requested rollback')]);
    expect(await images(name)).toEqual(['web:1', 'web:1']);
    const again = await lab.tryDocker('h1', 'service', 'update', '--rollback', name);
    expect(again.code).toBe(0);
    expect(await images(name)).toEqual(['web:2', 'web:2']);
    await lab.docker('h1', 'service', 'rm', name);
  });

  test('a label that cannot be meant is refused, and says what would be right', async () => {
    const refused = async (label: string) => {
      const answer = await lab.tryDocker(
        'h1',
        'service',
        'create',
        '--detach',
        '--name',
        'bad',
        '--label',
        label,
        lab.image('web:1'),
      );
      return answer.stderr;
    };
    expect(await refused('drover.update.canary=none')).toContain(
      'label drover.update.canary: "none" is not understood: a number of tasks from 1, or a percentage from 1% to 100% is needed',
    );
    expect(await refused('drover.update.progress-deadline=10')).toContain('a duration such as 5s or 1m30s is needed');
    expect(await refused('drover.update.confrm=true')).toContain(
      'label drover.update.confrm: there is none of that name',
    );
  });
});
