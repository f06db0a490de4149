/**
 * The executor's twin in memory: the same contract without containers, driven by a clock, deterministic, and told by
 * tests and the simulator what its containers and registries are to do.
 */
import { EngineUnreachable } from '../docker/errors.ts';
import type { TaskAssignment } from '../model/assignments.ts';
import type { Clock, Timer } from '../model/clock.ts';
import { createPlan } from './container-body.ts';
import type {
  ContainerState,
  ContainerStatus,
  ContainerSummary,
  Engine,
  EngineDescription,
  Health,
  PullOptions,
  TaskPlace,
} from './engine.ts';

/** How one task's container behaves. Times are milliseconds from the call or start they belong to; absent: at once. */
export interface Behaviour {
  pullMs?: number;
  /** The registry's refusal; with it `ensureImage` fails. */
  pullError?: string;
  createError?: string;
  startMs?: number;
  startError?: string;
  /** Exits by itself so long after its start. */
  exitAfterMs?: number;
  exitCode?: number;
  /** Has a health check that first says something so long after the start … */
  healthAfterMs?: number;
  /** … namely this; default healthy. */
  health?: Health;
  healthOutput?: string;
  /** Needs so long to follow its stop signal. */
  stopMs?: number;
}

/** A container as tests see it. */
export interface MemoryContainer {
  readonly containerId: string;
  readonly task: TaskAssignment;
  readonly place: TaskPlace;
  state: ContainerState;
  pid: number;
  exitCode: number;
  health: Health;
  healthOutput: string;
  /** How often it was started. */
  starts: number;
}

const API_VERSION = '1.41';
/** On the engine's own bridge; nothing listens there. */
const ADDRESS = '172.17.0.2';
const STOPPED_BY_TERM = 143;
const STOPPED_BY_KILL = 137;
/** The engine's exit code for a command that is not there. */
const NOT_STARTED = 127;
const DESCRIPTION: EngineDescription = {
  hostname: 'memory',
  platform: { OS: 'linux', Architecture: 'x86_64' },
  resources: { nanoCpus: 8e9, memoryBytes: 16 * 1024 ** 3 },
  engine: { version: '20.10.24', labels: {}, plugins: [{ type: 'Network', name: 'bridge' }] },
};

export class MemoryEngine implements Engine {
  /** By container id, in order of creation. */
  readonly containers = new Map<string, MemoryContainer>();
  /** Every call made, such as `create web.1.x`, in order: for assertions. */
  readonly calls: string[] = [];
  readonly #clock: Clock;
  readonly #behaviour: (task: { image: string; id?: string }) => Behaviour;
  readonly #description: EngineDescription;
  readonly #timers = new Map<string, Set<Timer>>();
  readonly #watchers = new Set<Watcher>();
  #away = false;
  /** What was under way in an earlier one came to nothing. */
  #boot = 0;
  #serial = 0;

  constructor(deps: {
    clock: Clock;
    /** Asked at each step, by image and (from the create on) task id. */
    behaviour?: (task: { image: string; id?: string }) => Behaviour;
    description?: Partial<EngineDescription>;
  }) {
    this.#clock = deps.clock;
    this.#behaviour = deps.behaviour ?? (() => ({}));
    this.#description = { ...DESCRIPTION, ...deps.description };
  }

  /** The newest container of a task. @throws RangeError if it has none */
  containerOf(taskId: string): MemoryContainer {
    const found = [...this.containers.values()].findLast((container) => container.task.id === taskId);
    if (found === undefined) throw new RangeError(`task ${taskId} has no container`);
    return found;
  }

  /** The container's process ends by itself. */
  exit(containerId: string, exitCode: number): void {
    const container = this.containers.get(containerId);
    if (container?.state !== 'running') return;
    for (const timer of this.#timers.get(containerId) ?? []) timer.cancel();
    Object.assign(container, { state: 'exited', exitCode, pid: 0 });
    this.#changed(container);
  }

  setHealth(containerId: string, health: Health, output = ''): void {
    const container = this.containers.get(containerId);
    if (container?.state !== 'running') return;
    Object.assign(container, { health, healthOutput: output });
    this.#changed(container);
  }

  /** The engine stops answering; its containers go on (live restore). */
  goAway(): void {
    this.#away = true;
    for (const watcher of this.#watchers) watcher.fail(unreachable());
    this.#watchers.clear();
  }

  get isAway(): boolean {
    return this.#away;
  }

  comeBack(): void {
    this.#away = false;
  }

  /** The host lost its power: nothing runs any more, containers are still there. Call comeBack() for its return. */
  powerCut(): void {
    this.goAway();
    this.#boot++;
    for (const container of this.containers.values()) this.exit(container.containerId, 255);
  }

  async describe(): Promise<EngineDescription> {
    this.#answer('describe');
    return this.#description;
  }

  async ensureImage(image: string, { registryAuth, signal }: PullOptions = {}): Promise<void> {
    this.#answer(`ensureImage ${image}${registryAuth === undefined ? '' : ` as ${registryAuth}`}`);
    const { pullMs, pullError } = this.#behaviour({ image });
    await this.#pass(pullMs, signal);
    if (pullError !== undefined) throw new Error(`No such image: ${image} (${pullError})`);
  }

  async create(task: TaskAssignment, place: TaskPlace): Promise<string> {
    // The translation is the real one, so that what a real engine could not be told fails here too.
    const { name } = createPlan(task, place, API_VERSION);
    this.#answer(`create ${name}`);
    const { createError } = this.#behaviourOf(task);
    if (createError !== undefined) throw new Error(createError);
    for (const old of this.containers.values()) {
      if (old.task.id !== task.id) continue;
      if (old.state === 'running') throw new Error(`Conflict. The container name "/${name}" is already in use`);
      this.containers.delete(old.containerId);
    }
    const containerId = (++this.#serial).toString(16).padStart(64, '0');
    const fresh = { state: 'created', pid: 0, exitCode: 0, health: 'none', healthOutput: '', starts: 0 } as const;
    this.containers.set(containerId, { containerId, task, place, ...fresh });
    return containerId;
  }

  async start(containerId: string): Promise<void> {
    this.#answer(`start ${containerId}`);
    const container = this.#existing(containerId);
    const behaviour = this.#behaviourOf(container.task);
    await this.#pass(behaviour.startMs);
    // It may have been removed meanwhile.
    this.#existing(containerId);
    if (container.state === 'running') return;
    if (behaviour.startError !== undefined) {
      container.exitCode = NOT_STARTED;
      throw new Error(behaviour.startError);
    }
    const checked = behaviour.healthAfterMs !== undefined || behaviour.health !== undefined;
    container.state = 'running';
    container.pid = 1000 + ++this.#serial;
    container.exitCode = 0;
    container.health = checked ? 'starting' : 'none';
    container.starts++;
    this.#changed(container);
    if (checked) {
      this.#later(containerId, behaviour.healthAfterMs ?? 0, () =>
        this.setHealth(containerId, behaviour.health ?? 'healthy', behaviour.healthOutput),
      );
    }
    if (behaviour.exitAfterMs !== undefined) {
      this.#later(containerId, behaviour.exitAfterMs, () => this.exit(containerId, behaviour.exitCode ?? 0));
    }
  }

  async stop(containerId: string, signal?: AbortSignal): Promise<void> {
    this.#answer(`stop ${containerId}`);
    const container = this.containers.get(containerId);
    if (container === undefined) return;
    await this.#pass(this.#behaviourOf(container.task).stopMs, signal);
    this.exit(containerId, STOPPED_BY_TERM);
  }

  async kill(containerId: string, signalName: string): Promise<void> {
    this.#answer(`kill ${containerId} ${signalName}`);
    this.exit(containerId, STOPPED_BY_KILL);
  }

  async remove(containerId: string): Promise<void> {
    this.#answer(`remove ${containerId}`);
    const container = this.containers.get(containerId);
    if (container === undefined) return;
    this.exit(containerId, STOPPED_BY_KILL);
    this.containers.delete(containerId);
    this.#changed(container);
  }

  async inspect(containerId: string): Promise<ContainerStatus | undefined> {
    this.#answer(`inspect ${containerId}`);
    const container = this.containers.get(containerId);
    if (container === undefined) return undefined;
    const { task, state, pid, exitCode, health, healthOutput } = container;
    const ports = state === 'running' ? task.hostPorts : [];
    const seen = { state, pid, exitCode, oomKilled: false, error: '', health, address: ADDRESS, ports };
    return { containerId, taskId: task.id, ...seen, ...(healthOutput === '' ? {} : { healthOutput }) };
  }

  async list(nodeId: string): Promise<ContainerSummary[]> {
    this.#answer('list');
    return [...this.containers.values()]
      .filter((container) => container.task.nodeId === nodeId)
      .map(({ containerId, task, state }) => ({ containerId, taskId: task.id, state }));
  }

  async watch(nodeId: string, signal: AbortSignal): Promise<AsyncIterable<string>> {
    this.#answer('watch');
    const watcher = new Watcher(nodeId);
    this.#watchers.add(watcher);
    signal.addEventListener('abort', () => {
      this.#watchers.delete(watcher);
      watcher.fail(signal.reason);
    });
    return watcher.taskIds();
  }

  #answer(call: string): void {
    if (this.#away) throw unreachable();
    this.calls.push(call);
  }

  #existing(containerId: string): MemoryContainer {
    const container = this.containers.get(containerId);
    if (container === undefined) throw new Error(`No such container: ${containerId}`);
    return container;
  }

  #behaviourOf(task: TaskAssignment): Behaviour {
    return this.#behaviour({ image: task.spec.ContainerSpec?.Image ?? '', id: task.id });
  }

  #changed(container: MemoryContainer): void {
    for (const watcher of this.#watchers) watcher.push(container.task);
  }

  #later(containerId: string, delayMs: number, fn: () => void): void {
    const timers = this.#timers.get(containerId) ?? new Set();
    this.#timers.set(containerId, timers.add(this.#clock.after(delayMs, fn)));
  }

  #pass(delayMs: number | undefined, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason);
      if (delayMs === undefined) return resolve();
      const boot = this.#boot;
      const timer = this.#clock.after(delayMs, () => (boot === this.#boot ? resolve() : reject(unreachable())));
      signal?.addEventListener('abort', () => {
        timer.cancel();
        reject(signal.reason);
      });
    });
  }
}

/** One subscription: hints wait until they are read. */
class Watcher {
  readonly #nodeId: string;
  readonly #waiting: string[] = [];
  #failure: { reason: unknown } | undefined;
  #wake = (): void => {};

  constructor(nodeId: string) {
    this.#nodeId = nodeId;
  }

  push(task: TaskAssignment): void {
    if (task.nodeId !== this.#nodeId) return;
    this.#waiting.push(task.id);
    this.#wake();
  }

  fail(reason: unknown): void {
    this.#failure = { reason };
    this.#wake();
  }

  async *taskIds(): AsyncGenerator<string, void, undefined> {
    for (;;) {
      yield* this.#waiting.splice(0);
      if (this.#failure !== undefined) throw this.#failure.reason;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

function unreachable(): EngineUnreachable {
  return new EngineUnreachable('Cannot connect to the Docker daemon. Is the docker daemon running?');
}
