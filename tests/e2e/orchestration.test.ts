/**
 * What users know of Swarm's orchestration, seen through the untouched docker client: restarts, history, placement and
 * its reasons, updates, nodes that pause, drain and go, and what `docker service ps` says of it all.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, get, Lab, run } from './lab.ts';

const hosts = ['h1', 'h2'];

interface Row {
  id: string;
  name: string;
  node: string;
  desired: string;
  /** Without how long ago: `Running`. */
  state: string;
  error: string;
  image: string;
}

describe('orchestration', () => {
  let lab: Lab;

  beforeAll(async () => {
    lab = await Lab.up('orchestration', { hosts: hosts.length });
  });
  afterAll(async () => {
    await lab?.down();
  });

  const create = (name: string, ...args: string[]) =>
    lab.docker('h1', 'service', 'create', '--detach', '--no-resolve-image', '--name', name, ...args);
  const update = (...args: string[]) =>
    lab.docker('h1', 'service', 'update', '--detach', '--no-resolve-image', ...args);
  const remove = (...names: string[]) => lab.docker('h1', 'service', 'rm', ...names);
  /** What busybox does in a task. */
  const shell = (script: string) => [lab.image('busybox:latest'), 'sh', '-c', script];

  /** `docker service ps`: by slot, the newest task first. */
  async function ps(service: string): Promise<Row[]> {
    const format = '{{.ID}}\t{{.Name}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}\t{{.Image}}';
    const out = await lab.docker('h1', 'service', 'ps', '--no-trunc', '--format', format, service);
    return out
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [id = '', name = '', node = '', desired = '', state = '', error = '', image = ''] = line.split('\t');
        return { id, name: name.replace('\\_ ', '').trim(), node, desired, state: state.split(' ')[0]!, error, image };
      });
  }

  const wanted = async (service: string) =>
    (await ps(service)).filter(({ desired }) => desired === 'Running' || desired === 'Ready');
  const idsOf = async (service: string) => (await wanted(service)).map(({ id }) => id).sort();

  /** `<id> <state>` of every container of a service, over all hosts. */
  async function containers(service: string): Promise<string[]> {
    const found = await Promise.all(
      hosts.map((host) =>
        lab.engine(
          host,
          'ps',
          '-a',
          '--filter',
          `label=com.docker.swarm.service.name=${service}`,
          '--format',
          '{{.ID}} {{.State}}',
        ),
      ),
    );
    return found
      .join('\n')
      .split('\n')
      .filter((line) => line !== '');
  }

  const noContainers = (service: string) =>
    eventually(`no container of ${service}`, async () => (await containers(service)).length === 0);

  /** Waits until a slot is finished: nothing more is wanted of it. Resolves with its tasks. */
  const finished = (service: string) =>
    eventually(`${service} is finished`, async () => {
      const rows = await ps(service);
      return rows.length > 0 && rows.every(({ desired }) => desired === 'Shutdown') && rows;
    });

  /** Waits until a wanted task of the service waits for that reason. */
  const waits = (service: string, reason: string) =>
    eventually(`${service}: ${reason}`, async () => {
      const rows = await wanted(service);
      if (rows.some(({ state, error }) => state === 'Pending' && error.includes(reason))) return true;
      throw new Error(JSON.stringify(rows));
    });

  const updated = (service: string, state = 'completed') =>
    eventually(`${service}: update ${state}`, async () => {
      return (await lab.docker('h1', 'service', 'inspect', '--format', '{{.UpdateStatus.State}}', service)) === state;
    });

  describe('restart', () => {
    const MAX = ['--restart-delay', '100ms', '--restart-max-attempts'];

    test('conditions, attempts and windows, with exit codes and their words', async () => {
      const any = ['--restart-condition', 'any', ...MAX];
      const onFailure = ['--restart-condition', 'on-failure', ...MAX];
      await create('none-ok', '--restart-condition', 'none', ...shell('exit 0'));
      await create('none-bad', '--restart-condition', 'none', ...shell('exit 3'));
      await create('fail-ok', ...onFailure, '2', ...shell('exit 0'));
      await create('fail-bad', ...onFailure, '2', ...shell('exit 1'));
      await create('any-ok', ...any, '1', ...shell('exit 0'));
      await create('in-window', ...any, '1', '--restart-window', '1m', ...shell('exit 4'));
      await create('out-of-window', ...any, '1', '--restart-window', '300ms', ...shell('sleep 0.5; exit 5'));
      const outcome = async (service: string) =>
        (await finished(service)).map(({ state, error }) => `${state} ${error}`.trim());
      expect(await outcome('none-ok')).toEqual(['Complete']);
      expect(await outcome('none-bad')).toEqual(['Failed "task: non-zero exit (3)"']);
      expect(await outcome('fail-ok')).toEqual(['Complete']);
      expect(await outcome('fail-bad')).toEqual(Array(3).fill('Failed "task: non-zero exit (1)"'));
      expect(await outcome('any-ok')).toEqual(['Complete', 'Complete']);
      expect(await outcome('in-window')).toEqual(Array(2).fill('Failed "task: non-zero exit (4)"'));
      await eventually('attempts before the window are forgotten', async () => {
        return (await ps('out-of-window')).filter(({ error }) => error.includes('(5)')).length >= 3;
      });
      await remove('none-ok', 'none-bad', 'fail-ok', 'fail-bad', 'any-ok', 'in-window', 'out-of-window');
    });

    test('the delay is kept, by a task that starts and fails as by one that cannot even be made', async () => {
      await create('slow', '--restart-delay', '1h', ...shell('exit 1'));
      await create('missing', '--restart-delay', '1h', `${lab.registry}/missing:1`);
      const [next, failed] = await eventually('a task that waits to be started', async () => {
        const rows = await ps('slow');
        return rows.length === 2 && rows[0]!.state === 'Ready' && rows;
      });
      expect([next!.desired, failed!.desired, failed!.state]).toEqual(['Ready', 'Shutdown', 'Failed']);
      // The second try, made ready ahead, is refused as well; a third one waits for the hour to pass.
      const rows = await eventually('two refused tasks', async () => {
        const all = await ps('missing');
        return all.filter(({ state }) => state === 'Rejected').length === 2 && all;
      });
      expect(rows.map(({ desired, state }) => `${desired} ${state}`)).toEqual(['Ready Rejected', 'Shutdown Rejected']);
      for (const { error } of rows) expect(error).toMatch(new RegExp(`^"No such image: ${lab.registry}/missing:1`));
      await remove('slow', 'missing');
    });

    test('five dead tasks a slot are remembered; what is forgotten leaves no container', async () => {
      await create('loop', '--restart-delay', '50ms', '--constraint', 'node.hostname==h1', ...shell('exit 1'));
      const seen = new Set<string>();
      await eventually('ten tasks have been', async () => {
        for (const { id } of await ps('loop')) seen.add(id);
        return seen.size >= 10;
      });
      await update('--restart-condition', 'none', 'loop');
      await eventually('one slot, at rest, with its history', async () => {
        const [rows, left] = [await finished('loop'), await containers('loop')];
        expect(rows.length).toBeGreaterThanOrEqual(5);
        expect(rows.length).toBeLessThanOrEqual(6);
        // What was dropped is gone; what is remembered keeps its container, for its logs, if it was ever started.
        const ran = rows.filter(({ state }) => state !== 'Shutdown');
        expect(left.length).toBe(ran.length);
        expect(rows.length - ran.length).toBeLessThanOrEqual(1);
        return true;
      });
      await remove('loop');
      await noContainers('loop');
    });
  });

  describe('placement', () => {
    test('as many on a node as --replicas-max-per-node allows, and the reason', async () => {
      await create('few', '--replicas', '3', '--replicas-max-per-node', '1', lab.image('web:1'));
      expect((await lab.converged('few', 2)).sort()).toEqual(hosts);
      await waits('few', 'no suitable node (max replicas per node limit exceed)');
      await update('--replicas-max-per-node', '2', 'few');
      await lab.converged('few', 3);
      await remove('few');
    });

    test('what is reserved and not there is said, and taken as soon as it is free', async () => {
      const total = Number(
        await lab.docker('h1', 'node', 'inspect', '--format', '{{.Description.Resources.MemoryBytes}}', 'h1'),
      );
      const most = String(Math.floor(total * 0.6));
      await create('big', '--replicas', '2', '--reserve-memory', most, lab.image('web:1'));
      await lab.converged('big', 2);
      await create('late', '--reserve-memory', most, lab.image('web:1'));
      await create('huge', '--reserve-cpu', '1000', lab.image('web:1'));
      await waits('late', 'no suitable node (insufficient memory on 2 nodes)');
      await waits('huge', 'no suitable node (insufficient CPU on 2 nodes)');
      await lab.docker('h1', 'service', 'scale', '--detach', 'big=1');
      expect(await lab.converged('late', 1)).toHaveLength(1);
      await remove('big', 'late', 'huge');
    });

    test('a port of the host goes to one task a node; the next is told', async () => {
      const published = ['--publish', 'mode=host,published=8123,target=8080'];
      await create('first', '--mode', 'global', ...published, lab.image('web:1'));
      await lab.converged('first', 2);
      const address = await lab.address('h2');
      await eventually('it answers', async () => (await get(`http://${address}:8123/`)).status === 200);
      await create('second', ...published, lab.image('web:1'));
      await waits('second', 'no suitable node (host-mode port already in use on 2 nodes)');
      const ports = await lab.docker(
        'h1',
        'service',
        'ps',
        '--filter',
        'desired-state=running',
        '--format',
        '{{.Ports}}',
        'first',
      );
      expect(ports.split('\n')).toEqual(['*:8123->8080/tcp', '*:8123->8080/tcp']);
      await remove('first');
      await lab.converged('second', 1);
      await remove('second');
    });

    test('a tag that its registry no longer has starts where it is present', async () => {
      const image = `${lab.registry}/kept:1`;
      await lab.engine('h1', 'tag', lab.image('web:1'), image);
      const digest = /digest: (sha256:\w+)/.exec(await lab.engine('h1', 'push', image))![1]!;
      const manifests = `http://${lab.registry}/v2/kept/manifests`;
      expect((await get(`${manifests}/1`)).status).toBe(200);
      expect((await fetch(`${manifests}/${digest}`, { method: 'DELETE' })).status).toBe(202);
      const made = await lab.tryDocker(
        'h1',
        'service',
        'create',
        '--detach',
        '--name',
        'kept',
        '--constraint',
        'node.hostname==h1',
        image,
      );
      expect(made.stderr).toContain(`image ${image} could not be accessed on a registry to record`);
      await lab.converged('kept', 1);
      await remove('kept');
    });
  });

  describe('scale and removal', () => {
    test('to zero, and back', async () => {
      await create('web', '--replicas', '4', lab.image('web:1'));
      await lab.converged('web', 4);
      await lab.docker('h1', 'service', 'scale', '--detach', 'web=0');
      await noContainers('web');
      await eventually('no task', async () => (await ps('web')).length === 0);
      expect(await lab.docker('h1', 'service', 'ls', '--filter', 'name=web', '--format', '{{.Replicas}}')).toBe('0/0');
      await lab.docker('h1', 'service', 'scale', '--detach', 'web=3');
      await lab.converged('web', 3);
      expect((await ps('web')).map(({ name }) => name).sort()).toEqual(['web.1', 'web.2', 'web.3']);
    });

    test('removed while its tasks are starting', async () => {
      await create('brief', '--replicas', '6', '--health-cmd', 'false', '--health-interval', '10s', lab.image('web:2'));
      await remove('brief');
      await create('brief', '--replicas', '6', '--health-cmd', 'false', '--health-interval', '10s', lab.image('web:2'));
      await eventually('a task is starting', async () => (await ps('brief')).some(({ state }) => state === 'Starting'));
      await remove('brief');
      await noContainers('brief');
      expect(
        (await run('docker', ['service', 'ps', 'brief'], { env: { DOCKER_HOST: await lab.socket('h1') } })).stderr,
      ).toContain('no such service: brief');
    });
  });

  describe('update', () => {
    test('image, environment, arguments and labels of the container replace the tasks; what is behind them does not', async () => {
      const inspect = async (format: string) => {
        const [row] = await wanted('web');
        return lab.engine(row!.node, 'inspect', '--format', format, `${row!.name}.${row!.id}`);
      };
      const replaced = async (...args: string[]) => {
        const before = await idsOf('web');
        await update('--update-monitor', '100ms', ...args, 'web');
        await updated('web');
        const after = await idsOf('web');
        expect(after).toHaveLength(3);
        return after.filter((id) => !before.includes(id)).length;
      };
      expect(
        await replaced('--image', lab.image('web:2'), '--env-add', 'A=1', '--args', '/bin/httpd -f -p 8081 -h /www'),
      ).toBe(3);
      expect(await inspect('{{.Config.Image}} {{.Config.Cmd}}')).toBe(
        `${lab.image('web:2')} [/bin/httpd -f -p 8081 -h /www]`,
      );
      expect(await inspect('{{json .Config.Env}}')).toContain('"A=1"');
      expect(await replaced('--container-label-add', 'color=blue')).toBe(3);
      expect(await inspect('{{index .Config.Labels "color"}}')).toBe('blue');
      expect(await replaced('--force')).toBe(3);

      const before = await idsOf('web');
      await update(
        '--label-add',
        'color=red',
        '--update-parallelism',
        '2',
        '--constraint-add',
        'node.hostname!=h9',
        'web',
      );
      // What was asked for later is done: so that, too, has been looked at.
      await create('later', lab.image('web:1'));
      await lab.converged('later', 1);
      expect(
        await lab.docker('h1', 'service', 'inspect', '--format', '{{.Spec.Labels.color}} {{.UpdateStatus}}', 'web'),
      ).toBe('red <nil>');
      expect(await idsOf('web')).toEqual(before);
      await remove('later');
    });

    test('rollback swaps the last two specs, and swaps them back', async () => {
      const image = () =>
        lab.docker('h1', 'service', 'inspect', '--format', '{{.Spec.TaskTemplate.ContainerSpec.Image}}', 'web');
      const runsOn = async (tag: string) =>
        expect(new Set((await wanted('web')).map((row) => row.image))).toEqual(new Set([lab.image(tag)]));
      await update('--image', lab.image('web:1'), '--rollback-monitor', '100ms', 'web');
      await updated('web');
      for (const tag of ['web:2', 'web:1']) {
        await lab.docker('h1', 'service', 'rollback', '--detach', 'web');
        await updated('web', 'rollback_completed');
        expect(await image()).toBe(lab.image(tag));
        await runsOn(tag);
      }
      await remove('web');
    });
  });

  describe('nodes', () => {
    const availability = (what: string) => lab.docker('h1', 'node', 'update', '--availability', what, 'h2');

    test('a paused node keeps its tasks and gets no more', async () => {
      await create('web', '--replicas', '2', lab.image('web:1'));
      await lab.converged('web', 2);
      const before = await idsOf('web');
      await availability('pause');
      await lab.docker('h1', 'service', 'scale', '--detach', 'web=5');
      expect((await lab.converged('web', 5)).filter((node) => node === 'h2')).toHaveLength(1);
      expect(await idsOf('web')).toEqual(expect.arrayContaining(before));
      await create('there', '--constraint', 'node.hostname==h2', lab.image('web:1'));
      await waits(
        'there',
        'no suitable node (1 node not available for new tasks; scheduling constraints not satisfied on 1 node)',
      );
      await availability('active');
      await lab.converged('there', 1);
      await remove('there');
    });

    test('a global service leaves a drained node and returns with it', async () => {
      await create('every', '--mode', 'global', lab.image('web:1'));
      await lab.converged('every', 2);
      const [onH1] = (await wanted('every')).filter(({ node }) => node === 'h1');
      await availability('drain');
      expect(await lab.converged('every', 1)).toEqual(['h1']);
      expect(await lab.docker('h1', 'service', 'ls', '--filter', 'name=every', '--format', '{{.Replicas}}')).toBe(
        '1/1',
      );
      await eventually('h2 is empty', async () => (await lab.engine('h2', 'ps', '-q')) === '');
      await availability('active');
      expect((await lab.converged('every', 2)).sort()).toEqual(hosts);
      expect(await idsOf('every')).toContain(onH1!.id);
    });

    test('a node is removed once it is down; its tasks run elsewhere', async () => {
      await eventually('a clean audit', async () => {
        await lab.drover('audit');
        return true;
      });
      const early = await lab.tryDocker('h1', 'node', 'rm', 'h2');
      expect(early.stderr).toMatch(/node \w+ is not down and can't be removed/);
      await lab.docker('h1', 'service', 'scale', '--detach', 'web=8');
      await lab.converged('web', 8);
      const lost = (await wanted('web')).filter(({ node }) => node === 'h2').map(({ id }) => id);
      expect(lost.length).toBeGreaterThan(0);
      await lab.drover('kill', 'h2');
      await eventually(
        'h2 is down',
        async () => (await lab.docker('h1', 'node', 'ls', '--filter', 'name=h2', '--format', '{{.Status}}')) === 'Down',
      );
      await lab.docker('h1', 'node', 'rm', 'h2');
      expect(await lab.docker('h1', 'node', 'ls', '--format', '{{.Hostname}}')).toBe('h1');
      expect(new Set(await lab.converged('web', 8))).toEqual(new Set(['h1']));
      expect(await lab.converged('every', 1)).toEqual(['h1']);
      const states = (await ps('web')).filter(({ id }) => lost.includes(id)).map(({ state }) => state);
      expect(states).toEqual(lost.map(() => 'Orphaned'));
      await remove('web', 'every');
      await eventually('no container left', async () => (await lab.engine('h1', 'ps', '-aq')) === '');
    });
  });
});
