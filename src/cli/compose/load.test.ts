/** Several files, what they extend, and how they are laid over each other. */
import { describe, expect, test } from 'vitest';
import { loadCompose } from './load.ts';
import { scalarValue, type Node } from './node.ts';

function plain(node: Node): unknown {
  if (node.kind === 'scalar') return scalarValue(node);
  if (node.kind === 'list') return node.items.map(plain);
  return Object.fromEntries([...node.entries].map(([key, member]) => [key, plain(member)]));
}

/** The services of files that are given by name; the first are those named with `-c`. */
function load(
  texts: Record<string, string>,
  named: string[] = Object.keys(texts),
): { services: unknown; warnings: string[] } {
  const warnings: string[] = [];
  const tree = loadCompose({
    files: named,
    directory: '/dir',
    lookup: (name) => ({ HOME: '/home/me', TAG: '2' })[name],
    read(path) {
      const text = texts[path] ?? texts[path.replace('/dir/', '')];
      if (text === undefined) throw new Error(`ENOENT: ${path}`);
      return text;
    },
    warn: (text) => warnings.push(text),
  });
  return { services: (plain(tree) as { services: unknown }).services, warnings };
}

const web = (text: string): string => `services:\n  web: ${text}\n`;

describe('one file over another', () => {
  test.each([
    ['a value', '{image: a, user: u}', '{image: b}', { image: 'b', user: 'u' }],
    [
      'environment, whatever its form',
      '{environment: [A=1, B=2, C]}',
      '{environment: {B: 3}}',
      { environment: { A: '1', B: 3, C: null } },
    ],
    [
      'labels',
      '{labels: [a=1, b], deploy: {labels: {x: y}}}',
      '{labels: {a: 2}, deploy: {labels: [z]}}',
      { labels: { a: 2, b: '' }, deploy: { labels: { x: 'y', z: '' } } },
    ],
    ['lists are joined, each entry once', '{cap_add: [A, B]}', '{cap_add: [B, C]}', { cap_add: ['A', 'B', 'C'] }],
    ['a text joins a list', '{dns: 1.1.1.1}', '{dns: [2.2.2.2]}', { dns: ['1.1.1.1', '2.2.2.2'] }],
    [
      'commands are replaced',
      '{command: [a, b], entrypoint: x, healthcheck: {test: [CMD, a]}}',
      '{command: c, entrypoint: [y], healthcheck: {test: [CMD, b]}}',
      { command: 'c', entrypoint: ['y'], healthcheck: { test: ['CMD', 'b'] } },
    ],
    [
      'ports are joined by what they mean',
      '{ports: ["80:80", "81:81"]}',
      '{ports: ["80:80/tcp", {target: 81, published: 81, protocol: tcp, mode: host}]}',
      {
        ports: [
          { mode: 'ingress', target: '80', published: '80', protocol: 'tcp' },
          { target: 81, published: 81, protocol: 'tcp', mode: 'host' },
        ],
      },
    ],
    [
      'mounts by where they are',
      '{volumes: ["a:/x", "b:/y"]}',
      '{volumes: ["c:/x:ro"]}',
      {
        volumes: [
          { type: 'volume', source: 'c', target: '/x', read_only: true },
          { type: 'volume', source: 'b', target: '/y' },
        ],
      },
    ],
    [
      'secrets by where they are',
      '{secrets: [a, b]}',
      '{secrets: [{source: c, target: a}]}',
      { secrets: [{ source: 'c', target: 'a' }, { source: 'b' }] },
    ],
    [
      'networks and dependencies, whatever their form',
      '{networks: [a, b], depends_on: [x]}',
      '{networks: {b: {aliases: [c]}}, depends_on: {x: {condition: service_healthy}}}',
      { networks: { a: null, b: { aliases: ['c'] } }, depends_on: { x: { condition: 'service_healthy' } } },
    ],
    [
      '!reset takes away',
      '{image: a, ports: ["80"], environment: {A: 1, B: 2}}',
      '{ports: !reset [], environment: {A: !reset null}}',
      { image: 'a', environment: { B: 2 } },
    ],
    [
      '!override replaces',
      '{cap_add: [A], environment: {A: 1}}',
      '{cap_add: !override [B], environment: !override {C: 3}}',
      { cap_add: ['B'], environment: { C: 3 } },
    ],
    ['nothing takes nothing away', '{environment: {A: 1}}', '{environment: }', { environment: { A: 1 } }],
  ])('%s', (_, base, over, merged) => {
    expect(load({ 'a.yml': web(base), 'b.yml': web(over) }).services).toEqual({ web: merged });
  });

  test('tags mean nothing in the first file; three files; a service of its own', () => {
    expect(
      load({
        'a.yml': web('{image: a, cap_add: !override [A], user: !reset x}'),
        'b.yml': 'services: {db: {image: d}}',
        'c.yml': web('{image: "c:$TAG"}'),
      }).services,
    ).toEqual({ web: { image: 'c:2', cap_add: ['A'] }, db: { image: 'd' } });
  });
});

describe('extends', () => {
  test('a service of the same file, of another one, and through several', () => {
    const { services } = load(
      {
        'main.yml': `services:
  base: {image: a, environment: [A=1]}
  web: {extends: base, environment: {B: 2}}
  far: {extends: {file: sub/other.yml, service: mid}, command: x}
`,
        'sub/other.yml': `services:
  deep: {image: "o:$TAG", env_file: e.env, volumes: ["./data:/d", "~/h:/h"]}
  mid: {extends: {service: deep}, labels: [l=1]}
`,
      },
      ['main.yml'],
    );
    expect(services).toEqual({
      base: { image: 'a', environment: { A: '1' } },
      web: { image: 'a', environment: { A: '1', B: 2 } },
      far: {
        image: 'o:2',
        env_file: [{ path: '/dir/sub/e.env' }],
        volumes: [
          { type: 'bind', source: '/dir/sub/data', target: '/d' },
          { type: 'bind', source: '/home/me/h', target: '/h' },
        ],
        labels: { l: '1' },
        command: 'x',
      },
    });
  });

  test.each([
    ['{extends: nobody}', 'a.yml:2: services.web.extends: there is no service "nobody" in a.yml'],
    ['{extends: web}', 'a.yml:2: services.web.extends: a circle: web in a.yml, which extends web in a.yml'],
    [
      '{extends: {service: x, from: y}}',
      'a.yml:2: services.web.extends.from: there is no such key; known are file, service',
    ],
    ['{extends: {file: b.yml}}', 'a.yml:2: services.web.extends: the key "service" is missing'],
    ['{extends: {file: gone.yml, service: x}}', 'ENOENT: /dir/gone.yml'],
  ])('%s is refused', (service, message) => {
    expect(() => load({ 'a.yml': web(service) })).toThrow(message);
  });
});

test('anchors, x- fields and variables that are not set', () => {
  const { services, warnings } = load({
    'a.yml': 'x-base: &base {image: "i:$NOT${NOT}"}\nservices:\n  web: {<<: *base, user: "${ALSO:-u}"}\n',
  });
  expect(services).toEqual({ web: { image: 'i:', user: 'u' } });
  expect(warnings).toEqual(['the variable NOT is not set: an empty text stands in its place']);
});

test.each([
  ['- a', 'a.yml:1: a compose file is a mapping that begins with "services:"'],
  ['include: [b.yml]', 'a.yml:1: include is not supported: name all the files, each with -c'],
  [web('{ports: ["x:y"]}'), 'a.yml:2: services.web.ports[0]: "x:y" is no port'],
  [web('{volumes: ["a:/b:zz"]}'), 'a.yml:2: services.web.volumes[0]: "zz" is no option of a mount'],
  [web('{image: "${A:?is missing}"}'), 'a.yml:2: services.web.image: the variable A must be set: is missing'],
  [web('{extra_hosts: [x]}'), 'a.yml:2: services.web.extra_hosts[0]: HOST:IP is needed'],
  [web('[a]'), 'a.yml:2: services.web: a mapping (key: value) is needed'],
])('%j is refused', (text, message) => {
  expect(() => load({ 'a.yml': text })).toThrow(message);
});
