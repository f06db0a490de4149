/**
 * Logs, execs and figures of tasks on several nodes, through the untouched docker client and `drover`: nothing lost, nothing out
 * of order, nothing that hangs, and bounded memory for a reader who stops.
 */
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { spawn } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Host } from './host.ts';
import { eventually, Lab, run, type Result } from './lab.ts';
import { Stream } from './stream.ts';

const TASKS = 10;
const LINES = 100_000;
/** What a stopped reader may cost the manager, per task whose log is merged: docs/logs.md. */
const BOUND_PER_TASK_BYTES = 512 * 1024;
const READERS = 16;
/** What a process's memory moves by itself: garbage that is not collected yet. */
const NOISE_BYTES = 64 * 1024 * 1024;
const drover = resolve(import.meta.dirname, '../../bin/drover');

describe('logs', () => {
  let lab: Lab;

  beforeAll(async () => {
    lab = await Lab.up('logs', { hosts: 3 });
  });
  afterAll(async () => {
    await lab?.down();
  });

  const env = async () => ({ DOCKER_HOST: await lab.socket('h1'), DOCKER_CONTEXT: undefined });
  const create = (name: string, ...args: string[]) =>
    lab.docker('h1', 'service', 'create', '--detach', '--no-resolve-image', '--name', name, ...args);
  const shell = (script: string) => [lab.image('busybox:latest'), 'sh', '-c', script];
  const logs = (...args: string[]): Promise<Result> => lab.tryDocker('h1', 'service', 'logs', ...args);
  const cli = async (...args: string[]): Promise<Result> => run(drover, args, { env: await env() });

  /** Every task of the service has ended by itself. */
  const completed = (service: string, count: number) =>
    eventually(
      `${service}: ${count} tasks complete`,
      async () => {
        const out = await lab.docker('h1', 'service', 'ps', '--format', '{{.CurrentState}}', service);
        const states = out.split('\n');
        return states.length === count && states.every((state) => state.startsWith('Complete'));
      },
      180_000,
    );

  describe('many lines', () => {
    beforeAll(async () => {
      const count = `BEGIN { for (i = 1; i <= ${LINES}; i++) print "line " i " of a log that is as long as others are" }`;
      await create('loud', '--replicas', String(TASKS), '--restart-condition', 'none', ...shell(`awk '${count}'`));
      await completed('loud', TASKS);
    });
    afterAll(async () => {
      await lab.docker('h1', 'service', 'rm', 'loud');
    });

    test('ten tasks: none lost, none out of order per task', async () => {
      const started = performance.now();
      const child = spawn('docker', ['service', 'logs', '--no-trunc', 'loud'], {
        env: { ...process.env, ...(await env()) },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const last = new Map<string, number>();
      for await (const line of createInterface({ input: child.stdout })) {
        const [, task, at] = /^(\S+)@\S+ +\| line (\d+) of a log/.exec(line) ?? [];
        if (task === undefined) throw new Error(`not a line of ours: ${line}`);
        if (Number(at) !== (last.get(task) ?? 0) + 1) throw new Error(`${task}: ${last.get(task)} and then ${at}`);
        last.set(task, Number(at));
      }
      const seconds = (performance.now() - started) / 1000;
      expect([...last.values()]).toEqual(Array(TASKS).fill(LINES));
      console.log(
        `${TASKS * LINES} lines in ${seconds.toFixed(1)} s: ${Math.round((TASKS * LINES) / seconds)} lines/s`,
      );
    });

    test('lines of several tasks come in the order of time, with their times and details', async () => {
      const { code, stdout } = await logs('--tail', '50', '--timestamps', '--details', '--no-trunc', 'loud');
      expect(code).toBe(0);
      const lines = stdout.trimEnd().split('\n');
      expect(lines).toHaveLength(50 * TASKS);
      const times = lines.map((line) => line.slice(0, 30));
      expect(times).toEqual(times.toSorted());
      for (const line of lines)
        expect(line).toMatch(/^\d{4}-\d\d-\d\dT[\d:]+\.\d{9}Z loud\.\d+\.\w{25}@h\d +\| +line \d+ of/);
    });

    test('a reader that stops costs the manager no more than the bound', async () => {
      const pid = await (await Host.open(lab, 'h1')).pid('droverd');
      const resident = async () =>
        Number(/^VmRSS:\s+(\d+) kB/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))![1]) * 1024;
      const path = (await lab.socket('h1')).replace('unix://', '');
      const before = await resident();
      const sockets = Array.from({ length: READERS }, () => connect(path).pause());
      for (const socket of sockets)
        socket.write('GET /services/loud/logs?stdout=1&stderr=1&details=1 HTTP/1.1\r\nHost: x\r\n\r\n');
      // Nothing is read: what is on its way fills every buffer, and comes to rest.
      let sizes: number[] = [];
      await eventually('the memory of the manager is at rest', async () => {
        sizes = [...sizes, await resident()].slice(-20);
        return sizes.length === 20 && Math.max(...sizes) - Math.min(...sizes) < 1024 * 1024;
      });
      const grown = sizes.at(-1)! - before;
      console.log(`${sockets.length} stopped readers of ${TASKS} tasks: ${(grown / 1024 / 1024).toFixed(1)} MiB`);
      expect(grown).toBeLessThan(sockets.length * TASKS * BOUND_PER_TASK_BYTES + NOISE_BYTES);
      // The manager still answers, and a reader that goes on gets the rest.
      expect((await logs('--tail', '1', '--raw', 'loud')).stdout.trimEnd().split('\n')).toHaveLength(TASKS);
      for (const socket of sockets.slice(1)) socket.destroy();
      let bytes = 0;
      sockets[0]!.on('data', (chunk: Buffer) => (bytes += chunk.length)).resume();
      await eventually('the rest of the log', async () => bytes > TASKS * LINES * 50);
      sockets[0]!.destroy();
    });
  });

  test('--follow sees a task that starts later, and one that takes the place of another', async () => {
    const script = 'echo "up $HOSTNAME"; trap "echo bye; exit 0" TERM; while :; do sleep 0.1; done';
    await create('grows', '--replicas', '1', ...shell(script));
    await lab.converged('grows', 1);
    const follow = new Stream('docker', ['service', 'logs', '--follow', 'grows'], await env());
    await follow.until(/grows\.1\.\w+@h\d +\| up/);
    await lab.docker('h1', 'service', 'scale', '--detach', 'grows=3');
    await follow.until(/grows\.2\.\w+@h\d +\| up/);
    await follow.until(/grows\.3\.\w+@h\d +\| up/);
    await lab.docker('h1', 'service', 'update', '--detach', '--force', '--no-resolve-image', 'grows');
    await follow.until(/(grows\.1\.\w+@h\d +\| up[^]*){2}/);
    await follow.until(/(grows\.3\.\w+@h\d +\| up[^]*){2}/);
    await follow.until(/\| bye/);
    await lab.docker('h1', 'service', 'rm', 'grows');
    expect(await follow.ended).toBe(0);
  });

  test('one task, streams apart, raw, tail, since; what is wrong is said', async () => {
    await create('words', '--restart-condition', 'none', ...shell('echo out; echo err >&2; sleep 1; echo later'));
    await completed('words', 1);
    const id = await lab.docker('h1', 'service', 'ps', '-q', '--no-trunc', 'words');
    const whole = await logs('--raw', 'words');
    expect(whole).toEqual({ code: 0, stdout: 'out\nlater\n', stderr: 'err\n' });
    expect(await logs('--raw', id)).toEqual(whole);
    expect(await logs('--raw', '--tail', '1', 'words')).toEqual({ code: 0, stdout: 'later\n', stderr: '' });
    const times = (await logs('--raw', '-t', 'words')).stdout.split('\n').map((line) => line.split(' ')[0]!);
    expect(await logs('--raw', '--since', times[1]!, 'words')).toEqual({ code: 0, stdout: 'later\n', stderr: '' });
    expect((await logs('words')).stdout).toMatch(/^words\.1\.\w{12}@h\d +\| out\n/);
    const bad = await logs('--tail', 'some', 'words');
    expect([bad.code, bad.stderr]).toEqual([
      1,
      'Error response from daemon: tail value must be a positive integer or "all"\n',
    ]);
    await create('mute', '--log-driver', 'none', ...shell('echo never; sleep 1000'));
    await lab.converged('mute', 1);
    const mute = await logs('mute');
    expect(mute.stderr).toMatch(/mute\.1.*\| log incomplete: .*configured logging driver does not support reading/);
    expect(mute.code).toBe(0);
    await create('term', '--tty', ...shell('echo from a terminal; sleep 1000'));
    await lab.converged('term', 1);
    await eventually(
      'the terminal has spoken',
      async () => (await logs('--raw', 'term')).stdout === 'from a terminal\r\n',
    );
    await lab.docker('h1', 'service', 'rm', 'words', 'mute', 'term');
  });

  test('exec, top and stats on whichever node', async () => {
    await create(
      'box',
      '--mode',
      'global',
      '--hostname',
      '{{.Node.Hostname}}',
      ...shell('trap "exit 0" TERM; while :; do sleep 1; done'),
    );
    await lab.converged('box', 3);
    await create('pair', '--replicas', '2', '--constraint', 'node.hostname==h3', ...shell('sleep 1000'));
    await lab.converged('pair', 2);
    for (const host of ['h1', 'h2', 'h3']) {
      const id = await lab.docker('h1', 'node', 'ps', host, '-q', '--no-trunc', '--filter', 'name=box');
      expect(await cli('exec', id, '--', 'sh', '-c', 'hostname; echo no >&2; exit 42')).toEqual({
        code: 42,
        stdout: `${host}\n`,
        stderr: 'no\n',
      });
    }
    const piped = await run(drover, ['exec', '-i', 'pair.2', 'sh', '-c', 'wc -c; cat /etc/hostname'], {
      env: await env(),
      input: 'x'.repeat(1_000_000),
    });
    expect(piped.code).toBe(0);
    expect(piped.stdout).toMatch(/^1000000\n\w{12}\n$/);
    const terminal = new Stream(
      'script',
      ['-qec', `stty rows 33 cols 99; ${drover} exec -it pair.1 sh`, '/dev/null'],
      await env(),
    );
    await terminal.until(/\/ # /);
    terminal.type('stty size\r');
    await terminal.until(/33 99/);
    terminal.type('exit 3\r');
    expect(await terminal.ended).toBe(3);
    expect(await cli('exec', 'pair.7', 'true')).toEqual({
      code: 1,
      stdout: '',
      stderr: 'Error: pair.7 has no running task\n',
    });
    expect((await cli('exec', 'pair.1', 'no-such-program')).code).not.toBe(0);
    const given = await run(drover, ['exec', '-e', 'A=a b', '-e', 'HERE', '-e', 'NOT_HERE', 'pair.1', 'env'], {
      env: { ...(await env()), HERE: 'h=1' },
    });
    expect(given.stdout.split('\n')).toEqual(expect.arrayContaining(['A=a b', 'HERE=h=1']));
    expect(given.stdout).not.toContain('NOT_HERE');
    expect(await cli('exec', '-e', '=x', 'pair.1', 'env')).toMatchObject({
      code: 125,
      stderr: expect.stringContaining('invalid environment variable: =x'),
    });

    const top = await cli('top', 'box');
    expect(top.code).toBe(0);
    expect(top.stdout).toMatch(/^TASK +NODE +UID +PID/);
    for (const host of ['h1', 'h2', 'h3']) expect(top.stdout).toMatch(new RegExp(`^box\\.\\w+ +${host} .*while`, 'm'));
    const stats = await cli('stats', '--no-stream', 'pair', 'box');
    expect(stats.stderr).toBe('');
    const rows = stats.stdout.trimEnd().split('\n');
    expect(rows[0]).toMatch(/^TASK +NODE +CPU % +MEM USAGE \/ LIMIT +MEM % +NET I\/O +BLOCK I\/O +PIDS$/);
    expect(rows.slice(1, 3).map((row) => row.split(/ {2,}/).slice(0, 2))).toEqual([
      ['pair.1', 'h3'],
      ['pair.2', 'h3'],
    ]);
    for (const row of rows.slice(1)) expect(row).toMatch(/ \d+\.\d\d% +[\d.]+\wi?B \/ [\d.]+\wiB +\d+\.\d\d% .* \d+$/);
    const stream = new Stream(drover, ['stats', 'pair'], await env());
    await stream.until(/(pair\.1 +h3 +\d+\.\d\d%[^]*){2}/);
    await lab.docker('h1', 'service', 'scale', '--detach', 'pair=3');
    await stream.until(/pair\.3 +h3 +\d+\.\d\d%/);
    await stream.stop();
    await lab.docker('h1', 'service', 'rm', 'box', 'pair');
  });

  test('a node that is away: what there is, what is missing, and an end; --follow goes on when it is back', async () => {
    await create(
      'spread',
      '--mode',
      'global',
      '--stop-grace-period',
      '1s',
      ...shell('n=0; while :; do echo "tick $n"; n=$((n+1)); sleep 0.2; done'),
    );
    await lab.converged('spread', 3);
    const follow = new Stream('docker', ['service', 'logs', '--follow', 'spread'], await env());
    await follow.until(/@h3 +\| tick 5\n/);
    const h3 = await Host.open(lab, 'h3');
    await h3.stop('droverd', 'SIGKILL');
    const partial = await logs('--tail', '2', 'spread');
    expect(partial.code).toBe(0);
    expect(partial.stdout).toMatch(/@h1 +\| tick/);
    expect(partial.stdout).toMatch(/@h2 +\| tick/);
    expect(partial.stdout).not.toMatch(/@h3/);
    expect(partial.stderr).toMatch(/^spread\.\w+\.\w{12}@h3 +\| log incomplete: spread\.\w+\.\w{12} on node h3: /);
    await follow.until(/log incomplete: .* on node h3/);
    const seen = follow.output.length;
    await h3.start('droverd');
    await eventually('it goes on', async () => /@h3 +\| tick/.test(follow.output.slice(seen)));
    await follow.stop();
    const ticks = [...follow.output.matchAll(/@h3 +\| tick (\d+)/g)].map(([, n]) => Number(n));
    // None lost, none twice.
    expect(ticks).toEqual(ticks.map((_, at) => ticks[0]! + at));
    await lab.docker('h1', 'service', 'rm', 'spread');
  });
});
