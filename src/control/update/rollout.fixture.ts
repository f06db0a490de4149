/** What the tests of rollouts share: versions, and the wait for an end. */
import type { World } from '../world.fixture.ts';

/** A second, in the specs' unit. */
export const SEC = 1e9;
/** Fits on no node. */
export const NOWHERE = { Placement: { Constraints: ['node.labels.zone==nowhere'] } };

const FINAL = ['completed', 'paused', 'rollback_completed', 'rollback_paused'];

export const image = (Image: string) => ({ ContainerSpec: { Image } });

/** Lets time pass until the rollout of the service `web` has ended, one way or the other. */
export async function ended(world: World): Promise<void> {
  const status = () => world.service('web')?.updateStatus;
  for (let rounds = 0; !FINAL.includes(status()?.state ?? ''); rounds++) {
    if (rounds > 2000) throw new Error(`the rollout does not end: ${JSON.stringify(status())}`);
    await world.run(500);
  }
}
