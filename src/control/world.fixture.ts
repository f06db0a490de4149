/**
 * A cluster small enough to think about, for the tests of the control loops: a store in memory, a clock that moves when
 * told, the requests of users, and, in place of allocator, scheduler and agents, one function that takes every task a
 * step further. Agents of nodes that are not `ready` say nothing.
 */
import { MemoryJournal } from '../journal/memory.ts';
import { silentLog, timestamp, type Random } from '../model/clock.ts';
import {
  CLUSTER_ROW,
  DEFAULT_ENVIRONMENT,
  isJob,
  serviceSpecId,
  type Cluster,
  type Node,
  type Service,
  type Task,
} from '../model/objects.ts';
import type { ServiceMode, ServiceSpec, TaskSpec } from '../model/specs.ts';
import { isTerminal, TaskState } from '../model/states.ts';
import { FakeClock } from '../sim/fake-clock.ts';
import { Store, type Transaction, type View } from '../store/store.ts';
import type { Control } from './control.ts';
import { demandOn } from './global.ts';
import { isWanted, type ControlDeps } from './tasks.ts';

/** A container of this image dies as it starts. */
export const BAD_IMAGE = 'bad';
/** Of the containers of this image about one in three does so. */
export const FLAKY_IMAGE = 'flaky';
/** No node can get this image. */
export const MISSING_IMAGE = 'missing';
/** A container of this image ends well as soon as it has run. */
export const SHORT_IMAGE = 'short';
/** A container of this image takes STOP_MS to stop. */
export const SLOW_IMAGE = 'slow';
export const STOP_MS = 20_000;

const NEXT_STATE: Partial<Record<TaskState, TaskState>> = {
  [TaskState.ASSIGNED]: TaskState.PREPARING,
  [TaskState.PREPARING]: TaskState.READY,
  [TaskState.READY]: TaskState.STARTING,
  [TaskState.STARTING]: TaskState.RUNNING,
};

export class World {
  readonly store: Store;
  readonly clock = new FakeClock();
  readonly #startControl: (deps: ControlDeps) => Control;
  #control: Control | undefined;
  #seed = 1;
  /** Looked at after every step of the world; throws if something is amiss. */
  #invariant: (view: View) => void = () => {};

  readonly #places: boolean;

  private constructor(store: Store, startControl: (deps: ControlDeps) => Control, places: boolean) {
    this.store = store;
    this.#places = places;
    this.#startControl = startControl;
  }

  /** `places: false` leaves addresses and nodes of tasks to the loops that were started. */
  static async open(startControl: (deps: ControlDeps) => Control, { places = true } = {}): Promise<World> {
    const world = new World(await Store.open(new MemoryJournal()), startControl, places);
    await world.store.update((tx) => {
      const spec = { Orchestration: { TaskHistoryRetentionLimit: 5 } } as Cluster['spec'];
      const rootCa = { certificate: '', key: '' };
      const pool = { defaultAddressPool: ['10.0.0.0/8'], subnetSize: 20, dataPathPort: 4789 };
      const cluster = { id: CLUSTER_ROW, spec, rootCa, ...pool };
      tx.clusters.create(cluster as Cluster);
    });
    world.#start();
    return world;
  }

  /** mulberry32: what the test needs of randomness is that runs can be repeated. */
  readonly random: Random = () => {
    this.#seed = (this.#seed + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#seed ^ (this.#seed >>> 15), 1 | this.#seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };

  #start(): void {
    this.#control = this.#startControl({ store: this.store, clock: this.clock, random: this.random, log: silentLog });
  }

  async close(): Promise<void> {
    await this.#control?.stop();
    await this.store.close();
  }

  /** The manager's process ends, and the next one knows no more than the store does. */
  async restartManager(): Promise<void> {
    await this.#control?.stop();
    this.#start();
  }

  always(invariant: (view: View) => void): void {
    this.#invariant = invariant;
  }

  // What users ask for.

  addNode(id: string, labels: Record<string, string> = {}): Promise<void> {
    return this.store.update((tx) => tx.nodes.create(nodeOf(id, labels, timestamp(this.clock.now()))));
  }

  changeNode(id: string, change: (node: Node) => Node): Promise<void> {
    return this.store.update((tx) => tx.nodes.update(change(tx.nodes.get(id)!)));
  }

  setAvailability(id: string, Availability: Node['spec']['Availability']): Promise<void> {
    return this.changeNode(id, (node) => ({ ...node, spec: { ...node.spec, Availability } }));
  }

  setState(id: string, state: Node['status']['state']): Promise<void> {
    const since = timestamp(this.clock.now());
    return this.changeNode(id, (node) => ({ ...node, status: { ...node.status, state, since } }));
  }

  setLabels(id: string, Labels: Record<string, string>): Promise<void> {
    return this.changeNode(id, (node) => ({ ...node, spec: { ...node.spec, Labels } }));
  }

  removeNode(id: string): Promise<void> {
    return this.store.update((tx) => tx.nodes.remove(id));
  }

  createService(id: string, mode: number | 'global' | ServiceMode, template: TaskSpec = {}): Promise<void> {
    return this.store.update((tx) => {
      const service = serviceOf(id, mode, template, tx.index);
      tx.services.create(service);
      putVersion(tx, service);
    });
  }

  updateService(id: string, change: (spec: ServiceSpec) => ServiceSpec): Promise<void> {
    return this.store.update((tx) => {
      const { updateStatus: _, ...old } = tx.services.get(id)!;
      const service: Service = {
        ...old,
        meta: { ...old.meta, version: tx.index },
        spec: change(old.spec),
        specVersion: tx.index,
        previousSpec: old.spec,
        previousSpecVersion: old.specVersion,
        ...(old.jobStatus && { jobStatus: { ...old.jobStatus, iteration: old.jobStatus.iteration + 1 } }),
      };
      tx.services.update(service);
      putVersion(tx, service);
    });
  }

  scale(id: string, Replicas: number): Promise<void> {
    return this.updateService(id, (spec) => ({ ...spec, Mode: { Replicated: { Replicas } } }));
  }

  setTemplate(id: string, template: TaskSpec): Promise<void> {
    return this.updateService(id, (spec) => ({ ...spec, TaskTemplate: { ...spec.TaskTemplate, ...template } }));
  }

  removeService(id: string): Promise<void> {
    return this.store.update((tx) => tx.services.remove(id));
  }

  /** The task's container dies. */
  failTask(id: string): Promise<void> {
    return this.store.update((tx) => {
      report(tx, tx.tasks.get(id)!, TaskState.FAILED, this.clock.now());
    });
  }

  /** The task's container ends well. */
  completeTask(id: string): Promise<void> {
    return this.store.update((tx) => {
      report(tx, tx.tasks.get(id)!, TaskState.COMPLETE, this.clock.now());
    });
  }

  // What is so.

  service(id: string): Service | undefined {
    return this.store.view((view) => view.services.get(id));
  }

  tasks(serviceId: string): Task[] {
    return this.store
      .view((view) => view.tasks.by('service', serviceId))
      .sort((a, b) => a.meta.version - b.meta.version);
  }

  running(serviceId: string): Task[] {
    return this.tasks(serviceId)
      .filter((task) => task.status.state === TaskState.RUNNING && task.desiredState === TaskState.RUNNING)
      .sort((a, b) => a.slot - b.slot);
  }

  // Time.

  /** Every task that can takes one step. True if any did. */
  async step(): Promise<boolean> {
    let moved = false;
    await this.store.update((tx) => {
      const before = [...tx.tasks.all()];
      for (const task of before) {
        if (!this.#places && task.status.state < TaskState.ASSIGNED) continue;
        if (advance(tx, task, this.clock.now())) moved = true;
      }
    });
    this.store.view(this.#invariant);
    return moved;
  }

  /** Time and tasks go on for `ms`. */
  async run(ms: number): Promise<void> {
    const end = this.clock.monotonic() + ms;
    while (this.clock.monotonic() < end) {
      const moved = await this.step();
      await this.clock.advance(Math.min(moved ? 150 : 1000, end - this.clock.monotonic()));
    }
  }

  /** Time goes on until nothing has moved for longer than any loop waits (but for days). */
  async settle(): Promise<void> {
    for (let quietMs = 0, rounds = 0; quietMs < 75_000; rounds++) {
      if (rounds > 5000) throw new Error('the cluster does not come to rest');
      const moved = await this.step();
      await this.clock.advance(moved ? 150 : 2500);
      quietMs = moved ? 0 : quietMs + 2500;
    }
  }
}

function nodeOf(id: string, Labels: Record<string, string>, now: string): Node {
  return {
    id,
    meta: { version: 1, createdAt: now, updatedAt: now },
    spec: { Labels, Role: 'worker', Availability: 'active' },
    description: {
      hostname: id,
      platform: { OS: 'linux', Architecture: 'x86_64' },
      resources: { nanoCpus: 8e9, memoryBytes: 8e9 },
      engine: { version: '20.10', labels: {}, plugins: [] },
      tls: { trustRoot: '', certIssuerSubject: '', certIssuerPublicKey: '' },
      routes: [],
      dataPathAddress: '',
      degraded: [],
    },
    status: { state: 'ready', message: '', address: '', since: now },
    gateways: {},
  };
}

function serviceOf(id: string, mode: number | 'global' | ServiceMode, template: TaskSpec, version: number): Service {
  const Mode =
    typeof mode === 'number' ? { Replicated: { Replicas: mode } } : mode === 'global' ? { Global: {} } : mode;
  return {
    id,
    environment: DEFAULT_ENVIRONMENT,
    meta: { version, createdAt: '', updatedAt: '' },
    spec: { Name: id, Labels: {}, Mode, TaskTemplate: { ContainerSpec: { Image: 'v1' }, ...template } },
    specVersion: version,
    ...(isJob({ spec: { Mode } as ServiceSpec }) ? { jobStatus: { iteration: 0, lastExecution: '' } } : {}),
  };
}

function putVersion(tx: Transaction, { id, spec, specVersion }: Service): void {
  tx.serviceSpecs.create({ id: serviceSpecId(id, specVersion), serviceId: id, version: specVersion, spec });
}

function advance(tx: Transaction, task: Task, nowMs: number): boolean {
  const { state } = task.status;
  if (isTerminal(state)) return false;
  if (state === TaskState.NEW) return report(tx, task, TaskState.PENDING, nowMs);
  const spec = tx.serviceSpecs.get(serviceSpecId(task.serviceId, task.specVersion))!.spec.TaskTemplate;
  if (state === TaskState.PENDING) {
    const nodeId = placeFor(tx, task, spec);
    return nodeId !== undefined && report(tx, { ...task, nodeId }, TaskState.ASSIGNED, nowMs);
  }
  if (tx.nodes.get(task.nodeId)?.status.state !== 'ready') return false;
  const image = spec.ContainerSpec?.Image;
  if (task.desiredState > TaskState.COMPLETE) {
    // The loops' last write to the task was the request to end.
    const stops = image !== SLOW_IMAGE || nowMs >= Date.parse(task.meta.updatedAt) + STOP_MS;
    return stops && report(tx, task, TaskState.SHUTDOWN, nowMs);
  }
  if (state === TaskState.PREPARING && image === MISSING_IMAGE) return report(tx, task, TaskState.REJECTED, nowMs);
  const flaky = image === FLAKY_IMAGE && task.id.charCodeAt(0) % 3 === 0;
  if (state === TaskState.STARTING && (image === BAD_IMAGE || flaky)) return report(tx, task, TaskState.FAILED, nowMs);
  if (state === TaskState.RUNNING && image === SHORT_IMAGE) return report(tx, task, TaskState.COMPLETE, nowMs);
  const next = NEXT_STATE[state];
  if (next === undefined || (state === TaskState.READY && task.desiredState < TaskState.RUNNING)) return false;
  return report(tx, task, next, nowMs);
}

function placeFor(tx: Transaction, task: Task, spec: TaskSpec): string | undefined {
  const fit = [...tx.nodes.all()].filter((node) => demandOn(node, spec.Placement) === 'run');
  if (task.nodeId !== '') return fit.find((node) => node.id === task.nodeId)?.id;
  const load = (node: Node) =>
    tx.tasks.by('node', node.id).filter((other) => other.desiredState <= TaskState.RUNNING).length;
  return fit.sort((a, b) => load(a) - load(b))[0]?.id;
}

function report(tx: Transaction, task: Task, state: TaskState, nowMs: number): true {
  const now = timestamp(nowMs);
  const since = state === TaskState.RUNNING ? { runningSince: now } : {};
  tx.tasks.update({ ...task, status: { ...task.status, state, timestamp: now, ...since } });
  return true;
}

/** No two tasks of one slot run on nodes that answer, not even while one of them stops. */
export function slotsRunOnce(view: View): void {
  runOnce(view, () => true);
}

/** The same where a lost node may come back with a task that was replaced meanwhile, and is being stopped. */
export function wantedRunOnce(view: View): void {
  runOnce(view, isWanted);
}

function runOnce(view: View, counts: (task: Task) => boolean): void {
  const seen = new Map<string, string>();
  for (const task of view.tasks.all()) {
    if (task.status.state !== TaskState.RUNNING || task.desiredState === TaskState.REMOVE) continue;
    if (view.nodes.get(task.nodeId)?.status.state !== 'ready' || !counts(task)) continue;
    const place = `${task.serviceId}/${task.slot || task.nodeId}`;
    if (seen.has(place)) throw new Error(`${place} runs twice: ${seen.get(place)} and ${task.id}`);
    seen.set(place, task.id);
  }
}
