/**
 * Single containers in attachable overlays, through the untouched docker client, on manager and workers: addresses and
 * names both ways, connect and disconnect, refusals, a daemon that is killed, and nothing left behind.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Host } from './host.ts';
import { eventually, Lab } from './lab.ts';

const hosts = ['h1', 'h2', 'h3'];

describe('containers in overlays', () => {
  let lab: Lab;
  let appId: string;

  beforeAll(async () => {
    lab = await Lab.up('attach');
    appId = await lab.docker(
      'h1',
      'network',
      'create',
      '-d',
      'overlay',
      '--attachable',
      '--subnet',
      '10.99.0.0/24',
      'app',
    );
    await lab.docker('h1', 'network', 'create', '-d', 'overlay', '--attachable', 'side');
    await lab.docker('h1', 'network', 'create', '-d', 'overlay', 'closed');
    const service = (...args: string[]) =>
      lab.docker('h1', 'service', 'create', '--detach', '--network', 'app', ...args);
    await service('--name', 'web', '--replicas', '2', lab.image('web:1'));
    await service('--name', 'asker', '--mode', 'global', '--init', lab.image('busybox:latest'), 'sleep', '100000');
    await lab.converged('web', 2);
    await lab.converged('asker', 3);
  });
  afterAll(async () => {
    await lab?.down();
  });

  const PAGE = 'mkdir -p /w; hostname > /w/index.html; exec httpd -f -p 80 -h /w';
  /** Runs a container that serves its own name; resolves with its id. */
  const run = (host: string, name: string, ...options: string[]) =>
    lab.docker(
      host,
      'run',
      '-d',
      '--init',
      '--name',
      name,
      '--hostname',
      name,
      ...options,
      'busybox',
      'sh',
      '-c',
      PAGE,
    );
  const inside = (host: string, container: string, script: string) =>
    lab.docker(host, 'exec', container, 'sh', '-c', script);
  const fetched = (host: string, container: string, name: string) =>
    eventually(`${container} on ${host} gets a page from ${name}`, () =>
      inside(host, container, `wget -q -O - http://${name}`),
    );
  const addressesOf = async (host: string, container: string, name: string) => {
    const script = `nslookup ${name}. 2>/dev/null | sed 1,2d | sed -n 's/^Address.*: //p' | sort`;
    return (await inside(host, container, script)).split('\n').filter((line) => line !== '');
  };
  const resolves = (host: string, container: string, name: string, addresses: string[]) =>
    eventually(`${container} on ${host} finds ${name} at ${addresses.join(' ')}`, async () => {
      const found = await addressesOf(host, container, name);
      if (found.join() === addresses.toSorted().join()) return true;
      throw new Error(found.join());
    });
  const addressIn = (host: string, container: string, network: string) =>
    lab.docker(host, 'inspect', '--format', `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`, container);
  const asker = async (host: string) =>
    lab.docker(host, 'ps', '-q', '--filter', 'label=com.docker.swarm.service.name=asker');
  const vip = async (service: string) =>
    (
      await lab.docker(
        'h1',
        'service',
        'inspect',
        '--format',
        '{{range .Endpoint.VirtualIPs}}{{.Addr}}{{end}}',
        service,
      )
    ).split('/')[0]!;
  const taskAddresses = async (service: string) => {
    const ids = (await lab.docker('h1', 'service', 'ps', '-q', '--filter', 'desired-state=running', service)).split(
      '\n',
    );
    const format = '{{range .NetworksAttachments}}{{range .Addresses}}{{println .}}{{end}}{{end}}';
    return (await lab.docker('h1', 'inspect', '--format', format, ...ids)).match(/10\.99\.0\.\d+/g) ?? [];
  };
  const cleanAudit = () =>
    eventually('a clean audit', async () => {
      await lab.drover('audit');
      return true;
    });

  test('a container on a worker reaches services, and all reach it by name and address', async () => {
    await run('h2', 'c1', '--network', 'app', '--network-alias', 'first');
    const address = await addressIn('h2', 'c1', 'app');
    expect(address).toMatch(/^10\.99\.0\.\d+$/);
    // At once: its very first question waits until its rules stand.
    expect(JSON.parse(await inside('h2', 'c1', 'wget -q -O - http://web:8080/'))).toMatchObject({ version: '1' });
    expect(await addressesOf('h2', 'c1', 'web')).toEqual([await vip('web')]);
    expect(await addressesOf('h2', 'c1', 'tasks.web')).toEqual((await taskAddresses('web')).toSorted());
    for (const host of hosts) {
      const task = await asker(host);
      expect(await fetched(host, task, 'c1')).toBe('c1');
      expect(await inside(host, task, `wget -q -O - http://${address}`)).toBe('c1');
      expect(await inside(host, task, 'wget -q -O - http://first')).toBe('c1');
    }
  });

  test('containers on different nodes reach each other; what they are in is shown by its own name', async () => {
    await run('h1', 'c2', '--network', appId, '--ip', '10.99.0.200');
    expect(await addressIn('h1', 'c2', 'app')).toBe('10.99.0.200');
    expect(await fetched('h1', 'c2', 'c1')).toBe('c1');
    expect(await fetched('h2', 'c1', 'c2')).toBe('c2');
    expect(await lab.docker('h2', 'inspect', '--format', '{{.HostConfig.NetworkMode}}', 'c1')).toBe('app');
    expect(
      await lab.docker(
        'h2',
        'ps',
        '--filter',
        'network=app',
        '--filter',
        'name=^c1$',
        '--format',
        '{{.Names}} {{.Networks}}',
      ),
    ).toBe('c1 app');
    expect(
      await lab.docker('h2', 'network', 'inspect', '--format', '{{.Id}} {{range .Containers}}{{.Name}} {{end}}', 'app'),
    ).toMatch(new RegExp(`^${appId} (.* )?c1( |$)`));
    const verbose = await lab.docker(
      'h1',
      'network',
      'inspect',
      '-v',
      '--format',
      '{{range (index .Services "").Tasks}}{{.Name}} {{end}}',
      'app',
    );
    expect(verbose.trim().split(' ').sort()).toEqual(['c1', 'c2']);
    expect(await lab.docker('h3', 'network', 'ls', '--filter', 'driver=overlay', '--format', '{{.Name}}')).toContain(
      'app',
    );
    await cleanAudit();
  });

  test('connect and disconnect while it runs; several networks at once', async () => {
    await run('h3', 'c3');
    await lab.docker('h3', 'network', 'connect', '--ip', '10.99.0.201', '--alias', 'third', 'app', 'c3');
    expect(await fetched('h3', 'c3', 'web:8080')).toContain('"version":"1"');
    expect(await fetched('h2', 'c1', 'third')).toBe('c3');
    const again = await lab.tryDocker('h3', 'network', 'connect', 'app', 'c3');
    expect(again.stderr).toContain('c3 is already attached to network app');
    await lab.docker('h3', 'network', 'disconnect', 'app', 'c3');
    await resolves('h2', 'c1', 'third', []);
    await lab.docker('h3', 'rm', '-f', 'c3');
    // `side` is on no node yet; the address of c3 is free again.
    await run('h3', 'c4', '--network', 'side', '--network', 'name=app,ip=10.99.0.201');
    expect(await fetched('h3', 'c4', 'c1')).toBe('c1');
    await run('h2', 'c5', '--network', 'side');
    expect(await fetched('h2', 'c5', 'c4')).toBe('c4');
    await lab.docker('h3', 'rm', '-f', 'c4');
    await lab.docker('h2', 'rm', '-f', 'c5');
    await cleanAudit();
  });

  test('refusals in the words of Docker change nothing', async () => {
    const refused = async (host: string, ...args: string[]) => {
      const { code, stderr } = await lab.tryDocker(host, 'run', '--rm', ...args, 'busybox', 'true');
      expect(code).not.toBe(0);
      return stderr;
    };
    const closed =
      'Could not attach to network closed: rpc error: code = PermissionDenied desc = network closed not manually attachable';
    for (const host of ['h1', 'h2']) {
      expect(await refused(host, '--network', 'closed')).toContain(closed);
      expect(await refused(host, '--network', 'nowhere')).toContain('network nowhere not found');
      expect(await refused(host, '--network', 'app', '--ip', '10.99.0.200')).toContain('Address already in use');
      expect(await refused(host, '--network', 'app', '--ip', '10.98.0.1')).toContain(
        "Invalid address 10.98.0.1: It does not belong to any of this network's subnets",
      );
    }
    expect((await lab.tryDocker('h2', 'network', 'connect', 'app', 'nobody')).stderr).toContain(
      'No such container: nobody',
    );
    expect((await lab.tryDocker('h2', 'run', '--network', 'app', 'no-such-image:1', 'true')).code).not.toBe(0);
    const removed = await lab.tryDocker('h1', 'network', 'rm', 'app');
    expect(removed.stderr).toMatch(/is in use by (service|task)/);
    await cleanAudit();
  });

  test('droverd is killed: what runs stays connected, and what ended meanwhile is found', async () => {
    await run('h2', 'gone', '--network', 'app', '--ip', '10.99.0.210');
    await run('h2', 'stays', '--network', 'app', '--restart', 'always');
    const address = await addressIn('h2', 'stays', 'app');
    await resolves('h1', 'c2', 'gone', ['10.99.0.210']);
    const worker = await Host.open(lab, 'h2');
    await worker.stop('droverd', 'SIGKILL');
    expect(await lab.engine('h2', 'exec', 'stays', 'wget', '-q', '-O', '-', 'http://c2')).toBe('c2');
    await lab.engine('h2', 'rm', '-f', 'gone');
    await worker.start('droverd');
    await resolves('h1', 'c2', 'gone', []);
    await lab.docker('h2', 'restart', '-t', '0', 'stays');
    expect(await addressIn('h2', 'stays', 'app')).toBe(address);
    expect(await fetched('h2', 'stays', 'web:8080')).toContain('"version":"1"');
    expect(await fetched('h1', 'c2', 'stays')).toBe('stays');
    await cleanAudit();
  });

  test('while the manager is away: names and connections stay, new containers are refused with a sentence', async () => {
    const manager = await Host.open(lab, 'h1');
    await manager.stop('droverd', 'SIGKILL');
    const began = performance.now();
    const refused = await lab.tryDocker('h2', 'run', '--rm', '--network', 'app', 'busybox', 'true');
    expect(performance.now() - began).toBeLessThan(60_000);
    expect(refused.stderr).toContain('no manager of the swarm can be asked for an address');
    expect(await inside('h2', 'c1', 'wget -q -O - http://c2')).toBe('c2');
    expect(JSON.parse(await inside('h2', 'c1', 'wget -q -O - http://web:8080/'))).toMatchObject({ version: '1' });
    await lab.docker('h2', 'rm', '-f', 'stays');
    await manager.start('droverd');
    await resolves('h1', 'c2', 'stays', []);
    await eventually('every node is back', async () =>
      /^(Ready\s*){3}$/.test(await lab.docker('h1', 'node', 'ls', '--format', '{{.Status}}')),
    );
    await cleanAudit();
  });

  test('a node that leaves lets its containers run on without the overlay; removed, it has given all back', async () => {
    await run('h3', 'left', '--network', 'app', '--ip', '10.99.0.220');
    await resolves('h1', 'c2', 'left', ['10.99.0.220']);
    await lab.docker('h3', 'swarm', 'leave');
    expect(await lab.docker('h3', 'ps', '--filter', 'name=left', '--format', '{{.Names}}')).toBe('left');
    expect(await lab.engine('h3', 'network', 'ls', '--format', '{{.Name}}')).not.toContain('drover-');
    await resolves('h1', 'c2', 'left', []);
    await eventually('the node can be removed', async () => (await lab.tryDocker('h1', 'node', 'rm', 'h3')).code === 0);
    await run('h1', 'next', '--network', 'app', '--ip', '10.99.0.220');
    await lab.docker('h1', 'rm', '-f', 'next');
    await cleanAudit();
  });

  test('what goes gives its address back, and the network can go', async () => {
    await lab.docker('h1', 'service', 'rm', 'web', 'asker');
    const remove = () => lab.tryDocker('h1', 'network', 'rm', 'app');
    await eventually('only containers keep the network', async () => /in use by task/.test((await remove()).stderr));
    await lab.docker('h2', 'rm', '-f', 'c1');
    await lab.docker('h1', 'run', '-d', '--rm', '--network', 'app', '--name', 'brief', 'busybox', 'true');
    await lab.docker('h1', 'rm', '-f', 'c2');
    await eventually('the network is gone', async () => (await remove()).code === 0);
    expect((await lab.docker('h1', 'network', 'prune', '--force')).split('\n').sort()).toEqual(
      expect.arrayContaining(['closed', 'side']),
    );
    await cleanAudit();
  });
});
