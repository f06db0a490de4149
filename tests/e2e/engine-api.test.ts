/**
 * The engine behind droverd, with the untouched docker client: everything that is not the cluster's passes through as if
 * nobody stood between, streams above all; and Drover's own bridges are out of its reach (decision 8).
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Host } from './host.ts';
import { eventually, get, Lab, run, type Result } from './lab.ts';
import { Stream } from './stream.ts';

/** Of the engine that Debian 12 has; what is offered is never newer than the engine (decision 1). */
const API = '1.41';

describe('the engine through droverd', () => {
  let lab: Lab;
  let dir: string;
  let socket: string;
  let host: Host;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'drover-e2e-'));
    lab = await Lab.up('engine', { hosts: 2 });
    socket = await lab.socket('h1');
    host = await Host.open(lab, 'h1');
    await lab.docker(
      'h1',
      'run',
      '-d',
      '--init',
      '--name',
      'ticker',
      'busybox',
      'sh',
      '-c',
      'while true; do echo tick; usleep 50000; done',
    );
  });
  afterAll(async () => {
    rmSync(dir, { recursive: true, force: true });
    await lab?.down();
  });

  const docker = (...args: string[]): Promise<string> => lab.docker('h1', ...args);
  const environment = (): NodeJS.ProcessEnv => ({ DOCKER_HOST: socket, DOCKER_CONTEXT: undefined });
  const stream = (...args: string[]): Stream => new Stream('docker', args, environment());
  const withInput = (input: string, ...args: string[]): Promise<Result> =>
    run('docker', args, { env: environment(), input });
  /** The docker client with a real terminal, whose keyboard is `stream.type`. */
  const terminal = (command: string): Stream => new Stream('script', ['-qefc', command, '/dev/null'], environment());

  interface Answer {
    status: number;
    headers: NodeJS.Dict<string | string[]>;
    body: string;
  }

  async function call(method: string, path: string, host = 'h1'): Promise<Answer> {
    const socketPath = (await lab.socket(host)).slice('unix://'.length);
    return new Promise((done, fail) => {
      const asked = request({ socketPath, method, path, agent: false, timeout: 120_000 }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', fail);
        response.on('end', () =>
          done({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() }),
        );
      });
      asked.on('timeout', () => asked.destroy(new Error(`${path}: no answer`)));
      asked.on('error', fail);
      asked.end();
    });
  }

  /** Sockets that droverd on h1 holds: of its clients and to its engine. */
  const connections = () => host.sockets('droverd');

  describe('streams', () => {
    test('standard input is piped, and its end reaches the container', async () => {
      expect(await withInput('x\n', 'run', '-i', '--rm', 'busybox', 'cat')).toMatchObject({ code: 0, stdout: 'x\n' });
      // What is said after the end of the input still comes back: only one direction was closed.
      const late = await withInput(
        'a\nb\n',
        'run',
        '-i',
        '--rm',
        'busybox',
        'sh',
        '-c',
        'wc -l; usleep 300000; echo late; echo worse >&2; exit 3',
      );
      expect({ ...late, stdout: late.stdout.trim() }).toEqual({ code: 3, stdout: '2\nlate', stderr: 'worse\n' });
      expect(await withInput('y\n', 'exec', '-i', 'ticker', 'cat')).toMatchObject({ code: 0, stdout: 'y\n' });
    });

    test('some megabytes both ways at once come back unharmed', async () => {
      const big = randomBytes(6 << 20).toString('base64');
      const back = await withInput(big, 'run', '-i', '--rm', 'busybox', 'cat');
      expect(digest(back.stdout)).toBe(digest(big));
    });

    test('docker run -it and exec -it, under a terminal', async () => {
      for (const command of ['docker run -it --rm busybox sh', 'docker exec -it ticker sh']) {
        const shell = terminal(command);
        await shell.until(/# /);
        shell.type('tty; stty -echo; echo $((6*7))\n');
        await shell.until(/\/dev\/(pts\/\d|console)[\s\S]*\b42\b/);
        shell.type('exit 5\n');
        expect(await shell.ended).toBe(5);
      }
    });

    test('the size of the terminal follows', async () => {
      const shell = terminal('stty rows 33 cols 101; docker run -it --rm busybox sh');
      await shell.until(/# /);
      await eventually('the size arrives', async () => {
        shell.type('stty size\n');
        return shell.output.includes('33 101');
      });
      shell.type('exit\n');
      expect(await shell.ended).toBe(0);
    });

    test('attach and detach: the container goes on', async () => {
      await docker('run', '-dit', '--name', 'attached', 'busybox', 'sh');
      const first = terminal('docker attach attached');
      first.type('echo $((40+2))\n');
      await first.until(/\b42\b/);
      first.type('\x10\x11');
      // The docker client says so, and its exit code depends on its version.
      await first.until(/read escape sequence/);
      await first.ended;
      expect(await docker('inspect', '--format', '{{.State.Running}}', 'attached')).toBe('true');
      const second = terminal('docker attach attached');
      second.type('exit 7\n');
      await second.ended;
      expect(await docker('wait', 'attached')).toBe('7');
      await docker('rm', 'attached');
    });

    test('docker logs -f: what is there, what comes, and until it is interrupted', async () => {
      const logs = stream('logs', '-f', '--tail', '1', 'ticker');
      await logs.until(/(tick\n){5}/);
      await logs.stop();
      expect(await docker('logs', '--tail', '2', 'ticker')).toBe('tick\ntick');
    });

    test('docker run -d returns at once; wait waits; kill ends it', async () => {
      await docker('run', '-d', '--init', '--name', 'sleeper', 'busybox', 'sleep', '1000');
      const wait = stream('wait', 'sleeper');
      await eventually(
        'someone waits',
        async () => (await docker('inspect', '--format', '{{.State.Status}}', 'sleeper')) === 'running',
      );
      await docker('kill', 'sleeper');
      expect(await wait.ended).toBe(0);
      expect(wait.output.trim()).toBe('137');
      await docker('rm', 'sleeper');
    });

    test('clients killed in the middle of long streams leave nothing behind', async () => {
      const before = await connections();
      const logs = Array.from({ length: 12 }, () => stream('logs', '-f', 'ticker'));
      const execs = Array.from({ length: 4 }, () =>
        stream('exec', 'ticker', 'sh', '-c', 'while true; do echo tock; usleep 20000; done'),
      );
      const events = Array.from({ length: 4 }, () => stream('events'));
      await Promise.all([...logs.map((each) => each.until(/tick\n/)), ...execs.map((each) => each.until(/tock\n/))]);
      expect(await connections()).toBeGreaterThanOrEqual(before + 2 * 16);
      await Promise.all([...logs, ...execs, ...events].map((each) => each.stop('SIGKILL')));
      await eventually('no connection is left', async () => (await connections()) <= before + 2);
      expect(await docker('ps', '--format', '{{.Names}}')).toContain('ticker');
    });

    test('a client that hangs up in the middle of a build context ends the build', async () => {
      const before = await connections();
      const client = connect(socket.slice('unix://'.length));
      const head =
        'POST /v1.41/build?t=never HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n';
      await new Promise<void>((written) => client.write(`${head}200\r\n${'x'.repeat(0x200)}\r\n`, () => written()));
      client.destroy();
      await eventually('no connection is left', async () => (await connections()) <= before + 1);
    });
  });

  describe('files and images', () => {
    test('docker cp in and out', async () => {
      const file = join(dir, 'big');
      writeFileSync(file, randomBytes(3 << 20));
      await docker('cp', file, 'ticker:/big');
      await docker('cp', 'ticker:/big', `${file}.back`);
      expect(digest(readFileSync(`${file}.back`))).toBe(digest(readFileSync(file)));
    });

    test('build with a context of some megabytes, save, remove, load', async () => {
      const blob = randomBytes(5 << 20);
      writeFileSync(join(dir, 'blob'), blob);
      writeFileSync(
        join(dir, 'Dockerfile'),
        'FROM busybox\nARG WORD\nCOPY blob /blob\nRUN echo "$WORD" >/word\nCMD sha256sum /blob\n',
      );
      const args = ['build', '--build-arg', 'WORD=hello', '-t', 'built:1', dir];
      const built = await run('docker', args, { env: { ...environment(), DOCKER_BUILDKIT: '0' } });
      expect(built).toMatchObject({ code: 0, stdout: expect.stringMatching(/Successfully tagged built:1/) });
      await docker('save', '-o', join(dir, 'built.tar'), 'built:1');
      await docker('rmi', 'built:1');
      expect(await docker('load', '-i', join(dir, 'built.tar'))).toContain('Loaded image: built:1');
      expect(await docker('run', '--rm', 'built:1')).toContain(digest(blob));
      expect(await docker('run', '--rm', 'built:1', 'cat', '/word')).toBe('hello');
      await docker('rmi', 'built:1');
    });

    test('a build that fails says why, a pull of what is not there too', async () => {
      writeFileSync(join(dir, 'Dockerfile'), 'FROM busybox\nRUN exit 9\n');
      const built = await run('docker', ['build', dir], { env: { ...environment(), DOCKER_BUILDKIT: '0' } });
      expect(built.code).toBe(9);
      expect(built.stderr).toContain("The command '/bin/sh -c exit 9' returned a non-zero code: 9");
      expect((await lab.tryDocker('h1', 'pull', lab.image('no-such:1'))).stderr).toMatch(/not found|unknown/);
      expect((await lab.tryDocker('h1', 'run', '--rm', '--pull', 'never', 'nowhere/no-such:1')).stderr).toContain(
        'No such image: nowhere/no-such:1',
      );
    });

    test('volumes and bridge networks', async () => {
      await docker('volume', 'create', '--label', 'a=b', 'vol');
      await docker('run', '--rm', '-v', 'vol:/v', 'busybox', 'sh', '-c', 'echo kept >/v/file');
      expect(await docker('run', '--rm', '-v', 'vol:/v', 'busybox', 'cat', '/v/file')).toBe('kept');
      expect(await docker('volume', 'ls', '-q', '--filter', 'label=a=b')).toBe('vol');
      await docker('volume', 'rm', 'vol');
      await docker('network', 'create', '--label', 'a=b', 'mine');
      await docker('run', '-d', '--init', '--name', 'peer', '--network', 'mine', 'busybox', 'sleep', '1000');
      expect(await docker('run', '--rm', '--network', 'mine', 'busybox', 'ping', '-c', '1', 'peer')).toContain(
        '1 packets received',
      );
      await docker('network', 'connect', 'mine', 'ticker');
      expect(await docker('network', 'inspect', '--format', '{{len .Containers}}', 'mine')).toBe('2');
      await docker('network', 'disconnect', 'mine', 'ticker');
      expect((await lab.tryDocker('h1', 'network', 'rm', 'mine')).stderr).toContain('has active endpoints');
      await docker('rm', '-f', 'peer');
      await docker('network', 'rm', 'mine');
    });
  });

  describe('looking', () => {
    test('top, stats, version, info, system df', async () => {
      expect(await docker('top', 'ticker')).toContain('while true');
      expect(await docker('stats', '--no-stream', '--format', '{{.Name}} {{.MemUsage}}', 'ticker')).toMatch(
        /^ticker [\d.]+/,
      );
      expect(
        await docker('version', '--format', '{{.Server.APIVersion}} {{range .Server.Components}}{{.Name}} {{end}}'),
      ).toMatch(new RegExp(`^${API} Engine .*Drover`));
      expect(
        await docker(
          'info',
          '--format',
          '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Swarm.Nodes}} {{.Swarm.Managers}}',
        ),
      ).toBe('active true 2 1');
      expect(
        await lab.docker('h2', 'info', '--format', '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Name}}'),
      ).toBe('active false h2');
      expect(await docker('system', 'df')).toMatch(/Images +\d+ /);
    });

    test("events: the engine's and the cluster's in one stream, each once", async () => {
      const format =
        '{{.Scope}} {{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{index .Actor.Attributes "updatestate.new"}}';
      // How far an update has come is told too; how often depends on how fast it is.
      const told = (output: string) =>
        output
          .split('\n')
          .map((line) => line.trim())
          .filter((line) => !/ (updating|completed)$/.test(line));
      const events = stream('events', '--format', format);
      // The client prints nothing at the start: once the stream has one of these, it is known to be listening.
      await eventually('it listens', async () => {
        await docker('run', '--rm', '--name', 'probe', 'busybox', 'true');
        return events.output.includes('local container destroy probe');
      });
      await docker('run', '--rm', '--name', 'plain', 'busybox', 'true');
      await docker('service', 'create', '--detach', '--name', 'watched', lab.image('web:1'));
      await docker('service', 'update', '--detach', '--env-add', 'A=b', 'watched');
      await docker('node', 'update', '--availability', 'drain', 'h2');
      await docker('node', 'update', '--availability', 'active', 'h2');
      await docker('service', 'rm', 'watched');
      await docker('network', 'create', '-d', 'overlay', 'seen');
      await docker('network', 'rm', 'seen');
      await events.until(/swarm network remove seen/);
      await events.stop();
      expect(told(events.output).filter((line) => /^local container \w+ plain|^swarm/.test(line))).toEqual([
        'local container create plain',
        'local container attach plain',
        'local container start plain',
        'local container die plain',
        'local container destroy plain',
        'swarm service create watched',
        'swarm service update watched',
        'swarm node update h2',
        'swarm node update h2',
        'swarm service remove watched',
        'swarm network create seen',
        'swarm network remove seen',
      ]);
      // The client cuts times to whole seconds: what has just happened is not in the past of `0s` for certain.
      const past = await docker(
        'events',
        '--since',
        '1h',
        '--until=-2s',
        '--filter',
        'type=service',
        '--format',
        format,
      );
      expect(told(past)).toEqual(['create', 'update', 'remove'].map((action) => `swarm service ${action} watched`));
    });

    test('200 requests at once', async () => {
      const answers = await Promise.all(Array.from({ length: 200 }, () => call('GET', `/v${API}/containers/json`)));
      expect(new Set(answers.map((answer) => answer.status))).toEqual(new Set([200]));
      for (const answer of answers) expect(answer.body).toContain('/ticker');
    });
  });

  describe('negotiation', () => {
    test.each([API, '1.24'])('a client pinned to %s', async (version) => {
      const env = { ...environment(), DOCKER_API_VERSION: version };
      expect((await run('docker', ['ps', '--format', '{{.Names}}'], { env })).stdout).toContain('ticker');
      expect(
        (await run('docker', ['node', 'ls', '--format', '{{.Hostname}}'], { env })).stdout.split('\n').sort(),
      ).toEqual(['', 'h1', 'h2']);
      expect(await run('docker', ['run', '-i', '--rm', 'busybox', 'cat'], { env, input: 'old\n' })).toMatchObject({
        code: 0,
        stdout: 'old\n',
      });
    });

    test('a client that is too new, or too old', async () => {
      const env = { ...environment(), DOCKER_API_VERSION: '1.99' };
      const tooNew = `client version 1.99 is too new. Maximum supported API version is ${API}`;
      expect((await run('docker', ['ps'], { env })).stderr).toContain(tooNew);
      expect((await run('docker', ['service', 'ls'], { env })).stderr).toContain(tooNew);
      expect(await call('GET', '/v1.12/containers/json')).toMatchObject({
        status: 400,
        body: expect.stringContaining('client version 1.12 is too old'),
      });
    });

    test("an unknown route gets the engine's 404", async () => {
      for (const path of ['/nowhere', `/v${API}/nowhere`]) {
        expect(await call('GET', path)).toMatchObject({ status: 404, body: '{"message":"page not found"}\n' });
      }
    });

    test.each([
      ['h1', 'active/manager'],
      ['h2', 'active/worker'],
    ])('ping on %s: %s', async (host, swarm) => {
      for (const method of ['GET', 'HEAD']) {
        for (const path of ['/_ping', `/v${API}/_ping`]) {
          const answer = await call(method, path, host);
          expect(answer).toMatchObject({ status: 200, body: method === 'GET' ? 'OK' : '' });
          expect(answer.headers).toMatchObject({
            swarm,
            'api-version': API,
            ostype: 'linux',
            'docker-experimental': 'false',
          });
          expect(answer.headers['content-length']).toBe('2');
        }
      }
    });
  });

  describe("Drover's bridges", () => {
    beforeAll(async () => {
      await docker('network', 'create', '-d', 'overlay', 'app');
      await docker(
        'service',
        'create',
        '--name',
        'web',
        '--mode',
        'global',
        '--network',
        'app',
        '-p',
        '8080:8080',
        lab.image('web:1'),
      );
      await lab.converged('web', 2);
    });

    const bridges = async () =>
      (await lab.engine('h1', 'network', 'ls', '--filter', 'name=drover', '--format', '{{.Name}}')).split('\n').sort();
    const answers = async (host: string) => (await get(`http://${await lab.address(host)}:8080/`)).status === 200;

    test('are not listed; the overlay is, once', async () => {
      expect(await bridges()).toHaveLength(2);
      const listed = await docker('network', 'ls', '--format', '{{.Name}} {{.Driver}} {{.Scope}}');
      expect(listed.split('\n').sort()).toEqual([
        'app overlay swarm',
        'bridge bridge local',
        'host host local',
        'ingress overlay swarm',
        'none null local',
      ]);
    });

    test('cannot be inspected, removed, connected to or run on, by name or id', async () => {
      for (const bridge of await bridges()) {
        const id = await lab.engine('h1', 'network', 'inspect', '--format', '{{.Id}}', bridge);
        for (const name of [bridge, id, id.slice(0, 12)]) {
          for (const args of [
            ['network', 'inspect', name],
            ['network', 'rm', name],
            ['network', 'connect', name, 'ticker'],
            ['network', 'disconnect', '-f', name, 'ticker'],
            ['run', '--rm', '--network', name, 'busybox', 'true'],
          ]) {
            const answer = await lab.tryDocker('h1', ...args);
            expect(answer.stderr, args.join(' ')).toMatch(new RegExp(`network ${name} not found`));
            expect(answer.code, args.join(' ')).not.toBe(0);
          }
        }
      }
      expect(await bridges()).toHaveLength(2);
    });

    test('a single container on an overlay that is not attachable is refused with a sentence', async () => {
      for (const args of [
        ['run', '--rm', '--network', 'app', 'busybox', 'true'],
        ['network', 'connect', 'app', 'ticker'],
      ]) {
        expect((await lab.tryDocker('h1', ...args)).stderr).toMatch(/network app not manually attachable/);
      }
    });

    test('prune takes what is unused, and leaves the cluster network intact', async () => {
      await docker('network', 'create', 'idle');
      await docker('network', 'create', '-d', 'overlay', 'idle-overlay');
      for (const host of ['h1', 'h2']) {
        const pruned = await lab.docker(host, 'network', 'prune', '-f');
        expect(
          pruned
            .split('\n')
            .slice(1)
            .filter((name) => name !== '')
            .sort(),
        ).toEqual(host === 'h1' ? ['idle', 'idle-overlay'] : []);
        await lab.docker(host, 'system', 'prune', '-f');
      }
      // A node without tasks has an idle bridge of `ingress`: the one that prune would take.
      await docker('service', 'rm', 'web');
      await eventually('no tasks', async () => (await lab.engine('h2', 'ps', '-aq')) === '');
      await lab.docker('h2', 'network', 'prune', '-f');
      await lab.docker('h2', 'system', 'prune', '-f');
      await docker(
        'service',
        'create',
        '--name',
        'web',
        '--constraint',
        'node.hostname==h1',
        '--network',
        'app',
        '-p',
        '8080:8080',
        lab.image('web:1'),
      );
      await eventually('h2 leads to h1', () => answers('h2'));
      await eventually('a clean audit', async () => {
        await docker('rm', '-f', 'ticker');
        await lab.drover('audit');
        return true;
      });
    });
  });
});

function digest(of: string | Buffer): string {
  return createHash('sha256').update(of).digest('hex');
}
