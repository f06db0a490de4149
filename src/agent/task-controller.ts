/**
 * One task from assignment to removal: looks at what is wanted and what its container is, takes the next step, and
 * says each state it reaches. Promises: the observed state only goes up; a step that the engine could not answer is
 * taken again and fails nothing; stopping the controller leaves the container as it is.
 */
import { EngineUnreachable } from '../docker/client.ts';
import type { Attachment, ContainerStatus, ContainerSummary, Engine, FileMount, TaskPlace } from '../engine/engine.ts';
import type { TaskAssignment } from '../model/assignments.ts';
import { timestamp } from '../model/clock.ts';
import type { Clock, Log, Random } from '../model/clock.ts';
import type { TaskStatus } from '../model/objects.ts';
import { isTerminal, TaskState } from '../model/states.ts';
import { probeOf } from '../model/readiness.ts';
import { backoffMs } from './backoff.ts';
import { Departure } from './departure.ts';
import type { Managers, NodeNetworkPort } from './ports.ts';
import type { AskReadiness } from './probe.ts';
import { Readiness } from './readiness.ts';
import { endingOf, HOST_RESTARTED, unhealthyBecause } from './task-exit.ts';
import { Wakeup } from './wakeup.ts';

export interface ControllerDeps {
  engine: Engine;
  network: NodeNetworkPort;
  clock: Clock;
  random: Random;
  log: Log;
  /** This node as templates show it. */
  node: () => TaskPlace['node'];
  /** True for the network that published ports come in by. */
  isIngress: (networkId: string) => boolean;
  managers: () => Managers;
  /** The task's secrets and configs on this host; undefined: something is missing, and a manager may still tell of it. */
  files: (task: TaskAssignment) => Promise<FileMount[] | undefined>;
  askReadiness: AskReadiness;
  /** The task has reached this state. */
  onStatus: (taskId: string, status: TaskStatus) => void;
}

export interface ControllerStart {
  task: TaskAssignment;
  /** The last state known of it. */
  status: TaskStatus;
  /** What of it was found on the engine. */
  container?: ContainerSummary;
  /** The host was restarted since that status was written. */
  afterReboot?: boolean;
}

/** How long a network of the task may take to come up, as in Swarm. */
const NETWORK_WITHIN_MS = 30_000;
const NETWORK_RETRY_MS = 500;
/** How long the engine may take to notice that a process has ended. */
const NOTICED_WITHIN_MS = 10_000;
const FIRST_RETRY_MS = 200;
const LAST_RETRY_MS = 5_000;

/** What a step came to: more to do at once, nothing to do until something happens, or nothing ever again. */
type Outcome = 'again' | 'wait' | 'gone';

export class TaskController {
  readonly #deps: ControllerDeps;
  readonly #log: Log;
  readonly #wakeup = new Wakeup();
  /** Ends with the controller. */
  readonly #halt = new AbortController();
  /** Ends what prepares a start that is not wanted any more. */
  readonly #unwanted = new AbortController();
  #task: TaskAssignment;
  #status: TaskStatus;
  #containerId: string | undefined;
  /** We made the container and have not tried to start it: there is nothing to look at yet. */
  #fresh = false;
  #taken = false;
  #afterReboot: boolean;
  /** The process whose namespace has its rules. */
  #attachedPid = 0;
  /** A process that has ended, unless the engine is right. */
  #ended: { pid: number; untilMs: number } | undefined;
  /** Of a service that asks for it, while its process runs and is wanted. */
  #readiness: { of: Readiness; pid: number } | undefined;
  readonly #departure: Departure;
  #running: Promise<void> | undefined;

  constructor(deps: ControllerDeps, start: ControllerStart) {
    const { task, status, container } = start;
    this.#deps = deps;
    this.#task = task;
    this.#status = status;
    this.#containerId = container?.containerId ?? status.container?.id;
    this.#afterReboot = start.afterReboot ?? false;
    this.#log = deps.log.child({ task: task.id, service: task.serviceName });
    const { clock, network } = deps;
    this.#departure = new Departure({
      clock,
      log: this.#log,
      settled: () => network.settled(),
      connections: (pid) => network.connections(pid),
    });
    // It has run, whatever was last written down: go on from there instead of making it again.
    const hasRun = container !== undefined && container.state !== 'created';
    if (hasRun && status.state < TaskState.STARTING) this.#reach(TaskState.STARTING, 'starting');
  }

  get task(): TaskAssignment {
    return this.#task;
  }

  get status(): TaskStatus {
    return this.#status;
  }

  get containerId(): string | undefined {
    return this.#containerId;
  }

  /** Begins; the promise settles when the task is gone from this node or the controller was stopped. */
  start(): Promise<void> {
    this.#running ??= this.#run();
    return this.#running;
  }

  /** The assignment has changed, which is to say: its desired state. */
  update(task: TaskAssignment): void {
    this.#task = task;
    this.#wanted();
  }

  /** The task is no longer assigned here: stop it, remove its container, be gone. */
  take(): void {
    this.#taken = true;
    this.#wanted();
  }

  /** Something may have happened to the container or the managers: look again. */
  poke(): void {
    this.#wakeup.wake();
  }

  async stop(): Promise<void> {
    const reason = new Error('the agent stops');
    this.#halt.abort(reason);
    this.#unwanted.abort(reason);
    this.#wakeup.wake();
    await this.#running;
  }

  #wanted(): void {
    if (this.#leaving() && !this.#unwanted.signal.aborted) this.#unwanted.abort(new Error('not wanted any more'));
    this.#wakeup.wake();
  }

  #leaving(): boolean {
    return this.#taken || this.#task.desiredState >= TaskState.SHUTDOWN;
  }

  async #run(): Promise<void> {
    await this.#untilGone();
    this.#endProbes();
  }

  async #untilGone(): Promise<void> {
    let failures = 0;
    while (!this.#halt.signal.aborted) {
      const seen = this.#wakeup.count;
      try {
        const outcome = await this.#step();
        failures = 0;
        if (outcome === 'gone') return;
        if (outcome === 'wait') await this.#wakeup.after(seen);
      } catch (error) {
        if (error === this.#unwanted.signal.reason) continue;
        if (this.#halt.signal.aborted) return;
        const retry = error instanceof EngineUnreachable || this.#leaving() || isTerminal(this.#status.state);
        if (retry) {
          this.#log.warn({ error: String(error) }, 'step failed, to be tried again');
          const delayMs = backoffMs(++failures, FIRST_RETRY_MS, LAST_RETRY_MS, this.#deps.random);
          await this.#wakeup.after(seen, this.#deps.clock, delayMs);
        } else this.#fail(error);
      }
    }
  }

  #step(): Promise<Outcome> | Outcome {
    const { state } = this.#status;
    if (this.#leaving() || isTerminal(state)) this.#endProbes();
    if (this.#leaving()) return this.#leave();
    if (isTerminal(state)) return 'wait';
    if (state < TaskState.ACCEPTED) return this.#reach(TaskState.ACCEPTED, 'accepted');
    if (state < TaskState.PREPARING) return this.#reach(TaskState.PREPARING, 'preparing');
    if (state < TaskState.READY) return this.#prepare();
    if (state < TaskState.STARTING) {
      const wanted = this.#task.desiredState >= TaskState.RUNNING;
      return wanted ? this.#reach(TaskState.STARTING, 'starting') : 'wait';
    }
    return this.#follow();
  }

  async #prepare(): Promise<Outcome> {
    const { engine, node } = this.#deps;
    const { Image: image = '', PullOptions: pull } = this.#task.spec.ContainerSpec ?? {};
    const { signal } = this.#unwanted;
    const ensured = engine.ensureImage(image, { registryAuth: pull?.RegistryAuth, signal });
    const [attachments] = await Promise.all([this.#attachments(), ensured]);
    const files = await this.#deps.files(this.#task);
    if (files === undefined) return 'wait';
    this.#containerId = await engine.create(this.#task, { node: node(), attachments, files });
    this.#fresh = true;
    return this.#reach(TaskState.READY, 'prepared');
  }

  /** Waits for each of the task's networks. */
  #attachments(): Promise<Attachment[]> {
    return Promise.all(
      this.#task.networks.map(async ({ networkId, address }) => ({ ...(await this.#attachment(networkId)), address })),
    );
  }

  async #attachment(networkId: string): Promise<{ engineNetwork: string; gateway: string }> {
    const { clock, network } = this.#deps;
    const deadline = clock.monotonic() + NETWORK_WITHIN_MS;
    for (;;) {
      this.#unwanted.signal.throwIfAborted();
      try {
        return await network.prepare(networkId);
      } catch (error) {
        if (clock.monotonic() >= deadline) throw error;
        this.#log.debug({ networkId, error: String(error) }, 'the network is not ready yet');
        await this.#wakeup.after(this.#wakeup.count, clock, NETWORK_RETRY_MS);
      }
    }
  }

  /** STARTING or RUNNING: does what the container's present state asks for. */
  async #follow(): Promise<Outcome> {
    if (this.#fresh && this.#containerId !== undefined) return this.#startContainer(this.#containerId);
    const container = await this.#inspect();
    if (container === undefined) throw new Error(`No such container: ${this.#containerId ?? 'none was made'}`);
    if (container.state === 'created') return this.#startContainer(container.containerId);
    if (container.state === 'exited') return this.#afterReboot ? this.#afterBoot(container) : this.#finish(container);
    this.#afterReboot = false;
    if (container.health === 'unhealthy') return this.#endUnhealthy(container);
    return this.#confirmRunning(container);
  }

  async #startContainer(containerId: string): Promise<Outcome> {
    const { engine, network } = this.#deps;
    const { id: taskId, networks } = this.#task;
    this.#fresh = false;
    if (networks.length > 0) await network.expect({ taskId, networks });
    try {
      await engine.start(containerId);
    } catch (error) {
      if (error instanceof EngineUnreachable || !(error instanceof Error)) throw error;
      // The engine gives what it could not start an exit code too, such as 127.
      return this.#fail(new Error(`starting container failed: ${error.message}`), await this.#inspect());
    }
    this.#afterReboot = false;
    return 'again';
  }

  /**
   * The host went down under the task. A manager that is there gets the failure and replaces it, perhaps elsewhere;
   * while none is, the host goes on with what it had (decisions-and-traps.md 10) and the task stays what it was.
   */
  async #afterBoot(container: ContainerStatus): Promise<Outcome> {
    const managers = this.#deps.managers();
    if (managers === 'unknown') return 'wait';
    if (managers === 'there' || this.#task.desiredState !== TaskState.RUNNING)
      return this.#finish(container, HOST_RESTARTED);
    this.#log.info({}, 'the host was restarted and no manager answers: starting the task again');
    await this.#attachments();
    // Its tmpfs went with the host: made anew, it stands where the container looks for it.
    if ((await this.#deps.files(this.#task)) === undefined) return 'wait';
    return this.#startContainer(container.containerId);
  }

  /** The container runs: its network first, then the word that it does. */
  async #confirmRunning(container: ContainerStatus): Promise<Outcome> {
    const running = this.#status.state >= TaskState.RUNNING;
    // How it ended is the engine's to say, and to wake us for.
    if (this.#attachedPid !== container.pid && (await this.#attach(container, running)) === 'ended') return 'wait';
    this.#probe(container);
    if (!running && container.health === 'starting') return 'wait';
    const { ready, reason } = this.#readiness?.of ?? {};
    const error = reason === undefined ? undefined : `not ready: ${reason}`;
    const { container: known, ready: wasReady, error: last } = this.#status;
    if (!running || known?.pid !== container.pid || ready !== wasReady || error !== last) {
      const message = ready === false ? 'started, waiting until it is ready' : 'started';
      this.#reach(TaskState.RUNNING, message, { container, error, ready });
    }
    return 'wait';
  }

  /** Asks the process whether it is ready, if its service says how. One that was adopted goes on as what it was. */
  #probe(container: ContainerStatus): void {
    const probe = probeOf(this.#task.serviceLabels);
    if (probe === undefined || this.#readiness?.pid === container.pid) return;
    this.#endProbes();
    const { clock, askReadiness: ask, isIngress } = this.#deps;
    const { networks } = this.#task;
    const overlay = networks.find(({ networkId }) => !isIngress(networkId)) ?? networks[0];
    const wasReady = this.#status.container?.pid === container.pid && this.#status.ready === true;
    const of = new Readiness(
      { clock, ask, onChange: () => this.poke() },
      probe,
      overlay?.address ?? container.address,
      wasReady,
    );
    this.#readiness = { of, pid: container.pid };
  }

  #endProbes(): void {
    this.#readiness?.of.stop();
    this.#readiness = undefined;
  }

  /**
   * Gives the container's network its rules, unless its process has ended meanwhile. A task that runs already is never
   * ended for its network: that is tried again.
   */
  async #attach(container: ContainerStatus, running: boolean): Promise<'attached' | 'ended' | 'later'> {
    const { network, isIngress, clock } = this.#deps;
    const { id: taskId, networks } = this.#task;
    const { pid, containerId } = container;
    this.#attachedPid = pid;
    if (networks.length === 0) return 'attached';
    const published = networks.some(({ networkId }) => isIngress(networkId));
    const stillOurs = async (): Promise<boolean> => (await this.#inspect())?.pid === pid;
    try {
      const attached = await network.attach({ taskId, pid, networks, published, stillOurs });
      if (attached === 'attached') return attached;
      this.#attachedPid = 0;
      if (this.#mayBeNoticed(pid)) return attached;
      throw new Error(`the engine says that process ${pid} runs, and this host has no such process`);
    } catch (error) {
      this.#attachedPid = 0;
      if (error instanceof EngineUnreachable) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      if (running) {
        this.#log.warn({ reason }, 'the network of a running task could not be set up, to be tried again');
        clock.after(LAST_RETRY_MS, () => this.poke());
        return 'later';
      }
      await this.#deps.engine.stop(containerId, this.#halt.signal);
      throw new Error(`network: ${reason}`, { cause: error });
    }
  }

  /** Whether the engine may yet notice that this process has ended: we are woken when it has, and when it should have. */
  #mayBeNoticed(pid: number): boolean {
    const { clock } = this.#deps;
    if (this.#ended?.pid !== pid) {
      this.#ended = { pid, untilMs: clock.monotonic() + NOTICED_WITHIN_MS };
      clock.after(NOTICED_WITHIN_MS, () => this.poke());
    }
    return clock.monotonic() < this.#ended.untilMs;
  }

  async #endUnhealthy(container: ContainerStatus): Promise<Outcome> {
    await this.#deps.engine.stop(container.containerId, this.#halt.signal);
    return this.#finish((await this.#inspect()) ?? container, unhealthyBecause(container.healthOutput ?? ''));
  }

  async #finish(container: ContainerStatus, cause?: string): Promise<Outcome> {
    await this.#detach();
    const { state, error } = endingOf(container, cause);
    const message = state === TaskState.COMPLETE ? 'finished' : this.#status.message;
    return this.#reach(state, message, { container, error });
  }

  /** Not wanted any more: stops what runs, says so, and clears it away once nobody needs it for its logs. */
  async #leave(): Promise<Outcome> {
    const { engine } = this.#deps;
    let container = await this.#inspect();
    if (container?.state === 'running') {
      if (!(await this.#departed(container))) return 'again';
      await engine.stop(container.containerId, this.#halt.signal);
      container = await this.#inspect();
    }
    if (container !== undefined && mayYetStart(container, this.#status)) {
      // The start that a daemon before this one asked for may still be under way: what is removed does not start.
      await engine.remove(container.containerId);
      await this.#detach();
      container = undefined;
    }
    if (!isTerminal(this.#status.state)) {
      await this.#detach();
      return this.#reach(TaskState.SHUTDOWN, 'shutdown', { container });
    }
    if (!this.#taken && this.#task.desiredState < TaskState.REMOVE) return 'wait';
    if (container !== undefined) {
      await engine.remove(container.containerId);
      await this.#detach();
    }
    this.#containerId = undefined;
    return this.#taken ? 'gone' : 'wait';
  }

  /** Waits until it may get its stop signal; false if something happened meanwhile, so that it is to be looked at again. */
  async #departed({ pid, health }: ContainerStatus): Promise<boolean> {
    const serves = this.#status.state === TaskState.RUNNING && this.#task.networks.length > 0;
    if (!serves || this.#taken || health === 'unhealthy') return true;
    const seen = this.#wakeup.count;
    for (;;) {
      const waitMs = await this.#departure.waitMs(this.#task, pid);
      if (waitMs === 0) return true;
      await this.#wakeup.after(seen, this.#deps.clock, waitMs);
      if (this.#wakeup.count !== seen) return false;
    }
  }

  async #inspect(): Promise<ContainerStatus | undefined> {
    return this.#containerId === undefined ? undefined : this.#deps.engine.inspect(this.#containerId);
  }

  /** What the network could not let go of is its own to clean up: the task's end does not wait for it. */
  async #detach(): Promise<void> {
    this.#attachedPid = 0;
    if (this.#task.networks.length === 0) return;
    try {
      await this.#deps.network.detach(this.#task.id);
    } catch (error) {
      this.#log.warn({ error: String(error) }, 'the network could not let go of the task');
    }
  }

  #fail(error: unknown, container?: ContainerStatus): Outcome {
    const reason = error instanceof Error ? error.message : String(error);
    const state = this.#status.state < TaskState.STARTING ? TaskState.REJECTED : TaskState.FAILED;
    this.#log.warn({ reason }, 'the task failed');
    return this.#reach(state, this.#status.message, { container, error: reason });
  }

  #reach(state: TaskState, message: string, seen: Seen = {}): Outcome {
    const { container, error, ready } = seen;
    const id = this.#containerId;
    const known = container ? containerPart(container) : (this.#status.container ?? (id && { id, pid: 0 }));
    // Only another reason for the same is no new state.
    const { timestamp: since, state: last, ready: wasReady, container: before } = this.#status;
    const isNewProcess = (known && known.pid) !== before?.pid;
    const isNew = state !== last || ready !== wasReady || isNewProcess;
    const now = timestamp(this.#deps.clock.now());
    const isNewRun = state === TaskState.RUNNING && (last !== TaskState.RUNNING || isNewProcess);
    const runningSince = isNewRun ? now : this.#status.runningSince;
    this.#status = {
      timestamp: isNew ? now : since,
      state,
      message,
      ...(error === undefined ? {} : { error }),
      ...(known ? { container: known } : {}),
      ...(runningSince === undefined ? {} : { runningSince }),
      ...(container !== undefined && container.ports.length > 0 ? { ports: container.ports } : {}),
      ...(ready === undefined ? {} : { ready }),
    };
    this.#deps.onStatus(this.#task.id, this.#status);
    return 'again';
  }
}

/** What a state was reached with. */
interface Seen {
  container?: ContainerStatus;
  error?: string;
  ready?: boolean;
}

/** It never ran, and no start of it is known to have failed. */
function mayYetStart({ state, exitCode }: ContainerStatus, status: TaskStatus): boolean {
  return state === 'created' && (exitCode === 0 || !isTerminal(status.state));
}

function containerPart(container: ContainerStatus): NonNullable<TaskStatus['container']> {
  const { containerId: id, pid, exitCode, state } = container;
  return state === 'exited' || exitCode !== 0 ? { id, pid, exitCode } : { id, pid };
}
