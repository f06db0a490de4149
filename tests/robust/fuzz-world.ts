/**
 * A cluster in memory behind a real API, for requests of any kind, and what must hold whatever is asked of it:
 *
 * - every request is answered in time, and an answer of 5xx has one of the causes listed here;
 * - an answer that is an error has changed nothing;
 * - what was accepted is digested: no control loop fails on it, agents can be told of it, the API can show it;
 * - what is in memory is what the journal would give back.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, createServer, request as httpRequest, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { AT, aNode, anOverlay, aService, aTask, FakeCluster, json } from '../../src/api/api.fixture.ts';
import type { NodeAttachments } from '../../src/api/node-attachments.ts';
import { createApi, type Api } from '../../src/api/server.ts';
import { initRequest, initShape } from '../../src/api/validate/swarm-requests.ts';
import { startControl, type Control } from '../../src/control/control.ts';
import { rebalancePlan } from '../../src/control/rebalance/plan.ts';
import { factsOf, readFact } from '../../src/dispatch/facts.ts';
import { RequestError } from '../../src/dispatch/http.ts';
import { Streams } from '../../src/dispatch/streams.ts';
import { DockerClient } from '../../src/docker/client.ts';
import { createPlan, UnsupportedTask } from '../../src/engine/container-body.ts';
import { TemplateError } from '../../src/engine/template.ts';
import { MemoryJournal } from '../../src/journal/memory.ts';
import { silentLog, type Clock, type Log } from '../../src/model/clock.ts';
import {
  CLUSTER_ROW,
  DEFAULT_ENVIRONMENT,
  serviceSpecId,
  taskName,
  type Cluster,
  type Task,
} from '../../src/model/objects.ts';
import { PAYLOAD_TABLES } from '../../src/model/payloads.ts';
import { isTerminal, TaskState } from '../../src/model/states.ts';
import { createRootCa } from '../../src/pki/authority.ts';
import { FakeClock } from '../../src/sim/fake-clock.ts';
import { TABLES } from '../../src/store/schema.ts';
import { Store, type Transaction } from '../../src/store/store.ts';
import { bodyText } from './mutations.ts';
import type { Reference, Request } from './requests.ts';

export interface Setting {
  role: 'manager' | 'worker' | 'none';
  engine: 'there' | 'away';
}

export interface Answer {
  status: number;
  text: string;
}

/** The longest any answer may take, in milliseconds of real time: far more than needed, far less than for ever. */
const ANSWER_MS = 20_000;

/** Sentences of a 503 that say why this node cannot do it, whatever the request: by the state of the node. */
const NODE_STATES = [
  /^This node is not a swarm manager\. /,
  /^This node is already part of a swarm\. /,
  /^This node is not part of a swarm$/,
  /^You are attempting to leave the swarm on a node that is participating as a manager\. /,
];
/** … and, while the engine is away, that it is. */
const ENGINE_AWAY = [
  /^Cannot reach the Docker Engine /,
  /^Cannot connect to the Docker daemon /,
  /^cannot look up .* in its registry: /s,
  /^the engine closed the connection without an answer$/,
];

/** Why an answer of 5xx is right; undefined if nothing justifies it. */
export function causeOf({ status, text }: Answer, { engine }: Setting): string | undefined {
  const { message } = JSON.parse(text) as { message: string };
  if (status === 501 && message !== '') return 'not built';
  if (status === 500 && message === 'update out of sequence') return 'version conflict, as Docker says it';
  if (status !== 503) return undefined;
  if (/^node .+ cannot be asked now: /.test(message)) return 'the node has no agent here';
  if (NODE_STATES.some((sentence) => sentence.test(message))) return 'the state of the node';
  if (engine === 'away' && ENGINE_AWAY.some((sentence) => sentence.test(message))) return 'the engine is away';
  return undefined;
}

/** An agent whose manager refuses every container. */
const REFUSING: NodeAttachments = {
  overlays: () => [],
  reserve: ({ network }) => Promise.reject(new RequestError(403, `network ${network} not manually attachable`)),
  settled: () => Promise.resolve(),
  look: () => Promise.resolve(),
};

/** What a secret and a config hold; only answers about the config may show it. */
const SECRET_DATA = 'bm9ib2R5IG1heSBzZWUgdGhpcw==';

/** What a random request did that none may. */
export class Harm extends Error {
  override readonly name = 'Harm';
}

export class FuzzWorld {
  #api!: Api;
  #socketPath = '';
  #directory = '';
  #engine!: Server;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  #client!: DockerClient;
  #cluster!: FakeCluster;
  #rootCa!: Cluster['rootCa'];
  #setting: Setting = { role: 'manager', engine: 'there' };
  #clock = new FakeClock();
  #values = new Map<string, string>();
  #store!: Store;
  #control: Control | undefined;
  #random = numbers(1);
  readonly #complaints: string[] = [];
  /** Answers by status, over all requests so far. */
  readonly statuses = new Map<number, number>();

  static async open(): Promise<FuzzWorld> {
    const world = new FuzzWorld();
    await world.#open();
    return world;
  }

  async #open(): Promise<void> {
    this.#directory = mkdtempSync(join(tmpdir(), 'drover-fuzz-'));
    this.#engine = createServer((request, response) => {
      const listens = /^\/_ping|\/events/.test(request.url ?? '');
      if (this.#setting.engine === 'away' && !listens) request.socket.destroy();
      else playEngine(request.url ?? '', request.method ?? '', response);
      request.resume();
    });
    this.#engine.listen(join(this.#directory, 'engine.sock'));
    await once(this.#engine, 'listening');
    this.#client = new DockerClient({ socketPath: join(this.#directory, 'engine.sock') });
    this.#rootCa = await createRootCa(Date.parse(AT));
    this.#cluster = new FakeCluster();
    const clock: Clock = {
      now: () => this.#clock.now(),
      monotonic: () => this.#clock.monotonic(),
      after: (delayMs, fn) => this.#clock.after(delayMs, fn),
    };
    // Nodes without agents: none of them can be asked.
    const streams = new Streams({ clock, random: () => this.#random(), ask: () => false });
    this.#api = await createApi({
      store: () => (this.#cluster.current.manager ? this.#store : undefined),
      streams: () => (this.#cluster.current.manager ? streams : undefined),
      cluster: this.#cluster,
      attachments: () => (this.#setting.role === 'none' ? undefined : REFUSING),
      engine: { client: this.#client },
      rebalancePlan,
      clock,
      random: () => this.#random(),
      log: this.#log('api'),
      version: '0.1.0',
    });
    this.#socketPath = join(this.#directory, 'drover.sock');
    await this.#api.listen({ path: this.#socketPath });
  }

  async close(): Promise<void> {
    await this.#control?.stop();
    this.#agent.destroy();
    this.#client.close();
    this.#engine.closeAllConnections();
    this.#engine.close();
    const closed = this.#api.close();
    await this.#clock.advance(3_000);
    await closed;
    rmSync(this.#directory, { recursive: true });
  }

  /** A cluster as new: two nodes, a service with two tasks, an overlay. */
  async begin(setting: Setting): Promise<void> {
    await this.#control?.stop();
    this.#setting = setting;
    this.#cluster.current = { ...new FakeCluster().current };
    if (setting.role !== 'none') this.#cluster.become(setting.role);
    this.#random = numbers(1);
    this.#clock = new FakeClock(Date.parse(AT));
    this.#values = new Map();
    this.#complaints.length = 0;
    this.#store = await Store.open(new MemoryJournal(this.#values));
    await this.#store.update((tx) => populate(tx, this.#rootCa));
    const log = this.#log('control');
    this.#control = startControl({ store: this.#store, clock: this.#clock, random: () => this.#random(), log });
    await this.#digest();
  }

  /** Sends one request and checks everything that must hold after it. @throws Harm */
  async play(request: Request): Promise<Answer> {
    const before = new Map(this.#values);
    const answer = await this.#send(request);
    this.statuses.set(answer.status, (this.statuses.get(answer.status) ?? 0) + 1);
    const said = `${answer.status} ${answer.text.slice(0, 500)}`;
    // An answer to HEAD has no words.
    const unsaid = request.method === 'HEAD' && [501, 503].includes(answer.status);
    if (answer.status >= 500 && !unsaid && causeOf(answer, this.#setting) === undefined)
      throw new Harm(`an answer of 5xx without cause: ${said}`);
    if (answer.text.includes(SECRET_DATA) && !answer.text.includes('conf1'))
      throw new Harm(`an answer that shows what a secret holds: ${said}`);
    const changed = !isDeepStrictEqual(before, this.#values);
    if (changed && answer.status >= 400) throw new Harm(`an error that changed something: ${said}`);
    if (changed) await this.#digest();
    this.#mustBeContent();
    return answer;
  }

  /** Lets time pass, and looks at everything. @throws Harm */
  async end(): Promise<void> {
    await this.#clock.advance(30_000);
    await this.#digest();
    this.#mustBeContent();
    const again = await Store.open(new MemoryJournal(this.#values));
    for (const table of TABLES) {
      const there = (store: Store): unknown[] =>
        store.view((view) => [...view[table].all()].toSorted((a, b) => (a.id < b.id ? -1 : 1)));
      if (!isDeepStrictEqual(there(this.#store), there(again))) throw new Harm(`${table}: memory and journal differ`);
    }
    if (this.#setting.role !== 'manager') return;
    for (const path of ['/services?status=true', '/tasks', '/nodes', '/swarm', '/info', '/secrets', '/configs'])
      await this.#mustShow(path);
    const ids = this.#store.view((view) => ({
      services: [...view.services.all()].map(({ id }) => id),
      tasks: [...view.tasks.all()].slice(0, 10).map(({ id }) => id),
      nodes: [...view.nodes.all()].map(({ id }) => id),
    }));
    for (const [kind, all] of Object.entries(ids))
      for (const id of all) await this.#mustShow(`/${kind}/${id}?insertDefaults=true`);
    this.#mustBeContent();
  }

  async #mustShow(url: string): Promise<void> {
    const { statusCode, payload } = await this.#api.app.inject({ method: 'GET', url });
    if (statusCode !== 200) throw new Harm(`GET ${url}: ${statusCode} ${payload}`);
    JSON.parse(payload);
  }

  /** Lets the loops and two obedient agents do their work until there is nothing more to do at once. */
  async #digest(): Promise<void> {
    for (let round = 0; round < 4; round++) {
      const before = this.#values.get('index');
      await this.#clock.advance(200);
      await this.#store.update((tx) => obey(tx, (error) => this.#complaints.push(error)));
      if (round > 0 && this.#values.get('index') === before) return;
    }
  }

  #mustBeContent(): void {
    const [complaint] = this.#complaints;
    if (complaint !== undefined) throw new Harm(complaint);
  }

  #log(who: string): Log {
    const error = (fields: object, message: string): void => {
      const cause = 'err' in fields && fields.err instanceof Error ? fields.err.stack : JSON.stringify(fields);
      this.#complaints.push(`${who} complains: ${message}: ${cause}`);
    };
    const log: Log = { ...silentLog, error, child: () => log };
    return log;
  }

  async #send(request: Request): Promise<Answer> {
    const meant = this.#meant(request);
    const url = urlOf(request, meant);
    const body = request.body === undefined ? undefined : bodyText(request.body, meant?.name ?? 'nothing');
    // What is no URL cannot be handed in, but it can be sent.
    const sent =
      request.over === 'socket' || !URL.canParse(url, 'http://localhost')
        ? this.#overSocket(request, url, body)
        : this.#inject(request, url, body);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Harm(`no answer to ${request.method} ${url}`)), ANSWER_MS);
    });
    try {
      return await Promise.race([sent, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #inject(request: Request, url: string, body: string | undefined): Promise<Answer> {
    const answer = await this.#api.app.inject({
      method: request.method as 'GET',
      url,
      headers: request.headers,
      ...(body === undefined ? {} : { payload: body }),
    });
    return { status: answer.statusCode, text: answer.payload };
  }

  async #overSocket({ method, headers }: Request, path: string, body: string | undefined): Promise<Answer> {
    const call = httpRequest({ socketPath: this.#socketPath, method, path, headers, agent: this.#agent });
    call.end(body);
    const [response] = await once(call, 'response');
    let text = '';
    for await (const chunk of response) text += String(chunk);
    return { status: response.statusCode, text };
  }

  /** The object that a request means, if it means one that there is. */
  #meant({ path, reference }: Request): Meant | undefined {
    const kind = placeholder(path);
    const objects: Meant[] = this.#store.view((view) => {
      if (kind === 'service')
        return [...view.services.all()].map(({ id, meta, spec }) => ({ id, meta, name: spec.Name }));
      if (kind === 'node')
        return [...view.nodes.all()].map(({ id, meta, description }) => ({
          id,
          meta,
          name: description?.hostname ?? '',
        }));
      if (kind === 'task')
        return [...view.tasks.all()].map((task) => ({ id: task.id, meta: task.meta, name: taskName(task) }));
      if (kind === 'secret' || kind === 'config')
        return [...view[PAYLOAD_TABLES[kind]].all()].map(({ id, meta, spec }) => ({ id, meta, name: spec.Name }));
      if (kind === 'network')
        return [...view.networks.all()].map(({ id, meta, spec }) => ({ id, meta, name: spec.Name }));
      return [...view.clusters.all()].map(({ id, meta, spec }) => ({ id, meta, name: spec.Name }));
    });
    return 'pick' in reference ? objects[reference.pick % Math.max(1, objects.length)] : objects[0];
  }
}

interface Meant {
  id: string;
  name: string;
  meta: { version: number };
}

/** `service` of `/services/:service`. */
function placeholder(path: string): string | undefined {
  return /:(\w+)/.exec(path)?.[1];
}

function urlOf({ prefix, path, reference, query }: Request, meant: Meant | undefined): string {
  const place = path.replace(`:${placeholder(path)}`, () => segment(reference, meant));
  const items = query.map(
    ([name, value]) => `${escaped(name)}=${escaped(value === 'current' ? String(meant?.meta.version ?? 0) : value)}`,
  );
  const url = prefix + place + (items.length > 0 ? `?${items.join('&')}` : '');
  return url.startsWith('/') ? url : `/${url}`;
}

function segment(reference: Reference, chosen: { id: string; name: string } | undefined): string {
  if ('text' in reference)
    return /^[\x21-\x7e]+$/.test(reference.text) ? reference.text.replaceAll('?', '%3F') : escaped(reference.text);
  if (chosen === undefined) return 'nothing';
  if (reference.by === 'prefix') return chosen.id.slice(0, 3);
  return escaped(reference.by === 'id' ? chosen.id : chosen.name);
}

function escaped(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}

/** The state a run begins with. */
function populate(tx: Transaction, rootCa: Cluster['rootCa']): void {
  const { spec, defaultAddressPool, subnetSize, dataPathPort } = initRequest(initShape.parse({}));
  const meta = { version: 1, createdAt: AT, updatedAt: AT };
  tx.clusters.create({
    id: CLUSTER_ROW,
    clusterId: 'cluster1',
    meta,
    spec,
    rootCa,
    joinTokens: { worker: 'SWMTKN-worker', manager: 'SWMTKN-manager' },
    defaultAddressPool,
    subnetSize,
    dataPathPort,
  });
  const manager = { address: '10.77.0.1:2377', leader: true, reachability: 'reachable' as const };
  tx.nodes.create(aNode('node1', { spec: { Labels: {}, Role: 'manager', Availability: 'active' }, manager }));
  tx.nodes.create(aNode('node2', { spec: { Labels: { zone: 'a' }, Role: 'worker', Availability: 'active' } }));
  tx.nodes.create(aNode('node3', { status: { state: 'down', message: '', address: '', since: AT } }));
  const overlay = anOverlay('net1');
  tx.networks.create(overlay);
  tx.networks.create(
    anOverlay('ingress1', {
      spec: { ...overlay.spec, Name: 'ingress', Ingress: true },
      allocation: { subnet: '10.0.0.0/20', vni: 4096 },
    }),
  );
  for (const [table, id] of [['secrets', 'sec1'] as const, ['configs', 'conf1'] as const]) {
    const spec = { Name: id, Labels: {}, Data: SECRET_DATA };
    tx[table].create({ id, environment: DEFAULT_ENVIRONMENT, meta, spec });
  }
  const service = aService('svc1');
  tx.services.create(service);
  tx.serviceSpecs.create({ id: serviceSpecId('svc1', 1), serviceId: 'svc1', version: 1, spec: service.spec });
  for (const slot of [1, 2]) tx.tasks.create(aTask(`task${slot}`, 'svc1', { slot, nodeId: `node${slot}` }));
}

/** Every ready node's agent: takes its facts, makes a container's plan of each task, and does what is desired. */
function obey(tx: Transaction, complain: (sentence: string) => void): void {
  for (const node of tx.nodes.all()) {
    if (node.status.state !== 'ready') continue;
    for (const fact of factsOf(tx, node.id)) {
      const { kind, value } = structuredClone(readFact(tx, node.id, fact));
      if (kind !== 'task' || value === null) continue;
      try {
        const platform = { os: 'linux', architecture: 'x86_64' };
        const attachments = value.networks.map(({ networkId, address }) => ({
          engineNetwork: networkId,
          address,
          gateway: '10.0.0.2',
        }));
        createPlan(value, { node: { id: node.id, hostname: 'h', platform }, attachments }, '1.41');
      } catch (error) {
        if (!(error instanceof TemplateError) && !(error instanceof UnsupportedTask))
          complain(`no plan for a task: ${error instanceof Error ? error.stack : String(error)}`);
      }
    }
    for (const task of tx.tasks.by('node', node.id)) {
      const next = nextState(task);
      if (next !== undefined) tx.tasks.update({ ...task, status: { ...task.status, state: next } });
    }
  }
}

function nextState({ status: { state }, desiredState }: Task): TaskState | undefined {
  if (state < TaskState.ASSIGNED || isTerminal(state)) return undefined;
  if (desiredState > TaskState.RUNNING) return TaskState.SHUTDOWN;
  return state < desiredState ? desiredState : undefined;
}

/** A sound engine with two networks, one of which is Drover's own. */
function playEngine(url: string, method: string, response: Parameters<typeof json>[0]): void {
  response.setHeader('Server', 'Docker/20.10.24 (linux)').setHeader('Api-Version', '1.41').setHeader('Ostype', 'linux');
  const path = url.replace(/^\/v1\.\d+/, '').split('?')[0] ?? '';
  if (path === '/_ping') response.end('OK');
  else if (path === '/networks' && method === 'GET')
    json(response, 200, [
      { Id: 'loc1', Name: 'mac', Driver: 'macvlan', Labels: {} },
      { Id: 'hid1', Name: 'hidden', Driver: 'bridge', Labels: { 'io.drover.network.id': 'net1' } },
    ]);
  else if (path === '/networks/prune') json(response, 200, { NetworksDeleted: ['unused'] });
  else if (path === '/info' || path === '/version')
    json(response, 200, { Name: 'host', Version: '20.10.24', Warnings: null });
  else if (path === '/events') response.end('{"Type":"container","Action":"die"}\n');
  else json(response, 404, { message: 'page not found' });
}

/** The minimal standard generator: runs can be repeated. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 16_807) % 2_147_483_647) / 2_147_483_647;
}
