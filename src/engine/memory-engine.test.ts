import { FakeClock } from '../sim/fake-clock.ts';
import { describeEngineContract } from './engine.contract.ts';
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
