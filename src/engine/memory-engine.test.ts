import { expect, test } from 'vitest';
import { EngineUnreachable } from '../docker/errors.ts';
import { FakeClock } from '../sim/fake-clock.ts';
import { describeEngineContract, task } from './engine.contract.ts';
import type { Kind } from './engine.contract.ts';
import { MemoryEngine } from './memory-engine.ts';
import type { Behaviour } from './memory-engine.ts';

const BEHAVIOURS: Record<Kind, Behaviour> = {
  runs: {},
  'exits 3': { exitAfterMs: 0, exitCode: 3 },
  'ignores the stop signal': { stopMs: 0 },
  'turns healthy': { healthAfterMs: 0 },
  'turns unhealthy': { healthAfterMs: 0, health: 'unhealthy', healthOutput: 'no answer' },
  'cannot start': { startError: 'exec: "nope": executable file not found in $PATH' },
};

describeEngineContract('MemoryEngine', () => {
  const clock = new FakeClock();
  // Time passes by itself here: whatever is due, is due in the next round of the event loop.
  const after = clock.after.bind(clock);
  clock.after = (delayMs, fn) => {
    const timer = after(delayMs, fn);
    setImmediate(() => void clock.advance(delayMs));
    return timer;
  };
  const behaviours = new Map<string, Behaviour>(Object.entries(BEHAVIOURS));
  behaviours.set('missing', { pullError: 'manifest unknown' });
  const engine = new MemoryEngine({ clock, behaviour: ({ image }) => behaviours.get(image) ?? {} });
  return {
    engine,
    container: (kind) => ({ Image: kind }),
    missingImage: 'missing',
    goAway: async () => engine.goAway(),
    comeBack: async () => engine.comeBack(),
  };
});

// Found by the simulator, whose hosts came back with containers that nobody had started.
test('what was being started when the power went never runs', async () => {
  const clock = new FakeClock();
  const engine = new MemoryEngine({ clock, behaviour: () => ({ startMs: 1_000 }) });
  const made = task('node1', { Image: 'slow' });
  const node = { id: 'node1', hostname: 'h1', platform: { os: 'linux', architecture: 'x86_64' } };
  const containerId = await engine.create(made, { node, attachments: [] });
  const starting = engine.start(containerId).catch((error: unknown) => error);
  await clock.advance(500);
  engine.powerCut();
  engine.comeBack();
  await clock.advance(5_000);
  expect(await starting).toBeInstanceOf(EngineUnreachable);
  expect(engine.containerOf(made.id)).toMatchObject({ state: 'created', starts: 0 });
});
