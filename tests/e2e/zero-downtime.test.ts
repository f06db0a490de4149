/**
 * Change under load: what a client outside sees while a service is updated, scaled, drained, evened out and removed, by
 * the count of a load generator that is a process of its own; and tasks that run but do not want connections yet.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, get, Lab, run } from './lab.ts';
import type { Traffic } from './traffic.ts';

const DROVER = resolve(import.meta.dirname, '../../bin/drover');
const hosts = ['h1', 'h2', 'h3'];
const UPDATES = process.env['DROVER_SOAK'] ? 20 : 4;
const DRAINED = process.env['DROVER_SOAK'] ? ['h2', 'h3'] : ['h2'];
/** To drain for a second is enough for these requests, and short enough for twenty updates. */
const LOADED = [
  '--replicas 3 --publish 8080:8080 --env VERSION=0 --env SLOT={{.Task.Slot}} --update-monitor 100ms',
  '--label drover.drain=1s --label drover.ready.http=:8080/',
].flatMap((line) => line.split(' '));
const RATE = 200;
const REST_MS = 5_000;
const SERVER = readFileSync(join(import.meta.dirname, 'patient-server.cjs'), 'utf8');

/** The generator: `report` gives what it has counted since the last one. */
class Generator {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;

  constructor(urls: string[]) {
    const script = join(import.meta.dirname, 'traffic.ts');
    this.#child = spawn(process.execPath, [script, String(RATE), ...urls], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface(this.#child.stdout);
  }

  report(): Promise<Traffic> {
    this.#child.stdin.write('\n');
    return this.#next();
  }

  /** Sends nothing more, and waits for what is under way. */
  async end(): Promise<Traffic> {
    const exit = once(this.#child, 'exit');
    this.#child.stdin.end();
    const last = await this.#next();
    await exit;
    return last;
  }

  async #next(): Promise<Traffic> {
    const [line]: string[] = await once(this.#lines, 'line', { signal: AbortSignal.timeout(15_000) });
    const traffic: Traffic = JSON.parse(line ?? '');
    return traffic;
  }
}

describe('without downtime', () => {
  let lab: Lab;

  beforeAll(async () => {
    lab = await Lab.up('downtime', { hosts: hosts.length });
  });
  afterAll(async () => {
    await lab?.down();
  });

  const create = (name: string, ...args: string[]) =>
    lab.docker('h1', 'service', 'create', '--detach', '--no-resolve-image', '--name', name, ...args);
  const update = (...args: string[]) =>
    lab.docker('h1', 'service', 'update', '--detach', '--no-resolve-image', ...args);
  const server = () => [lab.image('calculator:1'), '/usr/bin/node', '-e', SERVER];
  const status = async (url: string) => (await get(url)).status;
  const answers = (url: string) => eventually(`${url} answers`, async () => (await status(url)) === 200);
  const updated = (service: string) =>
    eventually(`${service} is updated`, async () => {
      const state = await lab.docker('h1', 'service', 'inspect', '--format', '{{.UpdateStatus.State}}', service);
      if (state.includes('paused')) throw new Error(state);
      return state === 'completed';
    });
  /** Containers of the service that run, on all hosts: those that are leaving too. */
  const running = async (service: string) => {
    const filter = `label=com.docker.swarm.service.name=${service}`;
    const lists = await Promise.all(hosts.map((host) => lab.engine(host, 'ps', '-q', '--filter', filter)));
    return lists
      .join('\n')
      .split('\n')
      .filter((line) => line !== '');
  };
  const atRest = (service: string, count: number) =>
    eventually(`${service}: ${count} containers`, async () => {
      await lab.converged(service, count);
      return (await running(service)).length === count;
    });

  test('no request fails while a service is updated, scaled, drained and evened out', async () => {
    await create('web', ...LOADED, ...server());
    await atRest('web', 3);
    const urls = await Promise.all(hosts.map(async (host) => `http://${await lab.address(host)}:8080`));
    for (const url of urls) await answers(url);
    const generator = new Generator(urls);
    const rows: [string, Traffic, number][] = [];
    let since = performance.now();
    const phase = async (name: string): Promise<void> => {
      rows.push([name, await generator.report(), (performance.now() - since) / 1000]);
      since = performance.now();
    };
    try {
      // Not waited for: measured.
      await new Promise((resolve) => setTimeout(resolve, REST_MS));
      await phase('at rest');
      for (const [i, order] of Array.from({ length: UPDATES }, (_, n) =>
        n % 2 === 0 ? 'stop-first' : 'start-first',
      ).entries()) {
        await update('--update-order', order, '--env-add', `VERSION=${i + 1}`, 'web');
        await updated('web');
        await atRest('web', 3);
        await phase(`update ${i + 1}, ${order}`);
      }
      await lab.docker('h1', 'service', 'scale', '--detach', 'web=12');
      await atRest('web', 12);
      await phase('scale to 12');
      await lab.docker('h1', 'service', 'scale', '--detach', 'web=3');
      await atRest('web', 3);
      await phase('scale to 3');
      for (const host of DRAINED) {
        await lab.docker('h1', 'node', 'update', '--availability', 'drain', host);
        await eventually(`${host} is empty`, async () => !(await lab.runningOn('web')).includes(host));
        await atRest('web', 3);
        await phase(`drain of ${host}`);
        await lab.docker('h1', 'node', 'update', '--availability', 'active', host);
        await phase(`${host} is active again`);
      }
      const evened = await run(DROVER, ['rebalance', '--host', await lab.socket('h1')]);
      expect(evened).toMatchObject({ code: 0, stdout: expect.stringContaining('moved web.') });
      await atRest('web', 3);
      expect((await lab.runningOn('web')).sort()).toEqual(hosts);
      await phase('rebalance');
    } finally {
      const last = await generator.end();
      rows.push(['the end', last, (performance.now() - since) / 1000]);
    }
    const total = rows.reduce((sum, [, { requests }]) => sum + requests, 0);
    const text = rows.map(([name, { requests, failed, resets, p50, p99, max }, seconds]) =>
      [
        name.padEnd(24),
        `${seconds.toFixed(1)} s`.padStart(7),
        `${requests} requests, ${failed} failed, ${resets} resets repeated;`,
        `p50 ${p50} ms, p99 ${p99} ms, max ${max} ms`,
      ].join(' '),
    );
    console.log(`${text.join('\n')}\n${total} requests in all`);
    expect(rows.flatMap(([name, { failures }]) => failures.map((failure) => `${name}: ${failure}`))).toEqual([]);
    // All versions have answered, so the updates did happen under it.
    const versions = new Set(rows.flatMap(([, traffic]) => Object.keys(traffic.versions)));
    expect(versions.size).toBe(UPDATES + 1);
    await lab.docker('h1', 'service', 'rm', 'web');
  });

  test('what is under way when its service is removed is answered', async () => {
    // Its server would not wait for them.
    const replicas = ['--replicas', '2', '--publish', '8081:8080', '--env', 'IMPATIENT=1'];
    await create('brief', ...replicas, '--label', 'drover.ready.tcp=8080', ...server());
    await atRest('brief', 2);
    const urls = await Promise.all(hosts.map(async (host) => `http://${await lab.address(host)}:8081/`));
    for (const url of urls) await answers(url);
    const under = urls.map((url) => get(`${url}long?ms=3000`, 10_000));
    await eventually('all of them have begun', async () => {
      const counts = await Promise.all(
        hosts.map((host) => lab.exec(host, 'conntrack', '-L', '-p', 'tcp', '--dport', '8081')),
      );
      return counts.every((list) => list.includes('ESTABLISHED'));
    });
    await lab.docker('h1', 'service', 'rm', 'brief');
    expect((await Promise.all(under)).map((answer) => answer.status)).toEqual([200, 200, 200]);
    await eventually('no container is left', async () => (await running('brief')).length === 0);
  });

  test('a task that is not ready runs, says why, and gets no connections', async () => {
    const [probed, page] = [':8080/ready.html', '/www/ready.html'];
    const labels = ['--label', `drover.ready.http=${probed}`, '--label', 'drover.ready.failures=1'];
    await create('late', '--publish', '8082:8080', '--constraint', 'node.hostname==h2', ...labels, lab.image('web:1'));
    const error = () =>
      lab.docker('h1', 'service', 'ps', '--no-trunc', '--format', '{{.CurrentState}} {{.Error}}', 'late');
    await eventually('it runs and says what it waits for', async () =>
      /^Running.* "not ready: GET :8080\/ready.html answers 404"$/.test(await error()),
    );
    const url = `http://${await lab.address('h1')}:8082/`;
    await expect(get(url)).rejects.toThrow('ECONNREFUSED');
    const [container = ''] = await running('late');
    await lab.engine('h2', 'exec', container, 'touch', page);
    await answers(url);
    expect(await error()).not.toContain('not ready');
    await lab.engine('h2', 'exec', container, 'rm', page);
    await eventually('it gets no connections any more', async () =>
      get(url).then(
        () => false,
        (failure: Error) => failure.message.includes('ECONNREFUSED'),
      ),
    );
    expect(await running('late')).toEqual([container]);
    await lab.docker('h1', 'service', 'rm', 'late');
  });

  test.each([
    ['the bridge of its engine', [], '8080'],
    ['the network of its host', ['--network', 'host'], '8083'],
  ])('a task on %s is asked there', async (_what, network, port) => {
    const serve = ['/bin/httpd', '-f', '-p', port, '-h', '/www'];
    await create('plain', ...network, '--label', `drover.ready.tcp=${port}`, lab.image('web:1'), ...serve);
    await eventually('it is ready', async () => {
      const row = await lab.docker('h1', 'service', 'ps', '--format', '{{.CurrentState}}|{{.Error}}', 'plain');
      if (/^Running [^|]*\|$/.test(row)) return true;
      throw new Error(row);
    });
    await lab.docker('h1', 'service', 'rm', 'plain');
  });

  test.each([
    [
      'drover.drain=soon',
      'label drover.drain: "soon" is not understood: 0 for none, or a duration such as 5s or 1m30s',
    ],
    ['drover.ready.http=8080', 'label drover.ready.http: "8080" is not understood: a port and a path such as'],
  ])('label %s is refused, and nothing is made', async (label, sentence) => {
    const made = await lab.tryDocker(
      'h1',
      'service',
      'create',
      '--detach',
      '--name',
      'bad',
      '--label',
      label,
      'busybox',
    );
    expect([made.code, made.stderr]).toEqual([1, expect.stringContaining(sentence)]);
    expect(await lab.docker('h1', 'service', 'ls', '--quiet', '--filter', 'name=bad')).toBe('');
  });
});
