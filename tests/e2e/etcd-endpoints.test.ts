/** Managers that keep the state in an etcd which stands elsewhere (`--etcd-endpoints`), here on a host without a manager. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/daemon/system.ts';
import { EtcdClient } from '../../src/journal/etcd/client.ts';
import { Host, type InHost } from './host.ts';
import { eventually, Lab } from './lab.ts';

describe('--etcd-endpoints', () => {
  let lab: Lab;
  const hosts = new Map<string, Host>();
  /** What droverd is started with by the lab, and what runs in its place. */
  const commands = new Map<string, string[]>();
  const running = new Map<string, InHost>();
  let endpoint: string;

  beforeAll(async () => {
    lab = await Lab.up('etcd-out', { hosts: 3, bare: true });
    endpoint = `http://${await lab.address('h3')}:2379`;
    for (const name of ['h1', 'h2', 'h3']) {
      const host = await Host.open(lab, name);
      hosts.set(name, host);
      commands.set(name, await host.command('droverd'));
      await host.stop('droverd');
    }
    for (const name of ['h1', 'h3']) await start(name, '--etcd-endpoints', endpoint);
    await start('h2');
  });
  afterAll(async () => {
    await lab?.down();
  });

  async function start(name: string, ...more: string[]): Promise<void> {
    running.set(name, await hosts.get(name)!.foreground([...commands.get(name)!, ...more]));
    await eventually(`droverd on ${name} answers`, async () => lab.docker(name, 'version'));
  }

  async function end(name: string, signal: string): Promise<void> {
    await running.get(name)!.signal(signal);
    // Not the end of its output: the resolver, which stays, holds that too.
    const left = () => hosts.get(name)!.succeed('sh', '-c', 'pgrep -f "[d]aemon/main" || echo none');
    await eventually(`droverd on ${name} has ended`, async () => (await left()) === 'none\n');
  }

  async function startEtcd(): Promise<void> {
    const h3 = hosts.get('h3')!;
    const dataDir = join(h3.plan.dir, 'etcd-elsewhere');
    const urls = ['--listen-client-urls', endpoint, '--advertise-client-urls', endpoint];
    await h3.foreground(['etcd', '--log-level=warn', '--logger=zap', '--data-dir', dataDir, ...urls]);
    await eventually('etcd answers', keysInEtcd, 20_000);
  }

  const managers = async (by: string): Promise<string> => {
    const rows = await lab.docker(by, 'node', 'ls', '--format', '{{.Hostname}} {{.ManagerStatus}}');
    return rows.split('\n').sort().join(', ');
  };
  const said = async (name: string, ...words: string[]) => (await lab.tryDocker(name, ...words)).stderr;
  const info = (name: string, what: string) => lab.docker(name, 'info', '--format', `{{${what}}}`);
  /** What that etcd says when it is asked from outside. */
  async function inEtcd<T>(ask: (etcd: EtcdClient) => Promise<T>): Promise<T> {
    const etcd = await EtcdClient.make({ endpoints: [endpoint.slice('http://'.length)], clock: systemClock });
    try {
      return await ask(etcd);
    } finally {
      etcd.close();
    }
  }
  const keysInEtcd = () =>
    inEtcd(async (etcd) => (await etcd.range({ from: '/', to: '0' })).rows.map(({ key }) => key));

  test('out of reach it is said, and nothing was changed; then a swarm begins there, alone under its prefix', async () => {
    const init = ['swarm', 'init', '--advertise-addr', await lab.address('h1')];
    expect(await said('h1', ...init)).toMatch(/the etcd that --etcd-endpoints names cannot be used: etcd at .*:2379/);
    expect(await info('h1', '.Swarm.LocalNodeState')).toBe('inactive');
    await startEtcd();
    await lab.docker('h1', ...init);
    await eventually('h1 leads', async () => (await managers('h1')) === 'h1 Leader');
    expect(existsSync(join(hosts.get('h1')!.dataDir, 'state.db'))).toBe(false);
    const again = ['swarm', 'init', '--advertise-addr', await lab.address('h3')];
    expect(await said('h3', ...again)).toMatch(/already holds a swarm below \/drover\/ \(\w{25}\): join it/);
    expect(await said('h1', ...init, '--force-new-cluster')).toContain('no new cluster is made');
  });

  test('a manager joins with it only; neither has an etcd of its own', async () => {
    const token = await lab.docker('h1', 'swarm', 'join-token', '-q', 'manager');
    const join = ['swarm', 'join', '--token', token, `${await lab.address('h1')}:2377`];
    expect(await said('h2', ...join)).toContain('start droverd on this node with the --etcd-endpoints of the other');
    expect(await managers('h1')).toBe('h1 Leader');
    await end('h2', 'TERM');
    await start('h2', '--etcd-endpoints', endpoint);
    await lab.docker('h2', ...join);
    await eventually('both say the same', async () => {
      const expected = 'h1 Leader, h2 Reachable';
      return (await managers('h1')) === expected && (await managers('h2')) === expected;
    });
    for (const name of ['h1', 'h2'])
      expect(await hosts.get(name)!.succeed('sh', '-c', 'pgrep -x etcd || echo none')).toBe('none\n');
  });

  test('the leader killed: the other one leads within seconds, and the service keeps running', async () => {
    await lab.docker('h2', 'service', 'create', '--detach', '--name', 'web', '--replicas', '2', lab.image('web:1'));
    await lab.converged('web', 2);
    const containers = async (...names: string[]) =>
      (await Promise.all(names.map((name) => lab.engine(name, 'ps', '-q', '--no-trunc'))))
        .join('\n')
        .trim()
        .split('\n');
    const [untouched] = await containers('h2');
    await end('h1', 'KILL');
    const killedMs = performance.now();
    await eventually('writes are taken again', async () =>
      lab.docker('h2', 'config', 'create', 'after', '/etc/hostname'),
    );
    expect(performance.now() - killedMs).toBeLessThan(10_000);
    await eventually('h1 is missed', async () => (await managers('h2')) === 'h1 Unreachable, h2 Leader');

    await start('h1');
    expect(await info('h1', '.Swarm.Error')).toContain('start droverd on this manager with the --etcd-endpoints');
    await end('h1', 'TERM');
    await start('h1', '--etcd-endpoints', endpoint);
    await eventually('h1 is back', async () => (await managers('h1')) === 'h1 Reachable, h2 Leader');
    expect(await lab.docker('h1', 'config', 'ls', '--format', '{{.Name}}')).toBe('after');
    await lab.converged('web', 2);
    await eventually('no container is left over', async () => (await containers('h1', 'h2')).length === 2);
    expect(await containers('h2')).toContain(untouched);
  });

  test('the last manager takes the state with it, and nothing else', async () => {
    const foreign = { put: '/somebody/else', value: 'x' };
    await inEtcd((etcd) => etcd.txn({ when: [], write: [foreign], otherwise: [] }));
    await lab.docker('h2', 'service', 'rm', 'web');
    await lab.docker('h2', 'node', 'demote', 'h1');
    await eventually('h1 is a worker', async () => (await info('h1', '.Swarm.ControlAvailable')) === 'false');
    expect(await said('h2', 'swarm', 'leave')).toContain('Removing the last manager erases all current state');
    await lab.docker('h2', 'swarm', 'leave', '--force');
    expect(await keysInEtcd()).toEqual(['/somebody/else']);
  });
});
