/**
 * The node's mind: makes what runs here equal what was assigned here. Promises: what was assigned and what became of
 * it survives a restart of the daemon and of the host; containers are never touched by the agent's own start, stop or
 * ignorance; an engine that is away fails nothing. It costs one event stream and one look at all containers each half
 * minute, however many there are.
 */
import { EngineUnreachable } from '../docker/client.ts';
import type { ContainerSummary, Engine } from '../engine/engine.ts';
import type { AssignmentChange, TaskAssignment } from '../model/assignments.ts';
import type { Clock, Log, Random, Timer } from '../model/clock.ts';
import type { TaskStatus } from '../model/objects.ts';
import { isTerminal, TaskState } from '../model/states.ts';
import type { Attachments } from './attachments.ts';
import { EngineWatch } from './engine-watch.ts';
import type { AgentMemory } from './memory.ts';
import { askReadiness, type AskReadiness } from './probe.ts';
import { Payloads } from './payloads.ts';
import type { HostDescription, Managers, NodeNetworkPort, ReportStatus } from './ports.ts';
import { Reporter } from './reporter.ts';
import { TaskController } from './task-controller.ts';
import type { ControllerDeps } from './task-controller.ts';
import type { TaskFiles } from './task-files.ts';

export interface AgentDeps {
  nodeId: string;
  engine: Engine;
  network: NodeNetworkPort;
  /** Who else lives by the facts, in the same order as the network, and after it. */
  attachments?: Pick<Attachments, 'replace' | 'apply'>;
  memory: Pick<AgentMemory, 'load' | 'replace' | 'apply' | 'saveStatus' | 'forgetStatus' | 'saveBootId' | 'catchUp'>;
  /** Where tasks find their secrets and configs. */
  files: TaskFiles;
  /** Of `readBootId()`: tells a restart of the daemon from one of the host. */
  bootId: string;
  clock: Clock;
  random: Random;
  log: Log;
  report: ReportStatus;
  /** For tests and the simulator: how a task's readiness is asked. */
  askReadiness?: AskReadiness;
  /** How long after its start the agent waits for a manager before it counts them as away. */
  managersWithinMs?: number;
}

const MANAGERS_WITHIN_MS = 15_000;
const RECONCILE_MS = 30_000;

export class Agent {
  readonly #deps: AgentDeps;
  readonly #log: Log;
  readonly #watch: EngineWatch;
  readonly #reporter: Reporter;
  readonly #controllerDeps: ControllerDeps;
  readonly #payloads: Payloads;
  /** All tasks assigned here, by id. */
  readonly #tasks = new Map<string, TaskAssignment>();
  /** One for each of those once the engine has answered, and for those that are on their way out. */
  readonly #controllers = new Map<string, TaskController>();
  /** Networks that published ports come in by. */
  readonly #ingress = new Set<string>();
  /** What was last known of each task, until its controller knows better. */
  #remembered = new Map<string, TaskStatus>();
  /** Containers found when the engine first answered, by task; undefined until then. */
  #found: Map<string, ContainerSummary> | undefined;
  #managers: Managers = 'unknown';
  #description: HostDescription | undefined;
  #afterReboot = false;
  #timers: Timer[] = [];
  #stopped = false;

  constructor(deps: AgentDeps) {
    const { nodeId, engine, network, clock, random } = deps;
    this.#deps = deps;
    this.#log = deps.log.child({ room: 'agent' });
    this.#payloads = new Payloads({ files: deps.files, log: this.#log });
    this.#reporter = new Reporter({ report: deps.report, log: this.#log });
    this.#watch = new EngineWatch({
      engine,
      nodeId,
      clock,
      random,
      log: this.#log,
      onUp: (again) => this.#engineUp(again),
      onHint: (taskId) => this.#controllers.get(taskId)?.poke(),
    });
    this.#controllerDeps = {
      engine,
      network,
      clock,
      random,
      log: this.#log,
      node: () => this.#node(),
      isIngress: (networkId) => this.#ingress.has(networkId),
      managers: () => this.#managers,
      files: (task) => this.#payloads.filesOf(task, this.#node(), this.#managers === 'there'),
      askReadiness: deps.askReadiness ?? askReadiness,
      onStatus: (taskId, status) => this.#onStatus(taskId, status),
    };
  }

  /** Takes up what it remembers; containers are looked at as soon as the engine answers. */
  start(): void {
    const { memory, network, attachments, bootId, clock, managersWithinMs = MANAGERS_WITHIN_MS } = this.#deps;
    const { facts, statuses, bootId: lastBootId } = memory.load();
    this.#afterReboot = lastBootId !== undefined && lastBootId !== bootId;
    this.#remembered = statuses;
    this.#remember(() => memory.saveBootId(bootId));
    // Only if it was told all: rules made from less would cut off what runs.
    if (facts !== undefined) {
      network.replace(facts);
      attachments?.replace(facts);
      this.#payloads.replace(facts);
      for (const fact of facts) this.#take(fact);
    }
    this.#watch.start();
    this.#timers = [clock.after(managersWithinMs, () => this.#managersAre('away', 'unknown'))];
    this.#reconcileLater();
  }

  /** Lets go of everything: containers run on, and the next start adopts them. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers) timer.cancel();
    this.#remember(() => this.#deps.memory.catchUp());
    await Promise.all([this.#watch.stop(), ...[...this.#controllers.values()].map((controller) => controller.stop())]);
  }

  /** A session has begun: these are all facts. Tasks that are not among them are stopped and removed. */
  replace(facts: readonly AssignmentChange[]): void {
    const { memory, network } = this.#deps;
    this.#remember(() => memory.replace(facts));
    network.replace(facts);
    this.#deps.attachments?.replace(facts);
    this.#payloads.replace(facts);
    this.#ingress.clear();
    const told = new Set(facts.filter(({ kind }) => kind === 'task').map(({ key }) => key));
    for (const fact of facts) this.#take(fact);
    for (const taskId of this.#tasks.keys()) if (!told.has(taskId)) this.#takeAway(taskId);
    this.#managersAre('there');
    this.#reportDifferences();
    void this.#reconcile();
  }

  /** What changed since. */
  apply(changes: readonly AssignmentChange[]): void {
    this.#remember(() => this.#deps.memory.apply(changes));
    this.#deps.network.apply(changes);
    this.#deps.attachments?.apply(changes);
    this.#payloads.apply(changes);
    for (const change of changes) this.#take(change);
  }

  /** What this host is now. @throws EngineUnreachable if the engine is away and has never answered. */
  async describe(): Promise<HostDescription> {
    const { engine, network } = this.#deps;
    if (this.#description === undefined || this.#watch.state === 'up') {
      try {
        this.#description = { ...(await engine.describe()), degraded: [] };
      } catch (error) {
        if (this.#description === undefined || !(error instanceof EngineUnreachable)) throw error;
        this.#watch.doubt(error);
      }
    }
    const away = this.#watch.state === 'away' ? ['the Docker Engine does not answer'] : [];
    return { ...this.#description, degraded: [...away, ...network.degraded()] };
  }

  engineState(): 'up' | 'away' {
    return this.#watch.state;
  }

  /** The last status of each task here, by task id: for those who show or test what the agent knows. */
  statuses(): ReadonlyMap<string, TaskStatus> {
    return new Map([...this.#controllers].map(([taskId, controller]) => [taskId, controller.status]));
  }

  #take(change: AssignmentChange): void {
    if (change.kind === 'network') {
      if (change.value?.ingress === true) this.#ingress.add(change.key);
      else this.#ingress.delete(change.key);
    }
    if (change.kind !== 'task') return;
    if (change.value === null) return this.#takeAway(change.key);
    this.#tasks.set(change.key, change.value);
    const controller = this.#controllers.get(change.key);
    if (controller !== undefined) controller.update(change.value);
    else if (this.#found !== undefined) this.#control(change.value, this.#found.get(change.key));
  }

  #takeAway(taskId: string): void {
    this.#tasks.delete(taskId);
    const controller = this.#controllers.get(taskId);
    if (controller === undefined) this.#forget(taskId);
    else controller.take();
  }

  #control(task: TaskAssignment, container: ContainerSummary | undefined): void {
    const status = furthest(this.#remembered.get(task.id), task.status);
    const controller = new TaskController(this.#controllerDeps, {
      task,
      status,
      container,
      afterReboot: this.#afterReboot,
    });
    this.#controllers.set(task.id, controller);
    void controller.start().then(() => {
      if (this.#stopped) return;
      this.#controllers.delete(task.id);
      this.#forget(task.id);
      // Assigned again while it was being removed.
      const anew = this.#tasks.get(task.id);
      if (anew !== undefined) this.#control(anew, undefined);
    });
  }

  #onStatus(taskId: string, status: TaskStatus): void {
    this.#remember(() => this.#deps.memory.saveStatus(taskId, status));
    if (isTerminal(status.state)) this.#payloads.release(taskId);
    if (this.#tasks.has(taskId)) this.#reporter.add(taskId, status);
  }

  #forget(taskId: string): void {
    this.#payloads.release(taskId);
    this.#remember(() => this.#deps.memory.forgetStatus(taskId));
    this.#remembered.delete(taskId);
    this.#found?.delete(taskId);
  }

  /** What a full disk has no room for is written later (`catchUp`), and costs nothing else: managers and the engine know it as well. */
  #remember(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#log.error({ error: String(error) }, 'could not write down what was assigned or seen');
    }
  }

  /** What a manager does not know, perhaps because the last session ended before it had stored it. */
  #reportDifferences(): void {
    for (const [taskId, { task, status }] of this.#controllers) {
      const { state, timestamp, error } = task.status;
      const same = state === status.state && timestamp === status.timestamp && error === status.error;
      if (!same && status.state >= TaskState.ACCEPTED && this.#tasks.has(taskId)) this.#reporter.add(taskId, status);
    }
  }

  #managersAre(now: Managers, onlyIf = this.#managers): void {
    if (this.#managers !== onlyIf) return;
    this.#managers = now;
    for (const controller of this.#controllers.values()) controller.poke();
  }

  async #engineUp(again: boolean): Promise<void> {
    const { engine, network, nodeId } = this.#deps;
    this.#description = { ...(await engine.describe()), degraded: [] };
    const containers = await engine.list(nodeId);
    this.#log.info({ containers: containers.length }, again ? 'the engine is back' : 'the engine answers');
    if (again) network.engineRestarted();
    if (this.#found === undefined) {
      const found = new Map(containers.map((container) => [container.taskId, container]));
      this.#found = found;
      for (const task of this.#tasks.values()) this.#control(task, found.get(task.id));
      // A session may have begun before: what it ended with was not known by then.
      this.#reportDifferences();
    } else for (const controller of this.#controllers.values()) controller.poke();
    this.#compare(containers);
  }

  #reconcileLater(): void {
    const timer = this.#deps.clock.after(RECONCILE_MS, () => {
      this.#remember(() => this.#deps.memory.catchUp());
      void this.#reconcile();
      this.#reconcileLater();
    });
    this.#timers = [...this.#timers.slice(0, 1), timer];
  }

  /** Compares what runs with what should, in case an event was missed or somebody meddled. */
  async #reconcile(): Promise<void> {
    if (this.#watch.state === 'away' || this.#stopped) return;
    try {
      this.#compare(await this.#deps.engine.list(this.#deps.nodeId));
    } catch (error) {
      this.#log.warn({ error: String(error) }, 'could not list the containers');
      if (error instanceof EngineUnreachable) this.#watch.doubt(error);
    }
  }

  #compare(containers: readonly ContainerSummary[]): void {
    const running = new Set(
      containers.filter(({ state }) => state === 'running').map(({ containerId }) => containerId),
    );
    for (const controller of this.#controllers.values()) {
      const runs = controller.containerId !== undefined && running.has(controller.containerId);
      if (runs !== (controller.status.state === TaskState.RUNNING)) controller.poke();
    }
    // Without a manager's word, what is not known may just have been forgotten.
    if (this.#managers !== 'there') return;
    this.#payloads.keepOnly(this.#withFiles(containers));
    for (const container of containers) if (!this.#controllers.has(container.taskId)) void this.#removeStray(container);
  }

  /** Tasks whose files may be in use: those that have not ended, and any whose container runs, known or not. */
  #withFiles(containers: readonly ContainerSummary[]): Set<string> {
    const alive = [...this.#controllers].filter(([, { status }]) => !isTerminal(status.state)).map(([id]) => id);
    return new Set([...alive, ...containers.filter(({ state }) => state === 'running').map(({ taskId }) => taskId)]);
  }

  /** A container of this node whose task no manager knows: left by a crash, or by an agent that lost its memory. */
  async #removeStray({ containerId, taskId }: ContainerSummary): Promise<void> {
    const { engine, network } = this.#deps;
    this.#log.info({ containerId, task: taskId }, 'removing the container of a task that is not assigned here');
    try {
      await engine.stop(containerId);
      await engine.remove(containerId);
      await network.detach(taskId);
    } catch (error) {
      this.#log.warn({ containerId, error: String(error) }, 'could not remove it, to be tried again');
    }
  }

  #node(): { id: string; hostname: string; platform: { os: string; architecture: string } } {
    const { hostname = '', platform } = this.#description ?? {};
    return {
      id: this.#deps.nodeId,
      hostname,
      platform: { os: platform?.OS ?? '', architecture: platform?.Architecture ?? '' },
    };
  }
}

/** What we remember, unless the manager knows of a later state. */
function furthest(remembered: TaskStatus | undefined, told: TaskStatus): TaskStatus {
  return remembered === undefined || told.state > remembered.state ? told : remembered;
}
