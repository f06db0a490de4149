/**
 * Simulated agents, thousands in one object: they read the frames of their sessions, take the differences of their
 * assignments, take their tasks from state to state after simulated delays, and report in batches, one under way, as real
 * agents do. They also send heartbeats and answer rounds. Nothing is run.
 *
 * Every `TICK_MS` of simulated time they do what is due. Their own CPU time is counted apart in `cpuMs`; what their frames
 * cost the manager is not in it.
 */
import type { AssignmentChange, TaskStatusReport } from '../../src/model/assignments.ts';
import { timestamp, type Clock, type Random } from '../../src/model/clock.ts';
import type { NodeDescription, TaskStatus } from '../../src/model/objects.ts';
import { TaskState } from '../../src/model/states.ts';
import { encodeFrame } from '../../src/dispatch/frames.ts';
import type { ManagerMessage } from '../../src/dispatch/messages.ts';
import { Transit } from './transit.ts';
import { Wire } from './wire.ts';

/** How often agents get what was sent, and send: latency of the network and of their own work. */
const TICK_MS = 20;
/** From ASSIGNED to STARTING, and to RUNNING; from asked to stop to SHUTDOWN. Each with up to as much again at random. */
const PREPARE_MS = 200;
const START_MS = 300;
const STOP_MS = 500;
/** Of one report, as real agents do it. */
const MAX_REPORTS = 100;
const HEADER_BYTES = 4;

interface AgentTask {
  id: string;
  desired: TaskState;
  status: TaskStatus;
}

interface Agent {
  nodeId: string;
  hostname: string;
  tasks: Map<string, AgentTask>;
  wire: Wire | undefined;
  reports: Map<string, TaskStatus>;
  /** The number of the batch under way; negative: none is. */
  underWay: number;
  number: number;
  heartbeatMs: number;
  hasAll: boolean;
}

/** Something to be done for one agent in some tick: the next step of a task, a report, or the heartbeat of a connection. */
type Job = { agent: Agent; what: AgentTask | 'report' | Wire };

export class Fleet {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #agents = new Map<string, Agent>();
  readonly #due = new Map<number, Job[]>();
  #tick = 0;
  readonly #transit = new Transit();
  #unread = new Set<Agent>();
  #outgoing: { wire: Wire; frame: Buffer }[] = [];
  #cpuMicros = 0;
  /** Facts that agents were told, and frames both ways. */
  facts = 0;
  frames = 0;

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
    this.#nextTick();
  }

  /** CPU that the agents have used, in milliseconds. */
  get cpuMs(): number {
    return this.#cpuMicros / 1000;
  }

  /** How many agents have had all their facts from a manager they have a session with. */
  get whole(): number {
    let count = 0;
    for (const { hasAll } of this.#agents.values()) count += Number(hasAll);
    return count;
  }

  /** Tasks that the agents know, by the state they are in. */
  count(state: TaskState): number {
    let count = 0;
    for (const { tasks } of this.#agents.values())
      for (const task of tasks.values()) count += Number(task.status.state === state);
    return count;
  }

  get nodeIds(): string[] {
    return [...this.#agents.keys()];
  }

  add(nodeId: string, hostname: string): void {
    this.#agents.set(nodeId, {
      nodeId,
      hostname,
      tasks: new Map(),
      wire: undefined,
      reports: new Map(),
      underWay: -1,
      number: 0,
      heartbeatMs: 0,
      hasAll: false,
    });
  }

  /** The agent dials a manager. Returns its wire; the hello comes with the next tick. */
  dial(nodeId: string): Wire {
    const agent = this.#agents.get(nodeId)!;
    const wire = new Wire(this.#transit, () => {
      if (agent.wire === wire) this.#unread.add(agent);
    });
    Object.assign(agent, { wire, hasAll: false, underWay: -1 });
    this.#send(agent, { type: 'hello', nodeId, description: descriptionOf(agent.hostname) });
    return wire;
  }

  /** The node loses power: it says nothing more, and its connection does not even end. */
  lose(nodeId: string): void {
    this.#agents.delete(nodeId);
  }

  #nextTick(): void {
    this.#clock.after(TICK_MS, () => {
      this.#tick += 1;
      this.#nextTick();
      const delivered = this.#work();
      for (const wire of delivered) wire.drain();
      const outgoing = this.#outgoing;
      this.#outgoing = [];
      for (const { wire, frame } of outgoing) wire.receive(frame);
    });
  }

  /** What the agents do by themselves in a tick. Returns the wires whose frames they have read. */
  #work(): Wire[] {
    const before = process.threadCpuUsage();
    const jobs = this.#due.get(this.#tick) ?? [];
    this.#due.delete(this.#tick);
    for (const { agent, what } of jobs) {
      if (this.#agents.get(agent.nodeId) !== agent) continue;
      if (what === 'report') this.#report(agent);
      else if (!(what instanceof Wire)) this.#advance(agent, what);
      else if (agent.wire === what) this.#beat(agent, what);
    }
    const unread = this.#unread;
    this.#unread = new Set();
    const delivered: Wire[] = [];
    for (const agent of unread) {
      const { wire } = agent;
      if (wire === undefined || this.#agents.get(agent.nodeId) !== agent) continue;
      for (const { slab, start, end } of wire.take())
        this.#read(agent, JSON.parse(slab.toString('utf8', start + HEADER_BYTES, end)));
      delivered.push(wire);
    }
    this.#transit.clear();
    const used = process.threadCpuUsage(before);
    this.#cpuMicros += used.user + used.system;
    return delivered;
  }

  #read(agent: Agent, message: ManagerMessage): void {
    this.frames += 1;
    switch (message.type) {
      case 'welcome':
        agent.heartbeatMs = message.heartbeatMs;
        this.#beatLater(agent, agent.wire!);
        break;
      case 'assignment':
      case 'changes':
        this.facts += message.changes.length;
        for (const change of message.changes) this.#learn(agent, change);
        if (message.type === 'changes') this.#settled(agent, message.settle);
        break;
      case 'complete':
        agent.hasAll = true;
        this.#settled(agent, message.settle);
        this.#report(agent);
        break;
      case 'stored':
        if (message.number === agent.underWay) agent.underWay = -1;
        this.#report(agent);
        break;
      case 'heartbeat':
        agent.heartbeatMs = message.heartbeatMs;
        break;
      case 'end':
        // A leader that ends in order: its agents dial the next one when that is there.
        if (message.reason !== 'stopping') throw new Error(`a session ended: ${message.message}`);
        break;
      case 'managers':
      case 'open':
        break;
    }
  }

  #settled(agent: Agent, round: number | undefined): void {
    if (round !== undefined) this.#send(agent, { type: 'settled', round });
  }

  #learn(agent: Agent, { kind, key, value }: AssignmentChange): void {
    if (kind !== 'task') return;
    if (value === null) {
      agent.tasks.delete(key);
      return;
    }
    const { desiredState, status } = value;
    const known = agent.tasks.get(key);
    if (known !== undefined) {
      const moved = known.desired !== desiredState;
      known.desired = desiredState;
      if (moved) this.#later(agent, known);
      // What the last manager did not live to store.
      if (status.state < known.status.state && !agent.hasAll) agent.reports.set(key, known.status);
    } else {
      const task = { id: key, desired: desiredState, status };
      agent.tasks.set(key, task);
      if (status.state < TaskState.RUNNING) {
        this.#reach(agent, task, TaskState.PREPARING, 'preparing');
        this.#later(agent, task);
      } else if (status.state === TaskState.RUNNING && desiredState >= TaskState.SHUTDOWN) this.#later(agent, task);
    }
  }

  /** Takes a task one step further, if there is one. */
  #advance(agent: Agent, task: AgentTask): void {
    if (agent.tasks.get(task.id) !== task) return;
    const { state } = task.status;
    if (state >= TaskState.COMPLETE) return;
    if (task.desired >= TaskState.SHUTDOWN) this.#reach(agent, task, TaskState.SHUTDOWN, 'shutdown');
    else if (state < TaskState.READY && task.desired < TaskState.RUNNING)
      this.#reach(agent, task, TaskState.READY, 'prepared');
    else if (state < TaskState.STARTING && task.desired >= TaskState.RUNNING) {
      this.#reach(agent, task, TaskState.STARTING, 'starting');
      this.#later(agent, task);
    } else if (state === TaskState.STARTING) this.#reach(agent, task, TaskState.RUNNING, 'started');
  }

  #later(agent: Agent, task: AgentTask): void {
    const { state } = task.status;
    const stops = task.desired >= TaskState.SHUTDOWN;
    const delayMs = stops ? STOP_MS : state < TaskState.READY ? PREPARE_MS : state === TaskState.READY ? 0 : START_MS;
    this.#at(delayMs * (1 + this.#random()), { agent, what: task });
  }

  #at(delayMs: number, job: Job): void {
    const tick = this.#tick + Math.max(1, Math.ceil(delayMs / TICK_MS));
    const jobs = this.#due.get(tick);
    if (jobs === undefined) this.#due.set(tick, [job]);
    else jobs.push(job);
  }

  #reach(agent: Agent, task: AgentTask, state: TaskState, message: string): void {
    const now = timestamp(this.#clock.now());
    const container =
      state < TaskState.STARTING ? undefined : (task.status.container ?? { id: containerId(task.id), pid: 4242 });
    task.status = {
      timestamp: now,
      state,
      message,
      ...(container === undefined ? {} : { container }),
      ...(state === TaskState.RUNNING ? { runningSince: now } : {}),
    };
    if (agent.reports.size === 0) this.#at(0, { agent, what: 'report' });
    agent.reports.set(task.id, task.status);
  }

  #beat(agent: Agent, wire: Wire): void {
    this.#send(agent, { type: 'heartbeat' });
    this.#beatLater(agent, wire);
  }

  #beatLater(agent: Agent, wire: Wire): void {
    this.#at(agent.heartbeatMs * (0.75 + this.#random() / 4), { agent, what: wire });
  }

  #report(agent: Agent): void {
    if (agent.underWay >= 0 || agent.reports.size === 0 || !agent.hasAll) return;
    const reports: TaskStatusReport[] = [];
    for (const [taskId, status] of agent.reports) {
      agent.reports.delete(taskId);
      if (reports.push({ taskId, status }) === MAX_REPORTS) break;
    }
    agent.underWay = ++agent.number;
    this.#send(agent, { type: 'status', number: agent.number, reports });
  }

  #send(agent: Agent, message: object): void {
    this.frames += 1;
    this.#outgoing.push({ wire: agent.wire!, frame: encodeFrame(JSON.stringify(message)) });
  }
}

function containerId(taskId: string): string {
  return taskId.padEnd(64, '0');
}

function descriptionOf(hostname: string): NodeDescription {
  const n = Number(hostname.slice(hostname.lastIndexOf('-') + 1));
  const address = `10.${100 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
  return {
    hostname,
    platform: { Architecture: 'x86_64', OS: 'linux' },
    resources: { nanoCpus: 64e9, memoryBytes: 256e9 },
    engine: { version: '20.10.24', labels: {}, plugins: [{ type: 'Volume', name: 'local' }] },
    tls: { trustRoot: '', certIssuerSubject: '', certIssuerPublicKey: '' },
    routes: [`10.${100 + (n >> 16)}.0.0/16`],
    dataPathAddress: address,
    degraded: [],
  };
}
