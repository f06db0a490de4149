/** A slot of a job's present run: what follows the task in it, by the restart policy. */
import type { Service } from '../../model/objects.ts';
import { TaskState } from '../../model/states.ts';
import type { Transaction, View } from '../../store/store.ts';
import { continueSlot } from '../handover.ts';
import { isDone } from '../restart.ts';
import { endTask, isOver, isWanted, mustLeave, type ControlDeps, type Slot } from '../tasks.ts';

/** True if the slot is neither done nor simply on its way there. */
export function needsALook(view: View, slot: Slot): boolean {
  const { current } = slot;
  if (isFilled(slot)) return isSuperfluous(slot);
  return !isWanted(current) || isOver(current) || (current.nodeId !== '' && mustLeave(view.nodes.get(current.nodeId)));
}

/** Does what the restart policy says of a slot that is not filled. */
export function continueJobSlot(tx: Transaction, service: Service, slot: Slot, deps: ControlDeps): void {
  if (!isFilled(slot)) continueSlot(tx, service, slot, deps);
  else if (isSuperfluous(slot)) endTask(tx, slot.current, TaskState.SHUTDOWN, deps);
}

/** True once a task of the slot has completed: perhaps one that was asked to stop, and was faster. */
function isFilled({ tasks }: Slot): boolean {
  return tasks.some(isDone);
}

function isSuperfluous(slot: Slot): boolean {
  return isFilled(slot) && isWanted(slot.current) && !isDone(slot.current);
}
