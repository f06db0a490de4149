/**
 * After the faults: what was declared runs, and what does not says why. Each function names the first thing that is not (yet)
 * so; undefined: all of it is.
 */
import { nodeMatches, parseConstraints } from '../../control/scheduler/constraints.ts';
import type { TaskAssignment } from '../../model/assignments.ts';
import { serviceSpecId, type Node, type Service, type Task } from '../../model/objects.ts';
import { replicasOf } from '../../model/defaults.ts';
import { isTerminal, TaskState } from '../../model/states.ts';
import { slotKey } from '../../store/schema.ts';
import type { View } from '../../store/store.ts';
import { isPlaced, reservationsOf } from './places.ts';

/** What the engines of all hosts run: node id → its running tasks. */
export type Running = ReadonlyMap<string, readonly TaskAssignment[]>;

/** Images of which no container ever runs. */
const HOPELESS = /bad|missing/;

export function notAtRest(view: View, running: Running): string | undefined {
  for (const node of view.nodes.all()) {
    const wrong = nodeNotAtRest(view, node, running.get(node.id) ?? []);
    if (wrong !== undefined) return wrong;
  }
  for (const service of view.services.all()) {
    const wrong = serviceNotAtRest(view, service);
    if (wrong !== undefined) return wrong;
  }
  for (const task of view.tasks.all()) {
    const wrong = taskNotAtRest(view, task);
    if (wrong !== undefined) return wrong;
  }
  for (const [nodeId, tasks] of running)
    if (view.nodes.get(nodeId) === undefined && tasks.length > 0) return `node ${nodeId} was removed and is not empty`;
  return undefined;
}

/** A node's engine runs what the state says, and nothing on a drained one. */
function nodeNotAtRest(view: View, node: Node, running: readonly TaskAssignment[]): string | undefined {
  if (node.status.state !== 'ready') return `node ${node.id} is ${node.status.state}`;
  const drained = node.spec.Availability === 'drain';
  for (const { id, serviceName } of running) {
    const task = view.tasks.get(id);
    if (task === undefined) return `node ${node.id} runs task ${id} of ${serviceName}, which is none`;
    if (task.desiredState > TaskState.COMPLETE)
      return `node ${node.id} runs task ${id} of ${serviceName}, which is to end`;
    if (drained && !hasWaitingSuccessor(view, task))
      return `node ${node.id} is drained and runs task ${id} of ${serviceName}`;
  }
  const here = new Set(running.map(({ id }) => id));
  const missing = view.tasks
    .by('node', node.id)
    .find(({ id, status }) => status.state === TaskState.RUNNING && !here.has(id));
  return missing && `task ${missing.id} of ${missing.serviceName} is said to run on ${node.id}, and does not`;
}

/** What moves goes when the task in its place has arrived: while that waits, or never can, it stays. */
function hasWaitingSuccessor(view: View, task: Task): boolean {
  const isInPlace = (other: Task) =>
    other.replaces === task.id && (waits(other) || HOPELESS.test(imageOf(view, other)));
  return view.tasks.by('slot', slotKey(task)).some(isInPlace);
}

function imageOf(view: View, { serviceId, specVersion }: Task): string {
  return view.serviceSpecs.get(serviceSpecId(serviceId, specVersion))?.spec.TaskTemplate.ContainerSpec?.Image ?? '';
}

function waits({ status, desiredState }: Task): boolean {
  return desiredState <= TaskState.COMPLETE && status.state === TaskState.PENDING && (status.error ?? '') !== '';
}

function serviceNotAtRest(view: View, service: Service): string | undefined {
  const { Name, Mode, TaskTemplate } = service.spec;
  if (HOPELESS.test(TaskTemplate.ContainerSpec?.Image ?? '')) return undefined;
  const underWay = service.updateStatus?.state;
  const tasks = view.tasks.by('service', service.id).filter(({ desiredState }) => desiredState <= TaskState.COMPLETE);
  // A rollout waits for a task that waits; whether that one may is looked at for itself.
  if ((underWay === 'updating' || underWay === 'rollback_started') && !tasks.some(waits))
    return `service ${Name} is ${underWay}`;
  if (service.endpoint === undefined && service.endpointError === undefined)
    return `service ${Name} has no endpoint yet`;
  // Its tasks wait for what cannot be given, and the service says so.
  if (service.endpointError !== undefined) return undefined;
  const there = new Set(tasks.map(({ slot, nodeId }) => slot || nodeId));
  if (Mode.Global !== undefined) {
    const missing = [...view.nodes.all()].find((node) => isWantedOn(service, node) && !there.has(node.id));
    return missing && `global service ${Name} has no task for node ${missing.id}`;
  }
  const wanted = replicasOf(service.spec);
  if (there.size !== wanted) return `service ${Name} has ${there.size} slots of ${wanted}`;
  return undefined;
}

function isWantedOn(service: Service, node: Node): boolean {
  const constraints = parseConstraints(service.spec.TaskTemplate.Placement?.Constraints ?? []);
  return node.spec.Availability === 'active' && nodeMatches(constraints, node);
}

/** Every task that is wanted runs, or says why not. */
function taskNotAtRest(view: View, task: Task): string | undefined {
  const { id, serviceName, desiredState } = task;
  const { state, error } = task.status;
  const name = `task ${id} of ${serviceName}`;
  if (desiredState > TaskState.COMPLETE)
    return isTerminal(state) || view.nodes.get(task.nodeId)?.status.state === 'down'
      ? undefined
      : `${name} has yet to end`;
  const service = view.services.get(task.serviceId);
  if (service === undefined) return `${name} is wanted, and its service is gone`;
  if (HOPELESS.test(imageOf(view, task)) || HOPELESS.test(service.spec.TaskTemplate.ContainerSpec?.Image ?? ''))
    return undefined;
  if (state === TaskState.RUNNING) return undefined;
  if (isTerminal(state)) {
    // A paused node gets nothing new, and the node of a global service's task is no matter of choice.
    const isHeld = service.spec.Mode.Global !== undefined && view.nodes.get(task.nodeId)?.spec.Availability === 'pause';
    const stays = isHeld || ['paused', 'rollback_paused'].includes(service.updateStatus?.state ?? '');
    return stays ? undefined : `${name} has ended and is still wanted`;
  }
  if (service.endpointError !== undefined && state <= TaskState.PENDING) return undefined;
  if (state > TaskState.PENDING) return `${name} does not run yet, it is ${state}`;
  if (error === undefined || error === '') return `${name} waits and does not say why`;
  const node = [...view.nodes.all()].find((each) => hasRoom(view, each, task, service));
  return node && `${name} waits (${error}), and node ${node.id} has room for it`;
}

/** By the plainest count: whether this task could go to this node. */
function hasRoom(view: View, node: Node, task: Task, service: Service): boolean {
  if (task.nodeId !== '' && task.nodeId !== node.id) return false;
  if (!isWantedOn(service, node) || node.status.state !== 'ready' || node.description === undefined) return false;
  const { NanoCPUs = 0, MemoryBytes = 0 } = reservationsOf(view, task);
  let { nanoCpus, memoryBytes } = node.description.resources;
  for (const other of view.tasks.by('node', node.id)) {
    if (!isPlaced(other)) continue;
    const used = reservationsOf(view, other);
    nanoCpus -= used.NanoCPUs ?? 0;
    memoryBytes -= used.MemoryBytes ?? 0;
  }
  return NanoCPUs <= nanoCpus && MemoryBytes <= memoryBytes;
}
