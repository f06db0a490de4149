/**
 * Secrets and configs through the untouched docker client: made, used, rotated, removed; what containers see of them; and
 * where a secret is found once its task is gone: nowhere.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Host } from './host.ts';
import { eventually, Lab, run, succeed } from './lab.ts';

const DROVER = resolve(import.meta.dirname, '../../bin/drover');
const HOSTS = ['h1', 'h2'] as const;

describe('secrets and configs', () => {
  let lab: Lab;
  let h1: Host;
  let h2: Host;
  let dir: string;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'drover-e2e-secrets-'));
    lab = await Lab.up('secrets', { hosts: HOSTS.length });
    [h1, h2] = await Promise.all([Host.open(lab, 'h1'), Host.open(lab, 'h2')]);
  });
  afterAll(async () => {
    await lab?.down();
    rmSync(dir, { recursive: true, force: true });
  });

  const env = async () => ({ DOCKER_HOST: await lab.socket('h1'), DOCKER_CONTEXT: undefined });
  /** `docker secret create NAME -` and the like, with the value on standard input. */
  const create = async (kind: string, name: string, value: string, ...flags: string[]) =>
    (await succeed('docker', [kind, 'create', ...flags, name, '-'], { env: await env(), input: value })).trim();
  const drover = async (input: string, ...args: string[]) => run(DROVER, args, { env: await env(), input });
  const refusal = async (...args: string[]) => {
    const { code, stderr } = await lab.tryDocker('h1', ...args);
    expect(code, args.join(' ')).not.toBe(0);
    return stderr.trim();
  };

  /** A task that sleeps on a host, and runs until it is asked to stop. */
  const start = async (name: string, host: string, ...flags: string[]) => {
    const common = ['--detach', '--no-resolve-image', '--name', name, '--constraint', `node.hostname==${host}`];
    await lab.docker('h1', 'service', 'create', ...common, ...flags, ...sleeping());
    await lab.converged(name, 1);
  };
  const sleeping = () => [lab.image('busybox:latest'), 'sh', '-c', 'trap "exit 0" TERM; sleep 1000 & wait'];
  const containerOf = async (service: string, host: string) => {
    const filter = `label=com.docker.swarm.service.name=${service}`;
    return (await lab.engine(host, 'ps', '-q', '--filter', filter)).split('\n')[0]!;
  };
  const inside = async (service: string, host: string, script: string) =>
    lab.engine(host, 'exec', await containerOf(service, host), 'sh', '-c', script);
  /** Tasks that have files on a host. */
  const tasksWithFiles = async ({ dataDir }: Host) =>
    existsSync(join(dataDir, 'tasks')) ? readdirSync(join(dataDir, 'tasks')) : [];
  const gone = (service: string) =>
    eventually(`no container of ${service}`, async () => {
      const filter = `label=com.docker.swarm.service.name=${service}`;
      const left = await Promise.all(HOSTS.map((host) => lab.engine(host, 'ps', '-aq', '--filter', filter)));
      return left.join('') === '';
    });

  test('are made, shown, filtered, labelled and removed; what a secret holds is shown by nothing', async () => {
    const id = await create('secret', 'api.key', 'hunter2', '--label', 'tier=back');
    await create('config', 'app.conf', 'port = 80\n', '--label', 'tier=back');
    expect(id).toMatch(/^[0-9a-z]{25}$/);
    const shown = await lab.docker('h1', 'secret', 'inspect', 'api.key');
    expect(JSON.parse(shown)).toMatchObject([{ ID: id, Spec: { Name: 'api.key', Labels: { tier: 'back' } } }]);
    expect(shown).not.toMatch(/Data|hunter2|aHVudGVyMg/);
    expect(await lab.docker('h1', 'config', 'inspect', '--pretty', 'app.conf')).toContain('port = 80');
    const ls = (kind: string, filter: string) =>
      lab.docker('h1', kind, 'ls', '--filter', filter, '--format', '{{.Name}}');
    expect(await ls('secret', 'name=api')).toBe('api.key');
    expect(await ls('secret', `id=${id.slice(0, 8)}`)).toBe('api.key');
    expect(await ls('config', 'label=tier=back')).toBe('app.conf');
    expect(await ls('secret', 'label=tier=front')).toBe('');
    expect(await refusal('secret', 'create', 'api.key', '/etc/hostname')).toContain('secret api.key already exists');
    expect(await refusal('secret', 'create', 'bad-', '/etc/hostname')).toContain(
      'invalid name, only 64 [a-zA-Z0-9-_.]',
    );
    writeFileSync(join(dir, 'big'), Buffer.alloc(500 * 1024));
    expect(await refusal('secret', 'create', 'big', join(dir, 'big'))).toContain(
      'secret data must be larger than 0 and less than 512000 bytes',
    );
    expect(await refusal('service', 'create', '--detach', '--secret', 'nobody', lab.image('busybox:latest'))).toContain(
      'secret not found: nobody',
    );
    expect(await lab.docker('h1', 'secret', 'rm', 'api.key')).toBe('api.key');
    expect(await lab.docker('h1', 'config', 'rm', 'app.conf')).toBe('app.conf');
    expect(await refusal('secret', 'inspect', 'api.key')).toContain('secret api.key not found');
  });

  test('a task finds them where, whose and as it was asked for; droverd may die meanwhile', async () => {
    await create('secret', 'key', 'the key');
    await create('secret', 'login', 'the login');
    await create('config', 'conf', 'the config');
    const template =
      'slot {{.Task.Slot}} of {{.Service.Name}} on {{.Node.Hostname}}: {{secret "key"}} {{env "GREETING"}}';
    await create('config', 'filled', template, '--template-driver', 'golang');
    const files = [
      '--secret=key',
      '--secret=source=login,target=/etc/login,uid=1000,gid=1001,mode=0400',
      '--config=source=conf,target=/etc/app/app.conf,mode=0440',
      '--config=filled',
    ];
    await start('web', 'h2', '--read-only', '--env', 'GREETING=hello', ...files);
    const modes = 'stat -c "%a %u %g" /run/secrets/key /etc/login /etc/app/app.conf /filled';
    expect((await inside('web', 'h2', modes)).split('\n')).toEqual(['444 0 0', '400 1000 1001', '440 0 0', '444 0 0']);
    const contents = 'cat /run/secrets/key /etc/login /etc/app/app.conf /filled';
    const all = 'the keythe loginthe configslot 1 of web on h2: the key hello';
    expect(await inside('web', 'h2', contents)).toBe(all);
    const mounts = await inside('web', 'h2', 'grep -E " (/run/secrets/key|/etc/login|/filled) " /proc/mounts');
    for (const line of mounts.split('\n')) expect(line).toMatch(/^\S+ \S+ tmpfs ro,/);
    expect(await inside('web', 'h2', 'echo x 2>&1 >/run/secrets/key; rm /run/secrets/key 2>&1; true')).toMatch(
      /Read-only file system[^]*(busy|Read-only)/,
    );
    // To another node nothing of it ever went.
    expect(await tasksWithFiles(h1)).toEqual([]);

    await lab.drover('restart-daemon', 'h2', '--signal', 'KILL');
    expect(await inside('web', 'h2', contents)).toBe(all);
    await lab.converged('web', 1);
    expect(await inside('web', 'h2', contents)).toBe(all);
    expect(await refusal('secret', 'rm', 'key')).toContain("secret 'key' is in use by the following service: web");
    expect(await refusal('config', 'rm', 'conf')).toContain("config 'conf' is in use by the following service: web");

    await lab.docker('h1', 'service', 'update', '--detach', '--secret-rm', 'login', '--config-rm', 'conf', 'web');
    await eventually('without the secret', async () => {
      await inside('web', 'h2', '! test -e /etc/login && test -e /run/secrets/key');
      return true;
    });
    await lab.docker('h1', 'secret', 'rm', 'login');
    await lab.docker('h1', 'config', 'rm', 'conf');
    await lab.docker('h1', 'service', 'rm', 'web');
    await gone('web');
    await eventually('no files of tasks', async () => (await tasksWithFiles(h2)).length === 0);
    await lab.docker('h1', 'secret', 'rm', 'key');
    await lab.docker('h1', 'config', 'rm', 'filled');
  });

  test('a template that cannot be filled in rejects the task, and says why without saying what is in it', async () => {
    await create('config', 'bad', 'a {{.Nonsense}}', '--template-driver', 'golang');
    await create('secret', 'worse', 'hidden {{.Nonsense}}', '--template-driver', 'golang');
    const errors = async (service: string) => {
      const args = ['--detach', '--name', service, '--no-resolve-image', '--restart-condition', 'none'];
      const kind = service === 'bad' ? '--config' : '--secret';
      await lab.docker('h1', 'service', 'create', ...args, kind, service, ...sleeping());
      return eventually(`${service} is rejected`, async () => {
        const out = await lab.docker(
          'h1',
          'service',
          'ps',
          '--no-trunc',
          '--format',
          '{{.CurrentState}} {{.Error}}',
          service,
        );
        return out.startsWith('Rejected') && out;
      });
    };
    expect(await errors('bad')).toContain(
      'the template of config bad cannot be filled in: {{.Nonsense}} is not known here',
    );
    expect(await errors('worse')).toMatch(/the template of secret worse cannot be filled in: one of its placeholders/);
    await lab.docker('h1', 'service', 'rm', 'bad', 'worse');
    await lab.docker('h1', 'config', 'rm', 'bad');
    await lab.docker('h1', 'secret', 'rm', 'worse');
  });

  test('a stack brings its own and uses those that are there; deployed again, it touches no task', async () => {
    await create('secret', 'outside', 'from outside');
    writeFileSync(join(dir, 'token.txt'), 'the token');
    writeFileSync(join(dir, 'app.conf'), 'the settings');
    const [image, ...command] = sleeping();
    const compose = join(dir, 'stack.yml');
    const service = {
      image,
      command,
      secrets: ['token', { source: 'outside', target: 'other', mode: 0o400 }],
      configs: ['conf'],
    };
    const file = {
      version: '3.8',
      services: { web: service },
      secrets: { token: { file: './token.txt' }, outside: { external: true } },
      configs: { conf: { file: './app.conf' } },
    };
    writeFileSync(compose, JSON.stringify(file));
    const deploy = () =>
      lab.docker('h1', 'stack', 'deploy', '--detach', '--resolve-image', 'never', '-c', compose, 'app');
    await deploy();
    const [host = ''] = await lab.converged('app_web', 1);
    expect(await inside('app_web', host, 'cat /run/secrets/token /run/secrets/other /conf')).toBe(
      'the tokenfrom outsidethe settings',
    );
    const before = await containerOf('app_web', host);
    await deploy();
    expect(await containerOf('app_web', host)).toBe(before);
    expect(await lab.docker('h1', 'secret', 'ls', '--format', '{{.Name}}', '--filter', 'name=app')).toBe('app_token');
    writeFileSync(join(dir, 'token.txt'), 'another token');
    expect(await refusal('stack', 'deploy', '--detach', '-c', compose, 'app')).toContain(
      'only updates to Labels are allowed',
    );
    await lab.docker('h1', 'stack', 'rm', 'app');
    await gone('app_web');
    expect(await lab.docker('h1', 'secret', 'ls', '-q', '--filter', 'name=app')).toBe('');
    await lab.docker('h1', 'secret', 'rm', 'outside');
  });

  test('a rotation rolls every service that uses the name, and can be rolled back; prune takes what is left', async () => {
    await create('secret', 'pw', 'one');
    await start('alpha', 'h2', '--secret', 'pw');
    await start('beta', 'h1', '--secret', 'source=pw,target=/etc/pw,mode=0400');
    const rotated = await drover('two', 'secret', 'rotate', 'pw');
    expect(rotated.stderr).toBe('');
    expect(rotated.stdout).toMatch(/^pw has its new value; the one before is pw\.v1\n/);
    expect(rotated.stdout).toMatch(/alpha: 1 of 1 tasks use it\n/);
    expect(rotated.stdout).toMatch(/beta: 1 of 1 tasks use it\n/);
    expect(rotated.code).toBe(0);
    expect(await inside('alpha', 'h2', 'cat /run/secrets/pw')).toBe('two');
    expect(await inside('beta', 'h1', 'cat /etc/pw')).toBe('two');
    expect((await drover('two', 'secret', 'rotate', 'pw')).stderr).toContain("secret 'pw' holds this value already");
    // Who comes now gets the new one by the old name.
    await start('gamma', 'h2', '--secret', 'pw');
    expect(await inside('gamma', 'h2', 'cat /run/secrets/pw')).toBe('two');

    await lab.docker('h1', 'service', 'rollback', '--detach', 'alpha');
    await eventually('alpha is back', async () => (await inside('alpha', 'h2', 'cat /run/secrets/pw')) === 'one');
    expect(await refusal('secret', 'rm', 'pw.v1')).toContain(
      "secret 'pw.v1' is in use by the following service: alpha",
    );
    expect((await drover('', 'secret', 'prune')).stdout).toBe('');
    expect((await drover('three', 'secret', 'rotate', '--detach', 'pw')).stdout).toMatch(/alpha: being updated/);
    for (const [service, host, path] of [
      ['alpha', 'h2', '/run/secrets/pw'],
      ['beta', 'h1', '/etc/pw'],
      ['gamma', 'h2', '/run/secrets/pw'],
    ] as const)
      await eventually(`${service} has three`, async () => (await inside(service, host, `cat ${path}`)) === 'three');
    await lab.docker('h1', 'service', 'rm', 'alpha', 'beta', 'gamma');
    await Promise.all(['alpha', 'beta', 'gamma'].map(gone));
    await eventually('both are pruned', async () => {
      await drover('', 'secret', 'prune');
      return (await lab.docker('h1', 'secret', 'ls', '--format', '{{.Name}}', '--filter', 'name=pw')) === 'pw';
    });
    await lab.docker('h1', 'secret', 'rm', 'pw');
  });

  test('once its task is gone a secret is found nowhere: no file, no journal, no log, no answer', async () => {
    const value = randomBytes(18).toString('base64url');
    // Whole groups of three bytes: it looks the same wherever it stands in base64.
    const traces = [value, Buffer.from(value).toString('base64'), Buffer.from(value).toString('hex')];
    await create('secret', 'marked', value);
    await start('holder', 'h2', '--secret', 'marked');
    expect(await inside('holder', 'h2', 'cat /run/secrets/marked')).toBe(value);
    const answers = async () => {
      const asked = ['secret ls', 'secret inspect marked', 'service inspect holder', 'service ps holder --no-trunc'];
      const said = await Promise.all(asked.map((words) => lab.docker('h1', ...words.split(' '))));
      return [...said, await lab.engine('h2', 'inspect', await containerOf('holder', 'h2'))].join('\n');
    };
    const said = await answers();
    for (const trace of traces) expect(said).not.toContain(trace);
    const [held = '', ...others] = await found('h2', traces);
    expect([held.startsWith(join(h2.dataDir, 'tasks')), others]).toEqual([true, []]);
    // While it is used, too, the manager's disk holds it encrypted only, and the worker's not at all.
    for (const host of HOSTS) expect(await found(host, traces, ['tasks'])).toEqual([]);
    await lab.docker('h1', 'service', 'rm', 'holder');
    await gone('holder');
    for (const host of HOSTS)
      await eventually(`nothing on ${host}`, async () => (await found(host, traces)).length === 0);
    const listed = await lab.docker('h1', 'secret', 'inspect', 'marked');
    expect(await lab.docker('h1', 'events', '--since', '10m', '--until', '0s')).not.toContain(value);
    for (const trace of traces) expect(listed).not.toContain(trace);
    await lab.docker('h1', 'secret', 'rm', 'marked');
  });

  test('a host that lost its power finds them again; one that leaves keeps none of them', async () => {
    await create('secret', 'kept', 'the value');
    await start('survivor', 'h2', '--secret', 'kept');
    const [before] = await tasksWithFiles(h2);
    await lab.drover('kill', 'h2');
    await lab.drover('start', 'h2');
    await eventually('another task with the secret', async () => {
      const tasks = await tasksWithFiles(h2);
      if (tasks.length !== 1 || tasks[0] === before) return false;
      return (await inside('survivor', 'h2', 'cat /run/secrets/kept')) === 'the value';
    });
    const mounted = () => lab.exec('h2', 'sh', '-c', `grep -c ${join(h2.dataDir, 'tasks')}/ /proc/mounts || true`);
    expect((await mounted()).trim()).toBe('1');
    await lab.docker('h2', 'swarm', 'leave');
    expect((await mounted()).trim()).toBe('0');
    expect(await tasksWithFiles(h2)).toEqual([]);
  });

  /** Files of a host, as it sees them itself, that hold one of the traces: data, journal, engine, logs and /run. */
  async function found(name: (typeof HOSTS)[number], traces: string[], without: string[] = []): Promise<string[]> {
    const host = name === 'h1' ? h1 : h2;
    const patterns = traces.flatMap((trace) => ['-e', trace]);
    // What stands for a network namespace cannot be read.
    const excluded = ['netns', ...without].map((folder) => `--exclude-dir=${folder}`);
    const grep = ['grep', '-rlaF', '-D', 'skip', ...excluded, ...patterns, host.plan.dir, '/run'];
    const script = `${grep.map((word) => `'${word}'`).join(' ')}; test $? -le 1`;
    const out = await lab.exec(name, 'sh', '-c', script);
    return out.split('\n').filter((line) => line !== '');
  }
});
