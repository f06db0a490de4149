/**
 * The transcript of issue 2, line by line, as any Docker Swarm book has it: three bare hosts, the untouched docker
 * client, and nothing else. Steps build on each other and run in order.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, get, Lab } from './lab.ts';

const hosts = ['h1', 'h2', 'h3'];

describe('the transcript', () => {
  let lab: Lab;
  let join: string[];

  beforeAll(async () => {
    lab = await Lab.up('transcript', { bare: true });
  });
  afterAll(async () => {
    await lab?.down();
  });

  /** What an image that answers with JSON says of itself and of its caller. */
  async function whoami(host: string, port: number): Promise<{ host: string; client: string }> {
    const answer = await get(`http://${await lab.address(host)}:${port}/`);
    expect(answer.status).toBe(200);
    return JSON.parse(answer.body) as { host: string; client: string };
  }

  const countOn = (nodes: string[]) => hosts.map((host) => nodes.filter((node) => node === host).length);

  test('drover lab env, addr, exec and registry lead into it', async () => {
    expect(await lab.drover('env', 'h2')).toBe(`export DOCKER_HOST=${await lab.socket('h2')}\n`);
    expect(await lab.drover('addr', 'h2')).toBe(`${await lab.address('h2')}\n`);
    expect(await lab.drover('exec', 'h2', '--', 'hostname')).toBe('h2\n');
    expect((await lab.drover('registry')).trim()).toBe(lab.registry);
  });

  test('before init, cluster commands say what to do', async () => {
    const answer = await lab.tryDocker('h1', 'node', 'ls');
    expect(answer.code).toBe(1);
    expect(answer.stderr).toContain('This node is not a swarm manager. Use "docker swarm init" or "docker swarm join"');
  });

  test('docker swarm init prints the join command', async () => {
    const output = await lab.docker('h1', 'swarm', 'init', '--advertise-addr', await lab.address('h1'));
    const command = /docker swarm join --token (SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}) (\S+:2377)/.exec(output);
    expect(command, output).not.toBeNull();
    join = ['swarm', 'join', '--token', command![1]!, command![2]!];
    expect(command![2]).toBe(`${await lab.address('h1')}:2377`);
  });

  test('docker swarm join on two more hosts', async () => {
    for (const host of ['h2', 'h3']) {
      expect(await lab.docker(host, ...join)).toContain('This node joined a swarm as a worker.');
    }
  });

  test('docker node ls: three Ready/Active, the manager is Leader, * on the asked host', async () => {
    await eventually('three nodes ready', async () => {
      const states = await lab.docker('h1', 'node', 'ls', '--format', '{{.Status}}/{{.Availability}}');
      return states.split('\n').filter((state) => state === 'Ready/Active').length === 3;
    });
    const rows = (await lab.docker('h1', 'node', 'ls', '--format', '{{.Hostname}} {{.Self}} {{.ManagerStatus}}')).split(
      '\n',
    );
    expect(rows.map((row) => row.trim()).sort()).toEqual(['h1 true Leader', 'h2 false', 'h3 false']);
    const worker = await lab.tryDocker('h2', 'node', 'ls');
    expect(worker.stderr).toContain("Worker nodes can't be used to view or modify cluster state.");
  });

  test('docker service create, attached: ends when converged', async () => {
    const output = await lab.docker(
      'h1',
      'service',
      'create',
      '--replicas',
      '3',
      '--name',
      'web',
      '-p',
      '8080:8080',
      lab.image('web:1'),
    );
    expect(output).toContain('converged');
    expect(countOn(await lab.runningOn('web'))).toEqual([1, 1, 1]);
  });

  test('docker service ls, ps, inspect --pretty', async () => {
    expect(await lab.docker('h1', 'service', 'ls', '--format', '{{.Name}} {{.Mode}} {{.Replicas}} {{.Ports}}')).toBe(
      'web replicated 3/3 *:8080->8080/tcp',
    );
    const names = (await lab.docker('h1', 'service', 'ps', 'web', '--format', '{{.Name}} {{.DesiredState}}')).split(
      '\n',
    );
    expect(names.sort()).toEqual(['web.1 Running', 'web.2 Running', 'web.3 Running']);
    const pretty = await lab.docker('h1', 'service', 'inspect', '--pretty', 'web');
    expect(pretty).toMatch(/Service Mode:\s+Replicated\s+Replicas:\s+3/);
    expect(pretty).toMatch(/PublishedPort = 8080/);
    expect(pretty).toMatch(/UpdateConfig:\s+Parallelism:\s+1/);
  });

  test('every host answers, all tasks in turn, and they see the address of the caller', async () => {
    const outside = (await lab.address('h1')).replace(/\.\d+$/, '.254');
    for (const host of hosts) {
      const seen = await Promise.all(Array.from({ length: 9 }, () => whoami(host, 8080)));
      expect(new Set(seen.map((answer) => answer.host)).size).toBe(3);
      expect(new Set(seen.map((answer) => answer.client))).toEqual(new Set([outside]));
    }
    for (const host of hosts) {
      expect(await lab.exec(host, 'busybox', 'wget', '-q', '-O', '-', 'http://127.0.0.1:8080/')).toContain('"host"');
      expect(
        await lab.exec(host, 'busybox', 'wget', '-q', '-O', '-', `http://${await lab.address(host)}:8080/`),
      ).toContain('"host"');
    }
  });

  test('a host that runs no task answers as well', async () => {
    await lab.docker('h1', 'service', 'create', '--name', 'one', '-p', '8090:8080', lab.image('web:1'));
    for (const host of hosts) expect((await whoami(host, 8090)).client).toMatch(/\.254$/);
    await lab.docker('h1', 'service', 'rm', 'one');
  });

  test('docker service scale', async () => {
    expect(await lab.docker('h1', 'service', 'scale', 'web=10')).toContain('converged');
    expect(countOn(await lab.runningOn('web')).sort((a, b) => a - b)).toEqual([3, 3, 4]);
  });

  test('docker node update --availability drain moves the tasks; active brings the node back into play', async () => {
    await lab.docker('h1', 'node', 'update', '--availability', 'drain', 'h3');
    await eventually('ten tasks, none on h3', async () => {
      const [h1, h2, h3] = countOn(await lab.runningOn('web'));
      return h3 === 0 && (h1 ?? 0) + (h2 ?? 0) === 10;
    });
    await eventually('no container left running on h3', async () => (await lab.engine('h3', 'ps', '-q')) === '');
    expect((await whoami('h3', 8080)).client).toMatch(/\.254$/);
    await lab.docker('h1', 'node', 'update', '--availability', 'active', 'h3');
    await lab.docker('h1', 'service', 'scale', 'web=12');
    expect(countOn(await lab.runningOn('web'))[2]).toBe(2);
    await lab.docker('h1', 'service', 'scale', 'web=3');
    await lab.converged('web', 3);
  });

  test('labels and constraints', async () => {
    await lab.docker('h1', 'node', 'update', '--label-add', 'segment=AA', 'h2');
    await lab.docker(
      'h1',
      'service',
      'create',
      '--replicas',
      '2',
      '--constraint',
      'node.labels.segment==AA',
      '--name',
      'pinned',
      lab.image('web:1'),
    );
    expect(await lab.runningOn('pinned')).toEqual(['h2', 'h2']);
    await lab.docker(
      'h1',
      'service',
      'create',
      '--detach',
      '--constraint',
      'node.labels.segment==ZZ',
      '--name',
      'nowhere',
      lab.image('web:1'),
    );
    await eventually('the reason in words', async () => {
      const reason = await lab.docker('h1', 'service', 'ps', 'nowhere', '--no-trunc', '--format', '{{.Error}}');
      return reason.includes('no suitable node (scheduling constraints not satisfied on 3 nodes)');
    });
    await lab.docker('h1', 'service', 'rm', 'pinned', 'nowhere');
  });

  test('a global service runs on every node', async () => {
    await lab.docker('h1', 'service', 'create', '--mode', 'global', '--name', 'every', lab.image('web:1'));
    expect((await lab.runningOn('every')).sort()).toEqual(hosts);
    await lab.docker('h1', 'service', 'rm', 'every');
  });

  test('docker service update replaces the tasks', async () => {
    const before = await lab.docker('h1', 'service', 'ps', 'web', '-q', '--filter', 'desired-state=running');
    const output = await lab.docker('h1', 'service', 'update', '--env-add', 'COLOR=blue', 'web');
    expect(output).toContain('converged');
    const after = await lab.docker('h1', 'service', 'ps', 'web', '-q', '--filter', 'desired-state=running');
    expect(after.split('\n')).toHaveLength(3);
    expect(after.split('\n').filter((id) => before.includes(id))).toEqual([]);
  });

  test('docker stack deploy: the calculator adds on every host, and caches in the redis found by its name', async () => {
    const deploy = ['stack', 'deploy', '-c', 'examples/calculator/docker-compose.yml', 'app'];
    process.env['REGISTRY'] = lab.registry;
    await lab.docker('h1', ...deploy);
    await lab.converged('app_web', 3);
    await lab.converged('app_redis', 1);
    for (const host of hosts) {
      const url = `http://${await lab.address(host)}:8881/sum?a=1&b=2`;
      // RUNNING without a health check says that the process was started, not that it listens already.
      const answer = await eventually(`${url} answers`, async () => {
        const got = await get(url);
        return got.status === 200 && got;
      });
      expect(answer.body.trim()).toBe('3');
      await eventually('a sum from the cache', async () => (await get(url)).headers['x-cache'] === 'hit');
    }
    // Deployed again with nothing changed: nothing is touched.
    const tasks = await lab.docker('h1', 'stack', 'ps', 'app', '-q');
    await lab.docker('h1', ...deploy);
    expect(await lab.docker('h1', 'stack', 'ps', 'app', '-q')).toBe(tasks);
  });

  test('docker stack ls, services, ps, rm; docker service rm', async () => {
    expect(await lab.docker('h1', 'stack', 'ls', '--format', '{{.Name}} {{.Services}}')).toBe('app 2');
    const services = await lab.docker('h1', 'stack', 'services', 'app', '--format', '{{.Name}} {{.Replicas}}');
    expect(services.split('\n').sort()).toEqual(['app_redis 1/1', 'app_web 3/3']);
    expect((await lab.docker('h1', 'stack', 'ps', 'app', '-q')).split('\n').length).toBeGreaterThanOrEqual(4);
    await lab.docker('h1', 'stack', 'rm', 'app');
    expect(await lab.docker('h1', 'stack', 'ls', '--format', '{{.Name}}')).toBe('');
    expect(await lab.docker('h1', 'network', 'ls', '--filter', 'name=app', '-q')).toBe('');
    await lab.docker('h1', 'service', 'rm', 'web');
    for (const host of hosts) {
      await eventually(`no container on ${host}`, async () => (await lab.engine(host, 'ps', '-aq')) === '');
    }
  });

  test("docker ps, run, exec: the node's own containers, through the same socket", async () => {
    expect(await lab.docker('h2', 'run', '--rm', 'busybox', 'echo', 'hi')).toBe('hi');
    const id = await lab.docker('h2', 'run', '-d', '--init', '--name', 'own', 'busybox', 'sleep', '1000');
    expect(await lab.docker('h2', 'ps', '--no-trunc', '-q')).toBe(id);
    expect(await lab.docker('h2', 'exec', 'own', 'sh', '-c', 'echo $((6*7))')).toBe('42');
    await lab.docker('h2', 'rm', '-f', 'own');
  });

  test('nothing is left over', async () => {
    await eventually('a clean audit', async () => {
      await lab.drover('audit');
      return true;
    });
  });
});
