/**
 * The container engine of a simulated host: the engine's twin, with behaviour by the image's name and troubles of its own, and
 * the way to it from the agent's process. The engine outlives that process; what it was asked by one that ended, it does.
 */
import { MemoryEngine, type Behaviour } from '../engine/memory-engine.ts';
import type { Engine, EngineDescription, TaskPlace } from '../engine/engine.ts';
import type { TaskAssignment } from '../model/assignments.ts';
import type { Clock } from '../model/clock.ts';
import type { Process } from './process.ts';
import type { Chance } from './seeded.ts';

export interface EngineHostDeps {
  clock: Clock;
  chance: Chance;
  resources: EngineDescription['resources'];
  hostname: string;
  /** A container runs from now on. */
  started: (task: TaskAssignment) => void;
}

const ENGINE: EngineDescription['engine'] = {
  version: '20.10.24',
  labels: {},
  plugins: [
    { type: 'Network', name: 'overlay' },
    { type: 'Network', name: 'bridge' },
  ],
};

export class EngineHost {
  readonly engine: MemoryEngine;
  readonly #deps: EngineHostDeps;
  /** While true the engine is slow and some of what it is asked fails. */
  troubled = false;

  constructor(deps: EngineHostDeps) {
    const { clock, hostname, resources } = deps;
    this.#deps = deps;
    this.engine = new MemoryEngine({
      clock,
      behaviour: ({ image }) => this.#behaviour(image),
      description: { hostname, resources, engine: ENGINE },
    });
  }

  /** The tasks whose containers run. */
  running(): TaskAssignment[] {
    return [...this.engine.containers.values()].filter(({ state }) => state === 'running').map(({ task }) => task);
  }

  /** One of the running containers ends by itself. */
  someContainerDies(chance: Chance): void {
    const running = [...this.engine.containers.values()].filter(({ state }) => state === 'running');
    if (running.length > 0) this.engine.exit(chance.pick(running).containerId, chance.pick([0, 1, 137]));
  }

  /** The engine as a process of this host reaches it. */
  seenFrom(process: Process): Engine {
    const { engine } = this;
    const ask = <T>(answer: () => Promise<T>): Promise<T> => process.call(this.#late(answer));
    return {
      describe: () => ask(() => engine.describe()),
      ensureImage: (image, options) => ask(() => engine.ensureImage(image, options)),
      create: (task: TaskAssignment, place: TaskPlace) => ask(() => engine.create(task, place)),
      start: (containerId) =>
        ask(async () => {
          const before = engine.containers.get(containerId)?.state;
          await engine.start(containerId);
          const container = engine.containers.get(containerId);
          if (before !== 'running' && container?.state === 'running') this.#deps.started(container.task);
        }),
      stop: (containerId, signal) => ask(() => engine.stop(containerId, signal)),
      kill: (containerId, name) => ask(() => engine.kill(containerId, name)),
      remove: (containerId) => ask(() => engine.remove(containerId)),
      inspect: (containerId) => ask(() => engine.inspect(containerId)),
      list: (nodeId) => ask(() => engine.list(nodeId)),
      watch: async (nodeId, signal) => {
        const hints = await ask(() => engine.watch(nodeId, signal));
        return {
          [Symbol.asyncIterator]() {
            const iterator = hints[Symbol.asyncIterator]();
            return { next: () => process.call(iterator.next()) };
          },
        };
      },
    };
  }

  async #late<T>(answer: () => Promise<T>): Promise<T> {
    const { clock, chance } = this.#deps;
    const delayMs = this.troubled ? chance.between(5, 800) : chance.between(0.5, 10);
    await new Promise<void>((resolve) => clock.after(delayMs, resolve));
    return answer();
  }

  #behaviour(image: string): Behaviour {
    const { chance } = this.#deps;
    const slow = image.includes('slow');
    const behaviour: Behaviour = {
      pullMs: slow ? chance.between(500, 8_000) : chance.between(1, 300),
      startMs: slow ? chance.between(200, 3_000) : chance.between(10, 300),
      stopMs: slow ? chance.between(500, 9_000) : chance.between(5, 800),
    };
    if (image.includes('bad')) behaviour.startError = 'exec: "nothing": executable file not found in $PATH';
    if (image.includes('missing')) behaviour.pullError = 'manifest unknown';
    if (image.includes('checked')) behaviour.healthAfterMs = chance.between(200, 2_000);
    if (!this.troubled) return behaviour;
    if (chance.happens(0.2)) behaviour.pullError = 'the registry does not answer';
    if (chance.happens(0.1)) behaviour.createError = 'no space left on device';
    if (chance.happens(0.2)) behaviour.startError = 'cannot allocate memory';
    if (chance.happens(0.3)) Object.assign(behaviour, { exitAfterMs: chance.between(100, 10_000), exitCode: 1 });
    return behaviour;
  }
}
