/** What is warned of in a compose file, and what is refused. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as keys from './keys.ts';
import { SERVICE } from './keys.ts';
import { plan, service } from './plan.fixture.ts';

describe('warnings', () => {
  test('every key of a service that is not honoured, with its path and why', () => {
    for (const [key, fate] of Object.entries(SERVICE)) {
      if (fate === true) continue;
      expect(service(`${key}: x`).warnings).toEqual([`services.web.${key} is ignored: ${fate}`]);
    }
  });

  test.each([
    ['ports: ["127.0.0.1:80:80"]', 'services.web.ports[0].host_ip is ignored'],
    ['networks: {n: {ipv4_address: 1.2.3.4}}', 'services.web.networks.n.ipv4_address is ignored'],
    ['security_opt: ["label:x"]', 'services.web.security_opt[0] is ignored'],
    ['depends_on: {db: {restart: true}}', 'services.web.depends_on.db.restart is ignored'],
    [
      'deploy: {resources: {reservations: {devices: []}}}',
      'services.web.deploy.resources.reservations.devices is ignored',
    ],
    ['restart: always\n    deploy: {restart_policy: {condition: none}}', 'services.web.restart is ignored'],
  ])('%s', (text, warning) => {
    expect(service(text).warnings).toEqual([expect.stringContaining(warning)]);
  });

  test('x- fields are the user’s own', () => {
    expect(service('x-own: {any: thing}').warnings).toEqual([]);
  });
});

describe('refusals, with line, path and what would be right', () => {
  test.each([
    ['enviroment: {A: b}', 'services.web.enviroment: there is no such key: did you mean environment?'],
    ['deploy: {replica: 1}', 'services.web.deploy.replica: there is no such key: did you mean replicas?'],
    ['deploy: {replicas: many}', 'services.web.deploy.replicas: a number is needed, not "many"'],
    ['deploy: {replicas: -1}', 'services.web.deploy.replicas: a whole number from 0 up is needed, not "-1"'],
    [
      'deploy: {mode: globle}',
      'services.web.deploy.mode: "globle" is none of replicated, global, replicated-job, global-job',
    ],
    [
      'deploy: {mode: global, replicas: 2}',
      'services.web.deploy.replicas: replicas can only be used with replicated or replicated-job mode',
    ],
    [
      'deploy: {resources: {limits: {memory: lots}}}',
      'services.web.deploy.resources.limits.memory: a number of bytes such as 512M or 2g is needed, not "lots"',
    ],
    [
      'deploy: {resources: {limits: {cpus: 50%}}}',
      'services.web.deploy.resources.limits.cpus: a number of processors such as 0.5 is needed, not "50%"',
    ],
    ['environment: {A: true}', 'services.web.environment.A: a text is needed, not true: put it in quotes if it is one'],
    ['environment: {A: [b]}', 'services.web.environment.A: a text is needed, not a list'],
    ['stop_grace_period: 10', 'services.web.stop_grace_period: a duration such as 30s or 1m30s is needed, not "10"'],
    [
      'healthcheck: {test: [curl, x]}',
      'services.web.healthcheck.test: the first of the list must be CMD, CMD-SHELL or NONE',
    ],
    [
      'healthcheck: {test: x, disable: true}',
      'services.web.healthcheck.test: test and disable cannot be set at the same time',
    ],
    [
      'networks: [nope]',
      'services.web.networks.nope: there is no network "nope": declare it under "networks" at the top level',
    ],
    [
      'volumes: ["nope:/x"]',
      'services.web.volumes[0]: there is no volume "nope": declare it under "volumes" at the top level',
    ],
    [
      'secrets: [nope]',
      'services.web.secrets[0]: there is no secret "nope": declare it under "secrets" at the top level',
    ],
    ['depends_on: [nope]', 'services.web.depends_on.nope: there is no service "nope"'],
    [
      'depends_on: {db: {condition: healthy}}',
      'services.web.depends_on.db.condition: "healthy" is none of service_started, service_healthy, service_completed_successfully',
    ],
    ['env_file: gone', 'services.web.env_file[0].path: cannot read /dir/gone: ENOENT'],
    [
      'restart: sometimes',
      'services.web.restart: "sometimes" is none of no, always, unless-stopped, on-failure, on-failure:TIMES',
    ],
    ['command: sh -c "x', 'services.web.command: sh -c "x: a quote is never closed, or a backslash ends the line'],
    ['volumes: [{type: tmpfs, target: /t, source: x}]', 'services.web.volumes[0]: a tmpfs mount has no source'],
    [
      'volumes: [{type: bind, source: /x, target: /t, tmpfs: {size: 1}}]',
      'services.web.volumes[0].tmpfs: these are options of type tmpfs, and this is of type bind',
    ],
    ['ports: [{published: 80}]', 'services.web.ports[0]: a target is needed: the port in the container'],
    ['read_only: 1', 'services.web.read_only: true or false is needed, not "1"'],
    ['labels: x', 'services.web.labels: a mapping (key: value) is needed, not "x"'],
  ])('%s', (text, message) => {
    expect(() => service(text)).toThrow(expect.objectContaining({ message: `f.yml:4: ${message}` }));
  });

  test.each([
    ['services: {web: {}}', 'f.yml:1: services.web: an image is needed: images are not built here'],
    ['services: {web: }', 'f.yml:1: services.web: a mapping (key: value) is needed, not nothing'],
    ['services: {}', 'f.yml:1: services: there is no service to deploy'],
    ['version: "3"', 'f.yml:1: services: there are no services'],
    ['service: {}', 'f.yml:1: service: there is no such key: did you mean services?'],
    [
      'services: {a: {image: i, depends_on: [b]}, b: {image: i, depends_on: [a]}}',
      'f.yml:1: services.a.depends_on: these would never start: a waits for b waits for a',
    ],
    [
      'services: {a: {image: i}}\nsecrets: {s: }',
      'f.yml:2: secrets.s: "file", "content", "environment" or "external: true" is needed',
    ],
    ['services: {a: {image: i}}\nsecrets: {s: {file: gone}}', 'f.yml:2: secrets.s.file: cannot read /dir/gone: ENOENT'],
    [
      'services: {a: {image: i}}\nconfigs: {c: {content: a, environment: B}}',
      'f.yml:2: configs.c.environment: only one of file, content and environment can be given',
    ],
    [
      'services: {a: {image: i}}\nvolumes: {v: {external: true, driver: d}}',
      'f.yml:2: volumes.v.driver: what is external is not made here: take this away, or "external"',
    ],
  ])('%s', (text, message) => {
    expect(() => plan(text)).toThrow(expect.objectContaining({ message }));
  });
});

test('the page about stacks names every key', () => {
  const page = readFileSync(new URL('../../../docs/stacks.md', import.meta.url), 'utf8');
  const named = new Set(
    [...page.matchAll(/`([a-z_0-9.]+)`/g)].map(([, key = '']) => key.slice(key.lastIndexOf('.') + 1)),
  );
  const tables = Object.values(keys).filter((table) => typeof table === 'object');
  const missing = tables.flatMap((table) => Object.keys(table)).filter((key) => !named.has(key));
  expect([...new Set(missing)]).toEqual([]);
});
