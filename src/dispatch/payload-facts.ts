/**
 * Secrets and configs as facts: a node knows one for as long as a task of its own that has not ended uses it. Pure.
 * A task's payloads are marked, and so told, before the task: an agent that has a task and not its secret knows that there
 * is none.
 */
import type { PayloadAssignment } from '../model/assignments.ts';
import { serviceSpecId, type Payload, type Task } from '../model/objects.ts';
import { PAYLOAD_KINDS, PAYLOAD_TABLES, payloadIds, type PayloadKind } from '../model/payloads.ts';
import type { ServiceSpec } from '../model/specs.ts';
import { isTerminal, TaskState } from '../model/states.ts';
import type { Event, View } from '../store/store.ts';

export type PayloadFactKey = `${PayloadKind} ${string}`;

/** Whether any spec refers to a secret or config. Where none does, no task's spec has to be looked for. */
export function hasPayloadUsers(view: View): boolean {
  return PAYLOAD_KINDS.some((kind) => view.serviceSpecs.keys(kind)[Symbol.iterator]().next().done !== true);
}

/** All that a task's spec refers to, whether it is there or not. `events` may hold the last trace of the spec. */
export function* payloadFactsOf(view: View, task: Task, events: readonly Event[] = []): Iterable<PayloadFactKey> {
  const spec = specOf(view, task) ?? removedSpec(events, task);
  if (spec === undefined) return;
  for (const kind of PAYLOAD_KINDS) for (const id of payloadIds(spec.TaskTemplate, kind)) yield `${kind} ${id}`;
}

/** One as it is for `nodeId`; null if it is not there, or no task there is to have it. */
export function payloadOf(view: View, nodeId: string, kind: PayloadKind, id: string): PayloadAssignment | null {
  const payload = view[PAYLOAD_TABLES[kind]].get(id);
  if (payload === undefined || view.nodes.get(nodeId) === undefined) return null;
  const wanted = view.tasks.by('node', nodeId).some((task) => mayHave(task) && uses(view, task, kind, id));
  if (!wanted) return null;
  return { id, data: payload.spec.Data, templated: payload.spec.Templating !== undefined };
}

/** Marks a secret or config that came or went with the nodes whose tasks refer to it. What it holds never changes. */
export function markPayload(
  kind: PayloadKind,
  before: Payload | undefined,
  after: Payload | undefined,
  view: View,
  mark: (nodeId: string, fact: PayloadFactKey) => void,
): void {
  if ((before === undefined) === (after === undefined)) return;
  const { id } = (after ?? before)!;
  for (const version of view.serviceSpecs.by(kind, id)) {
    for (const { nodeId } of view.tasks.by('spec', version.id)) if (nodeId !== '') mark(nodeId, `${kind} ${id}`);
  }
}

function mayHave({ status }: Task): boolean {
  return status.state >= TaskState.ASSIGNED && !isTerminal(status.state);
}

function uses(view: View, task: Task, kind: PayloadKind, id: string): boolean {
  const spec = specOf(view, task);
  return spec !== undefined && payloadIds(spec.TaskTemplate, kind).includes(id);
}

/** The spec a task was made from. Most are of their service's present version, and a row that is known costs no search. */
export function specOf(
  view: View,
  { serviceId, specVersion }: Task,
  service = view.services.get(serviceId),
): ServiceSpec | undefined {
  if (service?.specVersion === specVersion) return service.spec;
  return view.serviceSpecs.get(serviceSpecId(serviceId, specVersion))?.spec;
}

/** The reaper removes a version after its last task, but perhaps in the same batch. */
function removedSpec(events: readonly Event[], task: Task): ServiceSpec | undefined {
  const id = serviceSpecId(task.serviceId, task.specVersion);
  for (const event of events) if (event.table === 'serviceSpecs' && event.before?.id === id) return event.before.spec;
  return undefined;
}
