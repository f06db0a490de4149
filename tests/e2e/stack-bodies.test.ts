/**
 * What `drover stack deploy` sends, key for key what the real `docker stack deploy` sends for the same file. No engine is needed.
 * Left out: what docker takes from a file and forgets (oom_score_adj, tmpfs).
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { everything } from './compose-file.ts';
import { succeed } from './lab.ts';

const DROVER = resolve(import.meta.dirname, '../../bin/drover');

const FULL = `version: "3.13"
services:
  min: { image: busybox }
  all:
    image: busybox:1
    cap_add: [NET_ADMIN, CAP_SYS_TIME]
    cap_drop: [ALL]
    command: sh -c "echo 'a b'" x
    entrypoint: ["/e", "1"]
    configs: [c1, { source: c2, target: /etc/c2, uid: "1", gid: "2", mode: 0440 }]
    secrets: [s1, { source: s2, target: t2, mode: 0400 }]
    credential_spec: { registry: foo }
    dns: 1.1.1.1
    dns_search: [x.y]
    env_file: e.env
    environment: { A: 1, B: x, C: , D: "", F: 1.10 }
    extra_hosts: ["h:1.2.3.4", "g=2.3.4.5"]
    healthcheck: { test: curl x, interval: 5s, timeout: 1m30s, retries: 3, start_period: 2s, start_interval: 1s }
    hostname: hn
    init: true
    isolation: default
    labels: [a=b, c]
    logging: { driver: json-file, options: { max-size: 1m, max-file: 3 } }
    networks: { default: , n1: { aliases: [al] }, ext: , h: }
    ports: ["80", "8080:80/udp", "9000-9001:90-91", { target: 53, published: 54, protocol: udp, mode: host }, { target: 55 }]
    read_only: true
    stdin_open: true
    stop_grace_period: 20s
    stop_signal: SIGINT
    sysctls: [net.x=1]
    tty: true
    ulimits: { nproc: 512, nofile: { soft: 10, hard: 20 } }
    user: "1:2"
    volumes:
      - "data:/d:ro,nocopy"
      - "/etc:/e:rslave"
      - "./rel:/r"
      - /anon
      - { type: volume, source: v2, target: /v2, volume: { nocopy: true } }
      - { type: tmpfs, target: /t, tmpfs: { size: 1000 } }
      - { type: bind, source: /b, target: /b, read_only: true, bind: { propagation: rshared } }
      - "ext:/x"
    working_dir: /w
    deploy:
      mode: replicated
      replicas: 0
      labels: { l: m }
      update_config: { parallelism: 0, delay: 1s, failure_action: rollback, monitor: 2s, max_failure_ratio: 0.1, order: start-first }
      rollback_config: {}
      resources:
        limits: { cpus: "0.5", memory: 64M, pids: 50 }
        reservations:
          cpus: "0.1"
          memory: 32m
          generic_resources: [{ discrete_resource_spec: { kind: gpu, value: 2 } }]
      restart_policy: { condition: on-failure, delay: 1s, max_attempts: 3, window: 10s }
      placement: { constraints: [node.role==worker], preferences: [{ spread: node.labels.z }], max_replicas_per_node: 2 }
      endpoint_mode: vip
  g:
    image: docker.io/library/b
    deploy: { mode: global, endpoint_mode: DNSRR, resources: { limits: { memory: 1g } }, update_config: { order: stop-first } }
    healthcheck: { disable: true }
    restart: unless-stopped
  j: { image: reg:5000/b, deploy: { mode: replicated-job, replicas: 3 }, restart: "on-failure:3" }
  gj: { image: b, deploy: { mode: global-job }, networks: [h] }
configs:
  c1: { file: ./c1 }
  c2: { name: real, external: true }
secrets:
  s1: { file: ./c1, labels: { q: r }, template_driver: golang }
  s2: { external: true }
networks:
  n1:
    driver: overlay
    driver_opts: { x: "y" }
    internal: true
    attachable: true
    labels: { a: b }
    ipam: { driver: default, config: [{ subnet: 10.9.0.0/24 }] }
  ext: { external: true, name: extnet }
  h: { external: true, name: host }
  unused: {}
volumes:
  data: { labels: { v: w }, driver_opts: { o: p } }
  v2: {}
  ext: { external: true, name: "ext-{{.Node.ID}}" }
`;

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'drover-bodies-'));
  writeFileSync(join(directory, 'c1'), 'hi\n');
  writeFileSync(join(directory, 'e.env'), '# c\nFROM=file "q"\nHOME\n');
});
afterAll(() => rmSync(directory, { recursive: true }));

type Bodies = Map<string, unknown>;

/** Runs a deploy against an API that has nothing and takes everything; resolves with the bodies of what it makes, by path and name. */
async function bodiesOf(program: string, args: string[]): Promise<Bodies> {
  const bodies: Bodies = new Map();
  const server = createServer((request, response) => void answer(request, response, bodies));
  const path = join(directory, 'api.sock');
  server.listen(path);
  await once(server, 'listening');
  try {
    await succeed(program, args, { env: { DOCKER_HOST: `unix://${path}`, DOCKER_CONTEXT: undefined } });
  } finally {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  }
  return bodies;
}

const PAYLOADS = ['app_s1', 's2', 'app_c1', 'real'].map((Name) => ({ ID: `id-${Name}`, Spec: { Name } }));

async function answer(request: IncomingMessage, response: ServerResponse, bodies: Bodies): Promise<void> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  const url = new URL(request.url ?? '', 'http://api');
  const path = url.pathname.replace(/^\/v[\d.]+/, '');
  const send = (status: number, body: unknown): void => {
    const headers = { 'Content-Type': 'application/json', 'Api-Version': '1.41', Ostype: 'linux' };
    response.writeHead(status, headers).end(JSON.stringify(body));
  };
  if (path.endsWith('/create')) {
    const body = JSON.parse(text) as { Name: string };
    bodies.set(`${path} ${body.Name}`, said(body));
    return send(201, { ID: 'new', Id: 'new' });
  }
  if (path === '/info') return send(200, { Swarm: { ControlAvailable: true, LocalNodeState: 'active' } });
  if (path === '/networks/extnet') return send(200, { Id: 'x', Name: 'extnet', Scope: 'swarm' });
  if (/^\/(secrets|configs)\/./.test(path)) return send(404, { message: 'not found' });
  if (path === '/secrets' || path === '/configs') {
    const filters = JSON.parse(url.searchParams.get('filters') ?? '{}') as { name?: Record<string, boolean> };
    return send(
      200,
      PAYLOADS.filter(({ Spec }) => filters.name === undefined || Spec.Name in filters.name),
    );
  }
  return send(200, []);
}

/** Without what says nothing, in which the two clients differ. */
function said(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(said);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([, member]) => ![null, '', false].includes(member as null));
  return Object.fromEntries(kept.map(([key, member]) => [key, said(member)]));
}

test.each([
  ['a file with every key', FULL, 4 + 5],
  ['the file of the other tests', everything('busybox:1'), 3],
])('%s', async (_, text, count) => {
  const file = join(directory, 'stack.yml');
  writeFileSync(file, text);
  const args = ['stack', 'deploy', '--resolve-image', 'never', '-c', file, '--detach', 'app'];
  const docker = await bodiesOf('docker', args);
  expect(docker.size).toBe(count);
  expect(Object.fromEntries(await bodiesOf(DROVER, args))).toEqual(Object.fromEntries(docker));
});
