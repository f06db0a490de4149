/**
 * The manager's mind: all control loops, started together by the one manager that leads. They know of each other only
 * through the store, and each begins by making right whatever it finds, so that a manager may stop at any point and
 * another go on.
 */
import { startAllocator } from './allocator/allocator.ts';
import { attachmentsLoop } from './attachments.ts';
import { caRotationLoop } from './ca-rotation.ts';
import { enforcerLoop } from './enforcer.ts';
import { globalLoop } from './global.ts';
import { globalJobLoop } from './jobs/global-job.ts';
import { replicatedJobLoop } from './jobs/replicated-job.ts';
import { handoverLoop } from './handover.ts';
import type { Loop } from './loop.ts';
import { newcomersLoop } from './newcomers.ts';
import { orphansLoop } from './orphans.ts';
import { reaperLoop } from './reaper.ts';
import { rebalanceLoop } from './rebalance/rebalance.ts';
import { removalLoop } from './removal.ts';
import { replicatedLoop } from './replicated.ts';
import { startScheduler } from './scheduler/scheduler.ts';
import { startOrderLoop } from './start-order.ts';
import { starterLoop } from './starter.ts';
import type { ControlDeps } from './tasks.ts';
import { updateLoop } from './update/update.ts';

export type { ControlDeps } from './tasks.ts';

export interface Control {
  /** Resolves when no loop writes any more. The store stays open. */
  stop(): Promise<void>;
}

/** Starts every loop. The store must stay open until `stop()` has resolved. */
export function startControl(deps: ControlDeps): Control {
  const authority = caRotationLoop(deps);
  authority.start();
  const parts = [startAllocator(deps), startOrchestration(deps), startScheduler(deps), authority];
  return stopTogether(parts);
}

/** The loops that decide which tasks there are: all but those that give them addresses and nodes. */
export function startOrchestration(deps: ControlDeps): Control {
  const loops: Loop[] = [
    replicatedLoop(deps),
    globalLoop(deps),
    replicatedJobLoop(deps),
    globalJobLoop(deps),
    updateLoop(deps),
    handoverLoop(deps),
    startOrderLoop(deps),
    starterLoop(deps),
    removalLoop(deps),
    enforcerLoop(deps),
    orphansLoop(deps),
    newcomersLoop(deps),
    attachmentsLoop(deps),
    rebalanceLoop(deps),
    reaperLoop(deps),
  ];
  for (const loop of loops) loop.start();
  return stopTogether(loops);
}

function stopTogether(parts: readonly Control[]): Control {
  return {
    async stop() {
      await Promise.all(parts.map((part) => part.stop()));
    },
  };
}
