/**
 * The life of droverd itself: flags, start and stop, an engine that is away, a state that is damaged, leaving and coming
 * back, and `kill -9` in the middle of it. Containers notice nothing that they should not; nothing is left over, nothing stuck.
 */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Host } from './host.ts';
import { eventually, get, Lab, run, succeed } from './lab.ts';
import { Stream } from './stream.ts';

const KILLS = process.env['DROVER_SOAK'] ? 50 : 5;

describe('droverd', () => {
  let lab: Lab;
  let h1: Host;
  let h2: Host;
  let dir: string;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'drover-e2e-'));
    lab = await Lab.up('daemon', { hosts: 2 });
    [h1, h2] = await Promise.all([Host.open(lab, 'h1'), Host.open(lab, 'h2')]);
    await lab.docker('h1', 'network', 'create', '-d', 'overlay', 'backend');
    await service('web');
  });
  afterAll(async () => {
    rmSync(dir, { recursive: true, force: true });
    await lab?.down();
  });

  /** One task a node, reachable on port 8080 and by name. */
  async function service(name: string): Promise<void> {
    await lab.docker(
      'h1',
      'service',
      'create',
      '--detach',
      '--name',
      name,
      '--mode',
      'global',
      '--network',
      'backend',
      '-p',
      '8080:8080',
      lab.image('web:1'),
    );
    await served(name, (await lab.docker('h1', 'node', 'ls', '-q')).split('\n').length);
  }

  /** So many tasks run and each listens: a container that runs may not do so yet, and each node hears of it on its own. */
  async function served(name: string, tasks: number): Promise<void> {
    const hosts = await lab.converged(name, tasks);
    for (const host of hosts) {
      await eventually(`${name} answers on ${host}`, async () => {
        for (let call = 0; call < 5 * tasks; call++) if (!(await answers(host))) return false;
        return true;
      });
    }
  }

  const info = (host: string, field: string) => lab.docker(host, 'info', '--format', `{{${field}}}`);
  const swarm = (host: string) => info(host, '.Swarm.LocalNodeState');
  const answers = async (host: string) => (await get(`http://${await lab.address(host)}:8080/`)).status === 200;
  const status = (host: string) =>
    lab.docker('h1', 'node', 'ls', '--filter', `name=${host}`, '--format', '{{.Status}}');
  const clean = (host: Host) =>
    eventually(`nothing is left on ${host.name}`, async () => {
      const found = await host.leftovers();
      if (found.length > 0) throw new Error(found.join('\n'));
      return true;
    });
  const cleanAudit = () => eventually('a clean audit', async () => (await lab.drover('audit')) !== '');

  /** What must not change while a daemon goes and comes: `id started` of every container. */
  async function containers(host: string): Promise<string> {
    const ids = await lab.engine(host, 'ps', '-q', '--no-trunc');
    return lab.engine(host, 'inspect', '--format', '{{.Id}} {{.State.StartedAt}}', ...ids.split('\n').sort());
  }

  /** From inside a container: the service's name leads to a task. */
  async function resolves(host: string): Promise<boolean> {
    const id = await lab.engine(host, 'ps', '-q', '--filter', 'label=com.docker.swarm.service.name=web');
    return (await lab.engine(host, 'exec', id, 'wget', '-q', '-O', '-', 'http://web:8080/')) !== '';
  }

  async function join2(): Promise<void> {
    const token = await lab.docker('h1', 'swarm', 'join-token', '-q', 'worker');
    await lab.docker('h2', 'swarm', 'join', '--token', token, `${await lab.address('h1')}:2377`);
  }

  /** Removes the nodes of that host that are no more. */
  async function forget(host: string): Promise<void> {
    await eventually(`the old ${host} is gone`, async () => {
      const nodes = await lab.docker('h1', 'node', 'ls', '--filter', `name=${host}`, '--format', '{{.ID}} {{.Status}}');
      const ids = nodes
        .split('\n')
        .filter((line) => / (Down|Unknown)$/.test(line))
        .map((line) => line.split(' ')[0]!);
      if (ids.length > 0) await lab.docker('h1', 'node', 'rm', ...ids);
      return !/ (Down|Unknown)$/m.test(nodes);
    });
  }

  describe('flags', () => {
    test('--help, --version', async () => {
      expect((await run('bin/droverd', ['--help'])).stdout).toMatch(/^Usage: {2}droverd \[OPTIONS\]/);
      expect((await run('bin/droverd', ['--version'])).stdout).toMatch(/^droverd version \d+\.\d+\.\d+\n$/);
    });

    test.concurrent.each([
      ['an unknown flag', ['--nonsense'], /--nonsense/],
      ['an argument', ['start'], /start/],
      ['a log level that is none', ['--log-level', 'loud'], /--log-level loud: expected one of debug/],
      ['a relative socket', ['--host', 'unix://here.sock'], /absolute path/],
      [
        'tcp without TLS',
        ['--host', 'tcp://127.0.0.1:2376'],
        /--tlscert, --tlskey and --tlscacert \(or --insecure-api/,
      ],
      ['a certificate alone', ['--host', 'tcp://127.0.0.1:2376', '--tlscert', '/x'], /go together/],
    ])('%s: 125 and a sentence', async (_what, flags, sentence) => {
      const ended = await run('bin/droverd', flags);
      expect(ended.stderr).toMatch(sentence);
      expect(ended.stderr).toContain("See 'droverd --help'.");
      expect(ended.code).toBe(125);
    });

    /** A droverd of its own beside the host's, on the same engine. */
    const beside = (host: Host, ...flags: string[]) =>
      host.droverd('--engine', 'unix:///run/engine.sock', '--data-dir', join(dir, `beside-${flags.length}`), ...flags);

    test('--insecure-api serves tcp, and warns', async () => {
      const url = `tcp://${await lab.address('h2')}:2375`;
      const { stream, signal } = await beside(h2, '--host', url, '--insecure-api');
      await stream.until(/droverd serves/);
      expect(stream.output).toMatch(/WARN .*without TLS: whoever reaches this port owns this machine/);
      expect(await succeed('docker', ['-H', url, 'info', '--format', '{{.Name}} {{.Swarm.LocalNodeState}}'])).toBe(
        'h2 inactive\n',
      );
      expect((await get(`${url.replace('tcp', 'http')}/_ping`)).headers).toMatchObject({
        swarm: 'inactive',
        'api-version': '1.41',
      });
      await signal('TERM');
      expect(await stream.ended).toBe(0);
    });

    test('with TLS it serves those who have a certificate of the CA, and nobody else', async () => {
      const address = await lab.address('h2');
      const pem = (name: string) => join(dir, name);
      const openssl = (...args: string[]) => succeed('openssl', args);
      const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
      for (const ca of ['ca', 'other'])
        await openssl(
          'req',
          '-x509',
          ...ec,
          '-keyout',
          pem(`${ca}.key`),
          '-out',
          pem(`${ca}.pem`),
          '-subj',
          `/CN=${ca}`,
        );
      for (const [name, ca] of [
        ['server', 'ca'],
        ['client', 'ca'],
        ['stranger', 'other'],
      ] as const) {
        const extension = `subjectAltName=IP:${address}`;
        await openssl(
          'req',
          '-x509',
          '-CA',
          pem(`${ca}.pem`),
          '-CAkey',
          pem(`${ca}.key`),
          ...ec,
          '-keyout',
          pem(`${name}.key`),
          '-out',
          pem(`${name}.pem`),
          '-subj',
          `/CN=${name}`,
          '-addext',
          extension,
        );
      }
      const url = `tcp://${address}:2376`;
      const { stream, signal } = await beside(
        h2,
        '--host',
        url,
        '--tlscert',
        pem('server.pem'),
        '--tlskey',
        pem('server.key'),
        '--tlscacert',
        pem('ca.pem'),
      );
      await stream.until(/droverd serves/);
      const docker = (...args: string[]) =>
        run('docker', ['-H', url, '--tlsverify', '--tlscacert', pem('ca.pem'), ...args]);
      const good = await docker(
        '--tlscert',
        pem('client.pem'),
        '--tlskey',
        pem('client.key'),
        'run',
        '--rm',
        'busybox',
        'echo',
        'hi',
      );
      expect(good).toMatchObject({ code: 0, stdout: 'hi\n' });
      const bad = await docker('--tlscert', pem('stranger.pem'), '--tlskey', pem('stranger.key'), 'ps');
      expect(bad.code).toBe(1);
      expect(bad.stderr).toMatch(/certificate|tls/i);
      // Without a certificate: not one byte of an answer, whatever the client thinks of the handshake.
      const nobody = new Promise((done, fail) =>
        httpsRequest(`https://${address}:2376/_ping`, { ca: readFileSync(pem('ca.pem')), agent: false }, done)
          .on('error', fail)
          .end(),
      );
      await expect(nobody).rejects.toThrow(/certificate required|socket hang up|ECONNRESET|EPIPE/i);
      await expect(get(`http://${address}:2376/_ping`)).rejects.toThrow(/Parse Error|socket hang up|ECONNRESET|EPIPE/);
      await signal('TERM');
      expect(await stream.ended).toBe(0);
    });
  });

  describe('stop and start', () => {
    test('SIGTERM ends it in order; containers, names and ports go on; a new one adopts them', async () => {
      const before = [await containers('h1'), await containers('h2')];
      for (const host of [h1, h2]) {
        const command = await host.command('droverd');
        await host.stop('droverd');
        // Once in the foreground, to see how it ends.
        const { stream, signal } = await host.foreground(command);
        await stream.until(/droverd serves/);
        await eventually('the node is ready', async () => (await status(host.name)) === 'Ready');
        // A client that listens does not hold it up.
        const listener = new Stream('docker', ['events'], { DOCKER_HOST: await lab.socket(host.name) });
        await eventually('it listens', async () => {
          await lab.docker(host.name, 'run', '--rm', 'busybox', 'true');
          return listener.output.includes('container destroy');
        });
        await signal('TERM');
        expect(await stream.ended).toBe(0);
        await listener.ended;
        expect(await answers(host.name)).toBe(true);
        expect(await resolves(host.name)).toBe(true);
        await host.start('droverd');
        await eventually('the node is ready', async () => (await status(host.name)) === 'Ready');
      }
      expect(await lab.converged('web', 2)).toHaveLength(2);
      expect([await containers('h1'), await containers('h2')]).toEqual(before);
      expect((await lab.docker('h1', 'service', 'ps', 'web', '-q')).split('\n')).toHaveLength(2);
      await cleanAudit();
    });

    test('a second one on the same data directory, or the same socket, is refused', async () => {
      const same = await h1.droverd(
        '--host',
        'unix:///run/second.sock',
        '--engine',
        'unix:///run/engine.sock',
        '--data-dir',
        h1.dataDir,
      );
      expect(await same.stream.ended).toBe(1);
      expect(same.stream.output).toContain(`the data directory ${h1.dataDir} is in use by another droverd`);
      const socket = await h1.droverd(
        '--host',
        'unix:///run/drover.sock',
        '--engine',
        'unix:///run/engine.sock',
        '--data-dir',
        join(dir, 'third'),
      );
      expect(await socket.stream.ended).toBe(1);
      expect(socket.stream.output).toContain('another server is answering on /run/drover.sock');
      expect(await lab.docker('h1', 'node', 'ls', '-q')).not.toBe('');
    });
  });

  describe('the engine is away', () => {
    async function isAway(host: string): Promise<void> {
      const ps = await lab.tryDocker(host, 'ps');
      expect(ps.stderr).toMatch(/Cannot reach the Docker Engine of this host at unix:\/\/\/run\/engine\.sock/);
      expect(ps.code).not.toBe(0);
      const run = await lab.tryDocker(host, 'run', '--rm', 'busybox', 'true');
      expect(run.stderr).toMatch(/Cannot reach the Docker Engine/);
      expect(await swarm(host)).toBe('active');
      expect((await lab.tryDocker(host, 'info')).stdout + (await lab.tryDocker(host, 'info')).stderr).toMatch(
        /WARNING: the Docker Engine does not answer/,
      );
    }

    test("the cluster's answers go on, the node's say so, everything recovers", async () => {
      const before = await containers('h1');
      await h1.stop('engine');
      await isAway('h1');
      expect(await lab.docker('h1', 'service', 'ls', '--format', '{{.Name}}')).toBe('web');
      expect((await lab.docker('h1', 'node', 'ls', '--format', '{{.Hostname}}')).split('\n').sort()).toEqual([
        'h1',
        'h2',
      ]);
      expect(await lab.docker('h1', 'network', 'ls', '--filter', 'driver=overlay', '--format', '{{.Name}}')).toContain(
        'backend',
      );
      expect((await lab.tryDocker('h1', 'swarm', 'leave', '--force')).stderr).toMatch(/cannot leave the swarm now/);
      expect(await answers('h1')).toBe(true);

      // droverd starts without it just as well.
      await h1.stop('droverd', 'SIGKILL');
      await h1.start('droverd');
      await isAway('h1');
      expect(await lab.docker('h1', 'service', 'ls', '--format', '{{.Name}}')).toBe('web');

      await h1.start('engine');
      await eventually('docker ps', () => lab.docker('h1', 'ps', '-q'));
      await eventually('the node is ready', async () => (await status('h1')) === 'Ready');
      await lab.converged('web', 2);
      expect(await containers('h1')).toBe(before);
      await lab.docker('h1', 'run', '--rm', 'busybox', 'true');
      await cleanAudit();
    });

    test('likewise on a worker', async () => {
      const before = await containers('h2');
      await h2.stop('engine');
      await isAway('h2');
      await h2.start('engine');
      await eventually('the node is ready', async () => (await status('h2')) === 'Ready');
      await lab.converged('web', 2);
      expect(await containers('h2')).toBe(before);
      await cleanAudit();
    });
  });

  describe('a state that cannot be used', () => {
    const file = () => join(h1.dataDir, 'state.db');

    test.each<[string, (path: string) => void, RegExp]>([
      ['damaged', (path) => writeFileSync(path, Buffer.alloc(4096, 'x')), /damaged|not a database/i],
      ['of a newer format', (path) => inDatabase(path, 'PRAGMA user_version = 9999'), /newer/i],
    ])('%s: droverd serves, says which file, and leaves it alone', async (_what, spoil, sentence) => {
      const before = await containers('h1');
      await h1.stop('droverd');
      copyFileSync(file(), join(dir, 'state.db'));
      spoil(file());
      const spoilt = readFileSync(file());
      await h1.start('droverd');
      const said = await lab.docker('h1', 'info');
      expect(said).toMatch(/Swarm: error/);
      const error = await info('h1', '.Swarm.Error');
      expect(error).toContain(file());
      expect(error).toMatch(sentence);
      expect(readFileSync(file()).equals(spoilt)).toBe(true);
      expect((await lab.tryDocker('h1', 'service', 'ls')).code).not.toBe(0);
      expect((await lab.tryDocker('h1', 'swarm', 'init')).stderr).toMatch(/already part of a swarm/);
      expect(await lab.docker('h1', 'ps', '-q')).not.toBe('');
      expect(await answers('h1')).toBe(true);
      await h1.stop('droverd');
      copyFileSync(join(dir, 'state.db'), file());
      await h1.start('droverd');
      await eventually('the node is ready', async () => (await status('h1')) === 'Ready');
      await eventually('the other is ready', async () => (await status('h2')) === 'Ready');
      expect(await containers('h1')).toBe(before);
      await cleanAudit();
    });
  });

  describe('leaving and coming back', () => {
    test('a worker leaves: nothing of ours stays on it, it is Down, can be removed, and joins again', async () => {
      await lab.docker('h2', 'run', '-d', '--init', '--name', 'own', 'busybox', 'sleep', '1000');
      expect((await h2.leftovers()).length).toBeGreaterThan(5);
      await lab.docker('h2', 'swarm', 'leave');
      expect(await swarm('h2')).toBe('inactive');
      await clean(h2);
      expect(await lab.docker('h2', 'ps', '--format', '{{.Names}}')).toBe('own');
      await lab.docker('h2', 'rm', '-f', 'own');
      await eventually('it is down', async () => (await status('h2')) === 'Down');
      await lab.docker('h1', 'node', 'rm', 'h2');
      await join2();
      await served('web', 2);
      await cleanAudit();
    });

    test('a worker that was removed says so, can leave, and join again', async () => {
      await lab.docker('h1', 'node', 'rm', '--force', 'h2');
      await eventually('it says so', async () =>
        /has been removed from its swarm/.test(await info('h2', '.Swarm.Error')),
      );
      expect(await swarm('h2')).toBe('error');
      expect(await lab.docker('h2', 'ps', '-q')).not.toBe('');
      await lab.docker('h2', 'swarm', 'leave');
      await clean(h2);
      await join2();
      await lab.converged('web', 2);
      await cleanAudit();
    });

    test(`kill -9 at ${KILLS} random moments of leaving and joining: never half, never stuck`, async () => {
      for (let kill = 0; kill < KILLS; kill++) {
        const leaving = lab.tryDocker('h2', 'swarm', 'leave');
        // Once just when it has begun for good, later at any time.
        const begun = async () => readFileSync(join(h2.dataDir, 'cluster.json'), 'utf8').includes('"leaving"');
        await (kill === 0 ? eventually('leaving begins', begun) : moment(600));
        await h2.stop('droverd', 'SIGKILL');
        await leaving;
        await h2.start('droverd');
        await outOfSwarm('h2');
        await clean(h2);
        const token = await lab.docker('h1', 'swarm', 'join-token', '-q', 'worker');
        const joining = lab.tryDocker('h2', 'swarm', 'join', '--token', token, `${await lab.address('h1')}:2377`);
        await moment(400);
        await h2.stop('droverd', 'SIGKILL');
        await joining;
        await h2.start('droverd');
        if ((await swarm('h2')) === 'inactive') await join2();
        await eventually('it is ready', async () => /^Ready$/m.test(await status('h2')));
      }
      await forget('h2');
      await lab.converged('web', 2);
      await cleanAudit();
    });

    test('the manager leaves: nothing stays anywhere, and a new cluster is made', async () => {
      await lab.docker('h2', 'swarm', 'leave');
      expect((await lab.tryDocker('h1', 'swarm', 'leave')).stderr).toMatch(/Use `--force`/);
      await lab.docker('h1', 'swarm', 'leave', '--force');
      expect(await swarm('h1')).toBe('inactive');
      for (const host of [h1, h2]) await clean(host);
      expect((await lab.tryDocker('h1', 'service', 'ls')).stderr).toMatch(/This node is not a swarm manager/);
    });

    test(`kill -9 at ${KILLS} random moments of making a cluster`, async () => {
      for (let kill = 0; kill < KILLS; kill++) {
        const making = lab.tryDocker('h1', 'swarm', 'init', '--advertise-addr', await lab.address('h1'));
        await moment(250);
        await h1.stop('droverd', 'SIGKILL');
        await making;
        await h1.start('droverd');
        await outOfSwarm('h1');
        await clean(h1);
      }
      await lab.docker('h1', 'swarm', 'init', '--advertise-addr', await lab.address('h1'));
      await join2();
      await lab.docker('h1', 'network', 'create', '-d', 'overlay', 'backend');
      await service('web');
      await cleanAudit();
    });

    test('a manager whose state is damaged can leave too', async () => {
      await h1.stop('droverd');
      writeFileSync(join(h1.dataDir, 'state.db'), 'damaged');
      await h1.start('droverd');
      expect(await swarm('h1')).toBe('error');
      await lab.docker('h1', 'swarm', 'leave', '--force');
      await clean(h1);
      await lab.docker('h1', 'swarm', 'init', '--advertise-addr', await lab.address('h1'));
      // Nobody told the worker, whose cluster is gone: it can still leave for the new one.
      await lab.docker('h2', 'swarm', 'leave');
      await clean(h2);
      await join2();
      await eventually('two nodes', async () => (await lab.docker('h1', 'node', 'ls', '-q')).split('\n').length === 2);
    });

    /** A part of what a change takes: where it is cut off is up to chance. */
    const moment = (withinMs: number) => new Promise((next) => setTimeout(next, Math.random() * withinMs));

    /** Member or not, after a crash it can be made to be in no swarm. */
    const outOfSwarm = (host: string) =>
      eventually(`${host} is in no swarm`, async () => {
        if ((await swarm(host)) !== 'inactive') await lab.docker(host, 'swarm', 'leave', '--force');
        return (await swarm(host)) === 'inactive';
      });
  });
});

function inDatabase(path: string, sql: string): void {
  const db = new DatabaseSync(path);
  db.exec(sql);
  db.close();
}
