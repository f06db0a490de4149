/**
 * Replicated services: as many slots as declared, and in each slot one task. Promises that a slot is filled again when
 * its task ends or must leave its node, and that free slot numbers are taken from 1 upwards.
 *
 * Keys: a service's id for the number of its slots, a slot's key for what is in it.
 */
import { replicasOf } from '../model/defaults.ts';
import type { Service, Task } from '../model/objects.ts';
import { TaskState } from '../model/states.ts';
import { slotKey } from '../store/schema.ts';
import type { Event, Transaction, View } from '../store/store.ts';
import { updateInChunks } from './chunks.ts';
import { Loop, type Mark } from './loop.ts';
import { continueSlot } from './handover.ts';
import {
  createTask,
  endTask,
  isOver,
  isRunning,
  isWanted,
  mustLeave,
  slotOf,
  slotsOf,
  standing,
  type ControlDeps,
  type Slot,
} from './tasks.ts';

export interface Scaling {
  /** Slot numbers to fill. */
  add: number[];
  /** Slot numbers to give up. */
  remove: number[];
}

/** What brings the held slots of a service to `replicas`. */
export function scaling(slots: readonly Slot[], replicas: number): Scaling {
  const held = new Set(slots.map(({ current }) => current.slot));
  const add: number[] = [];
  for (let slot = 1; held.size + add.length < replicas; slot++) if (!held.has(slot)) add.push(slot);
  const remove = held.size > replicas ? inOrderOfKeeping(slots).slice(replicas) : [];
  return { add, remove };
}

/**
 * Slot numbers, the last to give up first. A slot is worth less the more copies its node has before it; a slot without
 * a node least. Among equals, running ones are kept, then low numbers.
 */
function inOrderOfKeeping(slots: readonly Slot[]): number[] {
  const byState = slots
    .map((slot) => ({ number: slot.current.slot, task: standing(slot) }))
    .map(({ number, task }) => ({ number, nodeId: isWanted(task) ? task.nodeId : '', runs: isRunning(task) }))
    .sort((a, b) => Number(b.runs) - Number(a.runs) || a.number - b.number);
  const copies = new Map<string, number>();
  const ranked = byState.map((slot) => {
    const before = slot.nodeId === '' ? Infinity : (copies.get(slot.nodeId) ?? 0);
    copies.set(slot.nodeId, before + 1);
    return { number: slot.number, before };
  });
  // The sort is stable: what `byState` says holds among equals. Two infinities are equal, though their difference is not.
  ranked.sort((a, b) => (a.before === b.before ? 0 : a.before - b.before));
  return ranked.map(({ number }) => number);
}

export function replicatedLoop(deps: ControlDeps): Loop {
  const { store } = deps;
  const loop: Loop = new Loop(deps, {
    name: 'replicated',

    *initial(view) {
      // A look at a service finds those of its slots that need one.
      for (const service of view.services.by('mode', 'Replicated')) yield service.id;
    },

    affected,

    async reconcile(keys) {
      await updateInChunks(store, [...keys].filter(isSlotKey), (tx, key) => fillAgain(tx, key, deps));
      for (const serviceId of keys)
        if (!isSlotKey(serviceId)) for (const key of await scale(deps, serviceId)) loop.mark(key);
    },
  });
  return loop;
}

function isSlotKey(key: string): boolean {
  return key.includes('/');
}

function affected(event: Event, view: View, mark: Mark): void {
  if (event.table === 'services') {
    const { before, after } = event;
    if (after !== undefined && isReplicated(after) && after.spec !== before?.spec) mark(after.id);
  } else if (event.table === 'tasks') {
    const { before, after } = event;
    const task = (after ?? before)!;
    if (task.slot === 0) return;
    if (after === undefined) {
      if (isWanted(task)) mark(task.serviceId);
    } else if (needsALook(view, after) && (before === undefined || isWanted(before))) {
      mark(slotKey(after));
    }
  } else if (event.table === 'nodes') {
    const { before, after } = event;
    if (before === undefined || !mustLeave(after) || (mustLeave(before) && after !== undefined)) return;
    for (const task of view.tasks.by('node', before.id)) if (needsALook(view, task)) mark(slotKey(task));
  }
}

/** True for a task that is not simply at its place, as wanted. */
function needsALook(view: View, task: Task): boolean {
  if (task.slot === 0 || task.jobIteration !== undefined || task.desiredState === TaskState.REMOVE) return false;
  return !isWanted(task) || isOver(task) || (task.nodeId !== '' && mustLeave(view.nodes.get(task.nodeId)));
}

function isReplicated(service: Service | undefined): service is Service {
  return service?.spec.Mode.Replicated !== undefined;
}

function fillAgain(tx: Transaction, key: string, deps: ControlDeps): void {
  const slot = slotOf(tx.tasks.by('slot', key));
  const service = slot && tx.services.get(slot.current.serviceId);
  if (!isReplicated(service) || slot === undefined) return;
  continueSlot(tx, service, slot, deps);
}

/** Brings a service to the number of its slots. Returns the keys of those in which something may have to be done. */
async function scale(deps: ControlDeps, serviceId: string): Promise<string[]> {
  const { store } = deps;
  const plan = store.view((view) => {
    const service = view.services.get(serviceId);
    if (!isReplicated(service)) return undefined;
    const slots = slotsOf(view.tasks.by('service', serviceId));
    const amiss = slots.filter(
      ({ current, outgoing }) => needsALook(view, current) || (outgoing !== undefined && needsALook(view, outgoing)),
    );
    const look = amiss.map(({ current }) => slotKey(current));
    return { spec: service.spec, look, ...scaling(slots, replicasOf(service.spec)) };
  });
  if (plan === undefined) return [];
  // Only this loop makes and gives up slots. If the spec moved meanwhile, its event has marked the service again.
  const stillAsked = (tx: Transaction) => {
    const service = tx.services.get(serviceId);
    return service?.spec === plan.spec ? service : undefined;
  };
  await updateInChunks(store, plan.add, (tx, slot) => {
    const service = stillAsked(tx);
    if (service !== undefined) createTask(tx, service, { slot }, deps);
  });
  await updateInChunks(store, plan.remove, (tx, slot) => {
    if (stillAsked(tx) === undefined) return;
    for (const task of tx.tasks.by('slot', `${serviceId}/${slot}`)) endTask(tx, task, TaskState.REMOVE, deps);
  });
  return plan.look;
}
