/**
 * Stacks on real engines: `drover stack deploy` makes what `docker stack deploy` makes, services start in the order they
 * ask for, and what deploys did can be seen, compared and taken back, whichever client deployed.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually, Lab, run, succeed, type Result } from './lab.ts';

const DROVER = resolve(import.meta.dirname, '../../bin/drover');
const CALCULATOR = resolve(import.meta.dirname, '../../examples/calculator/docker-compose.yml');

let lab: Lab;
let directory: string;

beforeAll(async () => {
  lab = await Lab.up('stack', { hosts: 2 });
  directory = mkdtempSync(join(tmpdir(), 'drover-stack-'));
});
afterAll(async () => {
  await lab?.down();
  rmSync(directory, { recursive: true, force: true });
});

const env = async () => ({ DOCKER_HOST: await lab.socket('h1'), DOCKER_CONTEXT: undefined, REGISTRY: lab.registry });
const drover = async (...args: string[]): Promise<Result> => run(DROVER, ['stack', ...args], { env: await env() });

async function mustDrover(...args: string[]): Promise<string> {
  const result = await drover(...args);
  expect(result, result.stderr).toMatchObject({ code: 0 });
  return result.stdout;
}

const dockerDeploy = async (file: string, stack: string, ...flags: string[]): Promise<string> =>
  succeed('docker', ['stack', 'deploy', '--detach=true', '-c', file, ...flags, stack], { env: await env() });

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text.replaceAll('IMAGE', lab.image('busybox:latest')));
  return path;
}

const services = (stack: string) =>
  lab.docker('h1', 'stack', 'services', stack, '--format', '{{.Name}}').then((out) => out.split('\n').sort());

const spec = async (service: string) => JSON.parse(await lab.docker('h1', 'service', 'inspect', service))[0];

const tasks = async (stack: string) =>
  (await lab.docker('h1', 'stack', 'ps', stack, '--no-trunc', '--format', '{{.ID}} {{.DesiredState}}'))
    .split('\n')
    .sort();

test('drover deploys what docker deploys: the second of the two changes nothing', async () => {
  await dockerDeploy(CALCULATOR, 'calc');
  await lab.converged('calc_web', 3);
  await lab.converged('calc_redis', 1);
  const before = { web: await spec('calc_web'), redis: await spec('calc_redis'), tasks: await tasks('calc') };
  expect(await mustDrover('deploy', '-c', CALCULATOR, 'calc')).toContain('calc_web: 3/3 running: converged');
  expect({ web: await spec('calc_web'), redis: await spec('calc_redis'), tasks: await tasks('calc') }).toEqual(before);
  expect(before.web.Spec.TaskTemplate.ContainerSpec.Image).toContain('@sha256:');
  // A deploy that changes nothing is no revision.
  expect((await mustDrover('history', 'calc')).trim().split('\n')).toHaveLength(2);
  expect(await mustDrover('diff', 'calc')).toBe('No differences.\n');
  expect(await mustDrover('diff', '-c', CALCULATOR, 'calc')).toBe('No differences.\n');
  await lab.docker('h1', 'stack', 'rm', 'calc');
  const gone = await drover('history', 'calc');
  expect(gone).toMatchObject({ code: 1, stderr: 'Error: stack calc not found\n' });
});

test('services start in the order they ask for, across a crash of the manager', async () => {
  const path = file(
    'order.yml',
    `
services:
  web:
    image: IMAGE
    command: sleep 1000
    stop_grace_period: 0s
    depends_on:
      db: { condition: service_healthy }
      migrate: { condition: service_completed_successfully }
  db:
    image: IMAGE
    command: sleep 1000
    stop_grace_period: 0s
    healthcheck: { test: [CMD, test, -e, /tmp/go], interval: 300ms, timeout: 2s, retries: 1000 }
  migrate:
    image: IMAGE
    command: "true"
    depends_on: [db]
    deploy: { restart_policy: { condition: none } }
`,
  );
  await mustDrover('deploy', '--detach', '-c', path, 'order');
  const web = () =>
    lab.docker('h1', 'service', 'ps', 'order_web', '--no-trunc', '--format', '{{.ID}} {{.DesiredState}} {{.Error}}');
  const waiting = (words: string) => eventually(words, async () => (await web()).includes(words));
  await waiting('waits for service order_db to be healthy, service order_migrate to complete successfully');
  const [id] = (await web()).split(' ');
  await lab.drover('restart-daemon', 'h1');
  const container = await eventually('the container of db', async () => {
    for (const host of ['h1', 'h2']) {
      const found = await lab.engine(host, 'ps', '-q', '--filter', 'label=com.docker.swarm.service.name=order_db');
      if (found !== '') return { host, id: found };
    }
    return undefined;
  });
  await waiting('waits for service order_db to be healthy');
  expect(await lab.docker('h1', 'service', 'ps', 'order_migrate', '--format', '{{.DesiredState}}')).toBe('Ready');
  await lab.engine(container.host, 'exec', container.id, 'touch', '/tmp/go');
  await lab.converged('order_web', 1);
  expect((await web()).split(' ').slice(0, 2)).toEqual([id, 'Running']);
  expect(await lab.docker('h1', 'service', 'ps', 'order_migrate', '--format', '{{.CurrentState}}')).toMatch(
    /^Complete/,
  );

  // The order is one of first starts: what comes later waits for nothing.
  await lab.engine(container.host, 'exec', container.id, 'rm', '/tmp/go');
  await lab.docker('h1', 'service', 'scale', '--detach', 'order_web=2');
  await lab.converged('order_web', 2);
  await lab.docker('h1', 'stack', 'rm', 'order');
});

test('a stack goes back to its last deploy, and forth again, whoever deployed', async () => {
  const common = 'command: sleep 1000\n    stop_grace_period: 0s\n    deploy: { update_config: { monitor: 500ms } }';
  const one = file(
    'one.yml',
    `version: "3.8"
services:
  web:
    image: IMAGE
    environment: { VERSION: one }
    ${common}
  same:
    image: IMAGE
    ${common}
  old:
    image: IMAGE
    ${common}
`,
  );
  const two = file(
    'two.yml',
    `version: "3.8"
services:
  web:
    image: IMAGE
    environment: { VERSION: two, MORE: "1" }
    ${common}
  same:
    image: IMAGE
    ${common}
  new:
    image: IMAGE
    ${common}
`,
  );
  const version = async () => (await spec('app_web')).Spec.TaskTemplate.ContainerSpec.Env;
  await dockerDeploy(one, 'app');
  for (const name of ['web', 'same', 'old']) await lab.converged(`app_${name}`, 1);
  const same = { spec: await spec('app_same'), task: await lab.docker('h1', 'service', 'ps', 'app_same', '-q') };

  expect((await mustDrover('diff', '-c', two, 'app')).split('\n')).toEqual([
    '+ service app_new',
    '- service app_old (only with --prune)',
    '~ service app_web',
    '    TaskTemplate.ContainerSpec.Env[MORE]: + 1',
    '    TaskTemplate.ContainerSpec.Env[VERSION]: one -> two',
    '',
  ]);
  await dockerDeploy(two, 'app', '--prune');
  await lab.converged('app_new', 1);
  expect(await services('app')).toEqual(['app_new', 'app_same', 'app_web']);

  const back = await mustDrover('rollback', 'app');
  expect(back).toContain('Stack app goes back to revision 1: this is revision 3.\n');
  expect(back).toContain('app_web: 1/1 running: converged');
  expect(await services('app')).toEqual(['app_old', 'app_same', 'app_web']);
  expect(await version()).toEqual(['VERSION=one']);

  const forth = await drover('rollback', '--detach', 'app');
  expect(forth.stdout.split('\n').slice(1, -1).sort()).toEqual([
    '+ service app_new',
    '- service app_old',
    '~ service app_web',
  ]);
  expect(await services('app')).toEqual(['app_new', 'app_same', 'app_web']);
  expect(await version()).toEqual(['MORE=1', 'VERSION=two']);
  expect({ spec: await spec('app_same'), task: await lab.docker('h1', 'service', 'ps', 'app_same', '-q') }).toEqual(
    same,
  );

  const rows = (await mustDrover('history', 'app')).trim().split('\n');
  expect(rows.map((row) => row.split(/ {3,}/)).map(([revision, , by, changes]) => [revision, by, changes])).toEqual([
    ['REVISION', 'BY', 'CHANGES'],
    ['4', expect.stringMatching(/^drover \(.+@.+\)$/), 'back to 2; +new; -old; ~web (Env[MORE], Env[VERSION])'],
    ['3', expect.stringMatching(/^drover /), 'back to 1; -new; +old; ~web (Env[MORE], Env[VERSION])'],
    ['2', expect.stringMatching(/^Docker-Client\//), '+new; -old; ~web (Env[MORE], Env[VERSION])'],
    ['1', expect.stringMatching(/^Docker-Client\//), '+old; +same; +web'],
  ]);

  // What somebody changes by hand is a revision too, and it can be undone.
  await lab.docker('h1', 'service', 'update', '--detach', '--env-add', 'BY=hand', 'app_same');
  await mustDrover('rollback', '--to', '4', '--detach', 'app');
  expect((await spec('app_same')).Spec.TaskTemplate.ContainerSpec.Env ?? []).toEqual([]);
  expect(await mustDrover('rollback', '--to', '4', 'app')).toContain('Nothing to change');
  expect(await drover('rollback', '--to', '77', 'app')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('stack app has no revision 77: there are 1, 2, 3, 4, 5, 6'),
  });
  expect(await mustDrover('ls')).toMatch(/app +3 +6 /);
  await lab.docker('h1', 'stack', 'rm', 'app');
});

test('files, variables and forms that docker does not take; warnings; a failed deploy says so', async () => {
  file('base.yml', 'services:\n  base: { image: IMAGE, environment: [FROM=base], stop_grace_period: 0s }\n');
  writeFileSync(join(directory, '.env'), 'WHO=world\nLOUD="${WHO}!"\n');
  writeFileSync(join(directory, 'secret.txt'), 'hidden\n');
  const main = file(
    'main.yml',
    `
x-logging: &quiet { driver: json-file, options: { max-size: 1m } }
services:
  web:
    extends: { file: base.yml, service: base }
    container_name: fixed
    build: .
    logging: *quiet
    command: [sh, -c, "echo hello $$WHO; sleep 1000"]
    environment: { WHO: "\${WHO:?is needed}", LOUD: $LOUD, GONE: "\${GONE-default}" }
    configs: [greeting]
  tool: { image: IMAGE, profiles: [debug] }
configs:
  greeting: { content: "hello \${WHO}" }
`,
  );
  const over = file(
    'over.yml',
    'services:\n  web: { environment: !override { ONLY: this }, deploy: { replicas: 2 } }\n',
  );
  const deployed = await drover('deploy', '-c', main, 'full');
  expect(deployed, deployed.stderr).toMatchObject({ code: 0 });
  expect(deployed.stderr).toContain('Warning: services.web.container_name is ignored: ');
  expect(deployed.stderr).toContain('Warning: services.web.build is ignored: ');
  expect(deployed.stderr).toContain('Warning: services.tool is not deployed: it has the profile debug');
  expect((await spec('full_web')).Spec.TaskTemplate.ContainerSpec.Env).toEqual([
    'FROM=base',
    'GONE=default',
    'LOUD=world!',
    'WHO=world',
  ]);
  await mustDrover('deploy', '-c', main, '-c', over, 'full');
  expect(await lab.runningOn('full_web')).toHaveLength(2);
  expect((await spec('full_web')).Spec.TaskTemplate.ContainerSpec.Env).toEqual(['ONLY=this']);

  const bad = file('bad.yml', 'services:\n  web:\n    image: IMAGE\n    enviroment: { A: b }\n');
  expect(await drover('deploy', '-c', bad, 'full')).toMatchObject({
    code: 1,
    stderr: `Error: ${bad}:4: services.web.enviroment: there is no such key: did you mean environment?\n`,
  });

  // Docker's own client sets the label by hand; what would never start is refused.
  const circle = (name: string, other: string) =>
    `  ${name}:\n    image: IMAGE\n    deploy: { labels: { drover.depends-on: "${other}:service_healthy" } }\n`;
  const round = file('round.yml', `version: "3.8"\nservices:\n${circle('a', 'b')}${circle('b', 'a')}`);
  const refused = await run('docker', ['stack', 'deploy', '--detach=true', '-c', round, 'round'], { env: await env() });
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(/these would never start: round_. waits for round_., round_. waits for round_./);

  await lab.docker('h1', 'stack', 'rm', 'round');

  const version = (command: string): string =>
    file(
      'version.yml',
      `
services:
  web:
    image: IMAGE
    command: ${command}
    stop_grace_period: 0s
    deploy: { update_config: { failure_action: pause, monitor: 2s }, restart_policy: { delay: 100ms } }
`,
    );
  expect(await drover('deploy', '-c', version('sleep 1000'), 'broken')).toMatchObject({ code: 0 });
  const failed = await drover('deploy', '-c', version('"false"'), 'broken');
  expect(failed.code).toBe(1);
  expect(failed.stdout).toMatch(/broken_web: paused: update paused due to failure or early termination of task /);
  expect(await drover('rollback', 'broken')).toMatchObject({ code: 0 });
  await lab.docker('h1', 'stack', 'rm', 'full', 'broken');
});
