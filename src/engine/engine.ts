/**
 * The executor as the agent sees it: a task becomes a container, and containers say what became of them. Two keepers
 * of this contract stand beside it: DockerEngine (a real engine) and MemoryEngine (its twin); engine.contract.ts is
 * the suite both pass.
 *
 * Every call rejects with EngineUnreachable if the engine could not be asked (it may have acted all the same: ask
 * again), with the reason of the caller's signal if that ended it, and with any other Error if the engine said no;
 * its message is then what the user reads in `docker service ps`.
 */
import type { EndpointPort, NodeDescription } from '../model/objects.ts';
import type { TaskAssignment } from '../model/assignments.ts';

/** One overlay of a task as the engine is to be told of it. */
export interface Attachment {
  /** Name of the engine's own network. */
  engineNetwork: string;
  /** The task's address in it, plain IPv4. */
  address: string;
  /** This node's address in it, plain IPv4: our resolver answers there. */
  gateway: string;
}

/** A file of this host that the task is to find at a path of its own, and cannot change. */
export interface FileMount {
  source: string;
  target: string;
}

/** What a task is made of besides its assignment. */
export interface TaskPlace {
  /** This node as templates show it. */
  node: { id: string; hostname: string; platform: { os: string; architecture: string } };
  attachments: Attachment[];
  /** Its secrets and configs. */
  files?: readonly FileMount[];
}

export interface PullOptions {
  /** `X-Registry-Auth` as the client gave it with the service; absent: the registry is asked as nobody. */
  registryAuth?: string;
  signal?: AbortSignal;
}

/** `none`: the container has no health check. */
export type Health = 'none' | 'starting' | 'healthy' | 'unhealthy';

/** `created`: never ran. `exited` includes containers that the engine failed to keep. */
export type ContainerState = 'created' | 'running' | 'exited';

export interface ContainerSummary {
  containerId: string;
  taskId: string;
  state: ContainerState;
}

export interface ContainerStatus extends ContainerSummary {
  /** 0 unless running. */
  pid: number;
  /** Meaningful once exited, or not 0: a failed start leaves one as well. */
  exitCode: number;
  oomKilled: boolean;
  /** What the engine says went wrong; '' if nothing. */
  error: string;
  health: Health;
  /** What its health check printed last; absent if it printed nothing. */
  healthOutput?: string;
  /** Where this host reaches it, plain IPv4: 127.0.0.1 if it shares the host's network, '' if it has none. */
  address: string;
  /** Host-mode ports that are bound now. */
  ports: EndpointPort[];
}

/** What the engine says of its host. */
export type EngineDescription = Pick<NodeDescription, 'hostname' | 'platform' | 'resources' | 'engine'>;

export interface Engine {
  describe(): Promise<EngineDescription>;

  /**
   * Makes the image present: a digest or an image id that is here is never pulled, a tag is pulled if its registry
   * answers, and an image that is here is used if it does not (decisions-and-traps.md 12).
   * @throws Error `No such image: …`
   */
  ensureImage(image: string, options?: PullOptions): Promise<void>;

  /**
   * Makes the task's container, attached to its networks but not started, and returns its id. A container of the
   * same task that never ran is replaced, so that a create that was cut short can be repeated.
   */
  create(task: TaskAssignment, place: TaskPlace): Promise<string>;

  /** Starts it; no error if it runs already. */
  start(containerId: string): Promise<void>;

  /** Sends the stop signal, and kills after the task's grace period; settles when it has stopped. No error if gone. */
  stop(containerId: string, signal?: AbortSignal): Promise<void>;

  /** Sends a signal such as `SIGKILL`; no error if it does not run. */
  kill(containerId: string, signalName: string): Promise<void>;

  /** Removes it with its anonymous volumes, running or not; no error if gone. */
  remove(containerId: string): Promise<void>;

  /** Its present state, or undefined if there is no such container. */
  inspect(containerId: string): Promise<ContainerStatus | undefined>;

  /** Every container of tasks of this node, running or not. */
  list(nodeId: string): Promise<ContainerSummary[]>;

  /**
   * Subscribes to changes of this node's containers; settles once the subscription stands. Each item is the id of a
   * task whose container started, exited, changed its health or was removed: a hint to inspect. Ends or throws when the
   * engine goes away.
   */
  watch(nodeId: string, signal: AbortSignal): Promise<AsyncIterable<string>>;
}
