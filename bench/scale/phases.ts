/** What a cluster of one size goes through, and what each phase costs the control plane. */
import { getHeapStatistics } from 'node:v8';
import { newId } from '../../src/model/ids.ts';
import type { Task } from '../../src/model/objects.ts';
import type { ServiceSpec } from '../../src/model/specs.ts';
import { TaskState } from '../../src/model/states.ts';
import type { Event } from '../../src/store/store.ts';
import { ScaledCluster } from './cluster.ts';

export interface Size {
  nodes: number;
  tasksPerNode: number;
  /** Names of the phases to go through; absent: all. */
  phases?: readonly string[] | undefined;
}

export interface Figures {
  nodes: number;
  tasks: number;
  phase: string;
  /** Of the whole process, garbage collection's threads included, less what the agents' own code used. */
  controlCpuMs: number;
  agentCpuMs: number;
  /** Of objects in the store, committed. */
  changes: number;
  /** Frames between agents and manager, both ways. */
  frames: number;
  /** Facts that agents were told. */
  facts: number;
  /** Simulated: until the phase's aim was reached, and with the rest after it. */
  convergedMs: number;
  simulatedMs: number;
  wallMs: number;
  /** Of the process so far: its agents and the rows of its journal are in it. */
  peakRssBytes: number;
  peakHeapBytes: number;
}

/** Most services have so many replicas … */
const REPLICAS = 100;
/** … and one has this share of all tasks. */
const LARGE_SHARE = 0.1;
const UPDATED_AT_ONCE = 0.1;
/** Of the large service. */
const LARGE_UPDATED_AT_ONCE = 0.02;
const LOST_SHARE = 0.01;
const WITHIN_MS = 3_600_000;
/** How long a phase goes on after its aim was reached, for what follows by itself. */
const REST_MS = 6_000;
/** Of simulated time in which there is nothing but heartbeats. */
const IDLE_MS = 20_000;
const SAMPLE_MS = 500;

export async function measureSize(size: Size, told: (figures: Figures) => void): Promise<void> {
  await new Measurement(size, told).run();
}

class Measurement {
  readonly #size: Size;
  readonly #told: (figures: Figures) => void;
  readonly #cluster = new ScaledCluster();
  readonly #services: Map<string, ServiceSpec>;
  readonly #tasks: number;
  readonly #lost = new Set<string>();
  /** Wanted tasks that run on nodes that are there. */
  #running = 0;
  #ready = 0;
  #updated = 0;
  #peakHeapBytes = 0;

  constructor(size: Size, told: (figures: Figures) => void) {
    this.#size = size;
    this.#told = told;
    this.#tasks = size.nodes * size.tasksPerNode;
    this.#services = servicesFor(this.#tasks, this.#cluster.random);
    this.#cluster.listen((events) => this.#follow(events));
  }

  async run(): Promise<void> {
    const cluster = this.#cluster;
    const { nodes } = this.#size;
    await cluster.lead();
    this.#sample();
    const ids = Array.from({ length: nodes }, () => newId(cluster.random));
    await this.#phase(
      'nodes join',
      () => cluster.join(ids),
      () => this.#ready === nodes && cluster.fleet.whole === nodes,
    );
    await this.#phase(
      'create',
      () => cluster.createServices(this.#services),
      () => this.#running === this.#tasks,
    );
    await this.#changeOfLeader('');
    await this.#phase(
      'rolling update',
      () => this.#update(),
      () => this.#updated === this.#services.size,
    );
    await this.#phase(
      '1 % of nodes lost',
      async () => this.#lose(ids),
      () => this.#running === this.#tasks,
    );
    await this.#phase(
      'idle',
      () => cluster.clock.run(IDLE_MS),
      () => true,
    );
    await this.#changeOfLeader(', with history');
  }

  /** The leader's process is gone, and the next one has nothing but the journal. */
  async #changeOfLeader(suffix: string): Promise<void> {
    const { phases } = this.#size;
    if (phases !== undefined && !phases.includes('new leader')) return;
    const cluster = this.#cluster;
    await cluster.crash();
    await this.#phase(
      `rows loaded${suffix}`,
      () => cluster.load(),
      () => true,
      0,
    );
    this.#recount();
    await this.#phase(
      `new leader${suffix}`,
      () => this.#takeOver(),
      () => this.#tookOver(),
    );
  }

  async #phase(phase: string, act: () => Promise<void>, done: () => boolean, restMs = REST_MS): Promise<void> {
    const { phases } = this.#size;
    if (phases !== undefined && !phases.some((name) => phase.includes(name) || phase.startsWith('rows'))) return;
    const { clock, fleet } = this.#cluster;
    // What the phase before has left is not this one's.
    globalThis.gc?.();
    const { changes } = this.#cluster;
    const { cpuMs, frames, facts } = fleet;
    const beganMs = clock.monotonic();
    const wallMs = performance.now();
    const cpu = process.cpuUsage();
    this.#peakHeapBytes = 0;
    await act();
    await clock.runUntil(done, phase, WITHIN_MS);
    const convergedMs = clock.monotonic() - beganMs;
    await clock.run(restMs);
    const { user, system } = process.cpuUsage(cpu);
    const agentCpuMs = fleet.cpuMs - cpuMs;
    this.#told({
      nodes: this.#size.nodes,
      tasks: this.#tasks,
      phase,
      controlCpuMs: (user + system) / 1000 - agentCpuMs,
      agentCpuMs,
      changes: this.#cluster.changes - changes,
      frames: fleet.frames - frames,
      facts: fleet.facts - facts,
      convergedMs,
      simulatedMs: clock.monotonic() - beganMs,
      wallMs: performance.now() - wallMs,
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
      peakHeapBytes: this.#peakHeapBytes,
    });
  }

  #follow(events: readonly Event[]): void {
    for (const event of events) {
      const { before, after } = event;
      if (event.table === 'tasks') this.#running += Number(this.#runs(event.after)) - Number(this.#runs(event.before));
      else if (event.table === 'nodes')
        this.#ready += Number(event.after?.status.state === 'ready') - Number(event.before?.status.state === 'ready');
      else if (event.table === 'services') {
        const [was, is] = [event.before, event.after].map((service) => service?.updateStatus?.state);
        if (is === 'paused') throw new Error(`an update stopped: ${event.after!.updateStatus!.message}`);
        this.#updated += Number(is === 'completed') - Number(was === 'completed');
      } else if (before === after) throw new Error('an event that changes nothing');
    }
  }

  #runs(task: Task | undefined): boolean {
    return (
      task?.desiredState === TaskState.RUNNING &&
      task.status.state === TaskState.RUNNING &&
      !this.#lost.has(task.nodeId)
    );
  }

  async #update(): Promise<void> {
    await this.#cluster.updateServices(this.#services.keys(), (spec) => ({
      ...spec,
      TaskTemplate: { ...spec.TaskTemplate, ForceUpdate: 1 },
    }));
  }

  #lose(ids: readonly string[]): void {
    for (const id of ids.filter((_, i) => i % (1 / LOST_SHARE) === 0)) {
      this.#lost.add(id);
      this.#cluster.fleet.lose(id);
    }
    this.#recount();
  }

  #recount(): void {
    this.#cluster.store.view((view) => {
      this.#running = 0;
      for (const task of view.tasks.all()) this.#running += Number(this.#runs(task));
      this.#ready = 0;
      for (const node of view.nodes.all()) this.#ready += Number(node.status.state === 'ready');
    });
  }

  async #takeOver(): Promise<void> {
    const cluster = this.#cluster;
    await cluster.begin();
    cluster.dial(cluster.fleet.nodeIds);
  }

  #tookOver(): boolean {
    const { fleet } = this.#cluster;
    const alive = this.#size.nodes - this.#lost.size;
    return this.#ready === alive && fleet.whole === alive && this.#running === this.#tasks;
  }

  #sample(): void {
    const { used_heap_size: heap, external_memory: external } = getHeapStatistics();
    this.#peakHeapBytes = Math.max(this.#peakHeapBytes, heap + external);
    this.#cluster.clock.after(SAMPLE_MS, () => this.#sample());
  }
}

/** One large service, and as many of `REPLICAS` as make up the rest. */
function servicesFor(tasks: number, random: () => number): Map<string, ServiceSpec> {
  const large = Math.floor((tasks * LARGE_SHARE) / REPLICAS) * REPLICAS;
  const replicas = [large, ...Array.from({ length: (tasks - large) / REPLICAS }, () => REPLICAS)];
  return new Map(replicas.map((count, i) => [newId(random), specOf(i, count)]));
}

function specOf(i: number, Replicas: number): ServiceSpec {
  const share = Replicas > REPLICAS ? LARGE_UPDATED_AT_ONCE : UPDATED_AT_ONCE;
  return {
    Name: `service-${i}`,
    Labels: { 'com.docker.stack.namespace': `stack-${i % 100}` },
    TaskTemplate: {
      ContainerSpec: {
        Image: 'registry.example/team/web:1.2.3@sha256:' + 'a'.repeat(64),
        Env: Array.from({ length: 8 }, (_, n) => `SETTING_${n}=value-${n}`),
      },
      Resources: { Reservations: { NanoCPUs: 1e8, MemoryBytes: 64e6 } },
      Placement: { Constraints: ['node.role==worker'] },
    },
    Mode: { Replicated: { Replicas } },
    UpdateConfig: { Parallelism: Math.ceil(Replicas * share), Monitor: 5e9 },
  };
}
