/**
 * What each node is to know (model/assignments.ts), read from the store: every fact of a node, one fact, and the facts
 * that a change of the store touches. Pure. The promise, kept by a property test: whoever starts with all the facts of
 * a node and reads again each one marked since, has all the facts of that node.
 *
 * One thing is left out on purpose: a task's observed status, once its agent has the task. The agent is where that
 * comes from; sending it back would cost as much as all the rest.
 */
import type {
  AssignmentChange,
  AssignmentKind,
  EndpointAssignment,
  NetworkAssignment,
  PeerAssignment,
  ServiceAssignment,
  TaskAssignment,
} from '../model/assignments.ts';
import { CLUSTER_ROW, type EndpointPort, type Node, type Service, type Task } from '../model/objects.ts';
import { drainMsOf } from '../model/readiness.ts';
import type { ServiceSpec, TaskSpec } from '../model/specs.ts';
import { isTerminal, TaskState } from '../model/states.ts';
import type { Event, View } from '../store/store.ts';
import { attachedEndpointOf, attachmentOf, markAttachment } from './attachment-facts.ts';
import { hasPayloadUsers, markPayload, payloadFactsOf, payloadOf, specOf } from './payload-facts.ts';

/** One fact of a node: its kind and, in the space of that, its key. */
export interface Fact {
  kind: AssignmentKind;
  key: string;
  /** Of a task: its row, for who reads the fact in the same look as that. Not to be kept: the row may be another by then. */
  task?: Task;
}

/** The same as a name, for sets of facts. */
export type FactKey = `${AssignmentKind} ${string}`;

/** The fact of that name. */
export function factNamed(name: FactKey): Fact {
  const kind = name.slice(0, name.indexOf(' ')) as AssignmentKind;
  return { kind, key: name.slice(kind.length + 1) };
}

/**
 * Every fact that `nodeId` may be told of, each once, in an order that suits an agent: networks before what is in them, tasks
 * last. Their keys are the ids of the objects themselves, by which these are found faster than by a piece of a name.
 */
export function* factsOf(view: View, nodeId: string): Iterable<Fact> {
  for (const networkId of Object.keys(view.nodes.get(nodeId)?.gateways ?? {}))
    for (const name of new Set(factsOfNetwork(view, networkId))) yield factNamed(name);
  for (const { id } of view.attachments.by('node', nodeId)) yield { kind: 'attachment', key: id };
  const tasks = view.tasks.by('node', nodeId);
  if (hasPayloadUsers(view)) {
    const payloads = new Set<FactKey>();
    for (const task of tasks) for (const name of payloadFactsOf(view, task)) payloads.add(name);
    for (const name of payloads) yield factNamed(name);
  }
  for (const task of tasks) yield { kind: 'task', key: task.id, task };
}

/** One fact as it is now for `nodeId`; its value is null if there is no such fact, or not for that node. */
export function readFact(view: View, nodeId: string, { kind, key, task }: Fact): AssignmentChange {
  if (kind === 'task') return { kind, key, value: taskOf(view, nodeId, task ?? view.tasks.get(key)) };
  if (kind === 'network') return { kind, key, value: networkOf(view, nodeId, key) };
  if (kind === 'secret') return { kind, key, value: payloadOf(view, nodeId, kind, key) };
  if (kind === 'config') return { kind, key, value: payloadOf(view, nodeId, kind, key) };
  if (kind === 'attachment') return { kind, key, value: attachmentOf(view, nodeId, key) };
  const networkId = key.slice(0, key.indexOf('/'));
  const id = key.slice(networkId.length + 1);
  const seen = hasGateway(view, nodeId, networkId);
  if (kind === 'peer') return { kind, key, value: seen && id !== nodeId ? peerOf(view, networkId, id) : null };
  if (kind === 'endpoint') return { kind, key, value: seen ? endpointOf(view, networkId, id) : null };
  return { kind, key, value: seen ? serviceOf(view, networkId, id) : null };
}

/**
 * Calls `mark` for every fact of every node that these events may have changed. `view` is the state after them.
 * The cost follows the events and the nodes that have to hear of them.
 */
export function markAffected(
  events: readonly Event[],
  view: View,
  mark: (nodeId: string, fact: FactKey) => void,
): void {
  const marks: Marks = { shared: new Map(), moved: new Map(), own: mark };
  for (const event of events) {
    if (event.table === 'tasks') {
      // Before the task: see payload-facts.ts.
      if (taskMoved(event.before, event.after)) markPayloadsOf(event, view, events, mark);
      markTask(event.before, event.after, marks);
    } else if (event.table === 'secrets') markPayload('secret', event.before, event.after, view, mark);
    else if (event.table === 'configs') markPayload('config', event.before, event.after, view, mark);
    else if (event.table === 'nodes') markNode(event.before, event.after, view, marks);
    else if (event.table === 'services') markService(event.before, event.after, view, marks);
    else if (event.table === 'attachments') {
      markAttachment(event.before, event.after, {
        own: mark,
        shared: (networkId, fact) => add(marks.shared, networkId, fact),
      });
    } else if (event.table === 'networks') {
      const id = (event.after ?? event.before)!.id;
      add(marks.shared, id, `network ${id}`);
      const allocated = event.after?.allocation !== undefined;
      if (allocated === (event.before?.allocation !== undefined)) continue;
      for (const node of view.nodes.by('network', id)) add(marks.moved, id, node.id);
    }
    // Clusters: what facts take from them is fixed at init. Service specs: are there before their tasks, and longer.
  }
  for (const [networkId, nodes] of marks.moved) {
    const facts = [...factsOfNetwork(view, networkId)];
    for (const nodeId of nodes) for (const fact of facts) mark(nodeId, fact);
  }
  for (const [networkId, facts] of marks.shared) {
    // Who left the network in these very events is no longer found by the index, but still has to forget.
    const nodes = new Set(marks.moved.get(networkId));
    for (const node of view.nodes.by('network', networkId)) nodes.add(node.id);
    for (const nodeId of nodes) for (const fact of facts) mark(nodeId, fact);
  }
}

interface Marks {
  /** Network → facts that all nodes in it share. */
  shared: Map<string, Set<FactKey>>;
  /** Network → nodes that came into it or left it. */
  moved: Map<string, Set<string>>;
  own: (nodeId: string, fact: FactKey) => void;
}

function markPayloadsOf(
  { before, after }: { before?: Task; after?: Task },
  view: View,
  events: readonly Event[],
  mark: Marks['own'],
): void {
  for (const task of [before, after]) {
    if (task === undefined || task.nodeId === '') continue;
    // What it referred to has not moved: it is marked with where the task is now.
    if (task === before && after?.nodeId === task.nodeId && after.specVersion === task.specVersion) continue;
    for (const fact of payloadFactsOf(view, task, events)) mark(task.nodeId, fact);
  }
}

function markTask(before: Task | undefined, after: Task | undefined, marks: Marks): void {
  const id = (after ?? before)!.id;
  if (taskMoved(before, after)) {
    if (before?.nodeId) marks.own(before.nodeId, `task ${id}`);
    if (after?.nodeId && after.nodeId !== before?.nodeId) marks.own(after.nodeId, `task ${id}`);
  }
  if (endpointMoved(before, after)) {
    for (const task of [before, after]) {
      for (const { networkId } of task?.networks ?? []) add(marks.shared, networkId, `endpoint ${networkId}/${id}`);
    }
  }
}

/** Whether the agent has to hear of it: anything but the status, or a status that decides whether it sees the task. */
function taskMoved(before: Task | undefined, after: Task | undefined): boolean {
  if (before === undefined || after === undefined) return true;
  return (
    before.nodeId !== after.nodeId ||
    before.desiredState !== after.desiredState ||
    before.specVersion !== after.specVersion ||
    before.networks !== after.networks ||
    isAssigned(before) !== isAssigned(after) ||
    isTerminal(before.status.state) !== isTerminal(after.status.state)
  );
}

function endpointMoved(before: Task | undefined, after: Task | undefined): boolean {
  const was = before !== undefined && hasEndpoint(before);
  const is = after !== undefined && hasEndpoint(after);
  if (!was || !is) return was !== is;
  return before.nodeId !== after.nodeId || before.networks !== after.networks || isServing(before) !== isServing(after);
}

function markNode(before: Node | undefined, after: Node | undefined, view: View, marks: Marks): void {
  const id = (after ?? before)!.id;
  const networks = new Set([...Object.keys(before?.gateways ?? {}), ...Object.keys(after?.gateways ?? {})]);
  const appeared = (before === undefined) !== (after === undefined);
  const address = before?.description?.dataPathAddress !== after?.description?.dataPathAddress;
  let gateways = false;
  for (const networkId of networks) {
    const gateway = before?.gateways[networkId] !== after?.gateways[networkId];
    if (gateway || address) add(marks.shared, networkId, `peer ${networkId}/${id}`);
    if (gateway) add(marks.moved, networkId, id);
    gateways ||= gateway;
  }
  const presence = (before?.status.state === 'down') !== (after?.status.state === 'down');
  if (gateways || address || appeared || presence) {
    for (const row of view.attachments.by('node', id)) {
      marks.own(id, `attachment ${row.id}`);
      add(marks.shared, row.networkId, `endpoint ${row.networkId}/${row.id}`);
    }
  }
  if (!gateways && !address && !appeared) return;
  for (const task of view.tasks.by('node', id)) {
    if (appeared) for (const fact of payloadFactsOf(view, task)) marks.own(id, fact);
    marks.own(id, `task ${task.id}`);
    for (const { networkId } of task.networks) add(marks.shared, networkId, `endpoint ${networkId}/${task.id}`);
  }
}

function markService(before: Service | undefined, after: Service | undefined, view: View, marks: Marks): void {
  if (before?.spec === after?.spec && before?.endpoint === after?.endpoint) return;
  const drain = (service: Service | undefined) => service && drainMsOf(service.spec.Labels);
  if (drain(before) !== drain(after)) {
    for (const { id, nodeId } of view.tasks.by('service', (after ?? before)!.id))
      if (nodeId !== '') marks.own(nodeId, `task ${id}`);
  }
  for (const service of [before, after]) {
    if (service === undefined) continue;
    const networks = [
      ...attachmentsOf(service).map((attachment) => attachment.Target),
      ...(service.endpoint?.virtualIps ?? []).map((vip) => vip.networkId),
    ];
    for (const networkId of networks) add(marks.shared, networkId, `service ${networkId}/${service.id}`);
  }
}

function* factsOfNetwork(view: View, networkId: string): Iterable<FactKey> {
  yield `network ${networkId}`;
  for (const service of view.services.by('network', networkId)) yield `service ${networkId}/${service.id}`;
  for (const service of view.services.by('vip', networkId)) yield `service ${networkId}/${service.id}`;
  for (const node of view.nodes.by('network', networkId)) yield `peer ${networkId}/${node.id}`;
  for (const task of view.tasks.by('network', networkId))
    if (hasEndpoint(task)) yield `endpoint ${networkId}/${task.id}`;
  for (const { id } of view.attachments.by('network', networkId)) yield `endpoint ${networkId}/${id}`;
}

function taskOf(view: View, nodeId: string, task: Task | undefined): TaskAssignment | null {
  const node = view.nodes.get(nodeId);
  if (task === undefined || node === undefined || task.nodeId !== nodeId || !isAssigned(task)) return null;
  // A task that has ended needs no network any more, and is kept for its logs although the gateway may be gone.
  const reachable = task.networks.every((network) => node.gateways[network.networkId] !== undefined);
  if (!reachable && !isTerminal(task.status.state)) return null;
  const service = view.services.get(task.serviceId);
  const spec = specOf(view, task, service);
  if (spec === undefined) return null; // The reaper removes a version only after its last task.
  const fact: TaskAssignment = {
    id: task.id,
    environment: task.environment,
    serviceId: task.serviceId,
    serviceName: task.serviceName,
    serviceLabels: spec.Labels,
    slot: task.slot,
    nodeId,
    desiredState: task.desiredState,
    // What the service says now: whoever changes it has the next stop in mind, not the next task.
    drainMs: drainMsOf((service?.spec ?? spec).Labels),
    spec: withLogDriver(view, spec.TaskTemplate),
    networks: task.networks,
    hostPorts: hostPortsOf(spec),
    status: task.status,
  };
  if (task.jobIteration !== undefined) fact.jobIteration = task.jobIteration;
  if (task.genericResources !== undefined) fact.genericResources = task.genericResources;
  return fact;
}

function hostPortsOf({ EndpointSpec }: ServiceSpec): EndpointPort[] {
  return (EndpointSpec?.Ports ?? [])
    .filter((port) => port.PublishMode === 'host')
    .map((port) => ({
      name: port.Name,
      protocol: port.Protocol ?? 'tcp',
      targetPort: port.TargetPort ?? 0,
      publishedPort: port.PublishedPort ?? 0,
      publishMode: 'host',
    }));
}

/** The cluster's log driver (`TaskDefaults`) for a task whose service names none. It counts when the container is made. */
function withLogDriver(view: View, spec: TaskSpec): TaskSpec {
  const LogDriver = view.clusters.get(CLUSTER_ROW)?.spec.TaskDefaults.LogDriver;
  if (spec.LogDriver !== undefined || LogDriver === undefined) return spec;
  const known = withDriver.get(spec);
  if (known?.LogDriver === LogDriver) return known;
  const given = { ...spec, LogDriver };
  withDriver.set(spec, given);
  return given;
}

/** Specs that got the cluster's log driver: one object for all tasks of a version, so that it is written out once (fact-text.ts). */
const withDriver = new WeakMap<TaskSpec, TaskSpec>();

function networkOf(view: View, nodeId: string, networkId: string): NetworkAssignment | null {
  const network = view.networks.get(networkId);
  const gateway = view.nodes.get(nodeId)?.gateways[networkId];
  const cluster = view.clusters.get(CLUSTER_ROW);
  if (network?.allocation === undefined || gateway === undefined || cluster === undefined) return null;
  return {
    id: networkId,
    name: network.spec.Name,
    environment: network.environment,
    subnet: network.allocation.subnet,
    gateway,
    vni: network.allocation.vni,
    dataPathPort: cluster.dataPathPort,
    ingress: network.spec.Ingress,
    internal: network.spec.Internal,
    ...(network.spec.Attachable ? { attachable: true } : {}),
    labels: network.spec.Labels,
    options: network.spec.Options,
  };
}

function peerOf(view: View, networkId: string, nodeId: string): PeerAssignment | null {
  const node = view.nodes.get(nodeId);
  const gateway = node?.gateways[networkId];
  const dataPathAddress = node?.description?.dataPathAddress;
  if (gateway === undefined || dataPathAddress === undefined) return null;
  return { networkId, nodeId, gateway, dataPathAddress };
}

function endpointOf(view: View, networkId: string, taskId: string): EndpointAssignment | null {
  const task = view.tasks.get(taskId);
  if (task === undefined) return attachedEndpointOf(view, networkId, taskId);
  if (!hasEndpoint(task)) return null;
  const network = task.networks.find((candidate) => candidate.networkId === networkId);
  const dataPathAddress = view.nodes.get(task.nodeId)?.description?.dataPathAddress;
  if (network === undefined || dataPathAddress === undefined) return null;
  return {
    networkId,
    taskId,
    serviceId: task.serviceId,
    slot: task.slot,
    nodeId: task.nodeId,
    address: network.address,
    dataPathAddress,
    serving: isServing(task),
    aliases: network.aliases,
  };
}

function serviceOf(view: View, networkId: string, serviceId: string): ServiceAssignment | null {
  const service = view.services.get(serviceId);
  if (service?.endpoint === undefined) return null;
  const attachments = attachmentsOf(service).filter((attachment) => attachment.Target === networkId);
  const vip = service.endpoint.virtualIps.find((candidate) => candidate.networkId === networkId)?.address;
  if (attachments.length === 0 && vip === undefined) return null;
  const ingress = view.networks.get(networkId)?.spec.Ingress === true;
  return {
    networkId,
    serviceId,
    environment: service.environment,
    name: service.spec.Name,
    aliases: [...new Set(attachments.flatMap((attachment) => attachment.Aliases ?? []))],
    ...(vip === undefined ? {} : { vip }),
    ports: ingress ? service.endpoint.ports.filter((port) => port.publishMode === 'ingress') : [],
  };
}

function attachmentsOf(service: Service) {
  return service.spec.TaskTemplate.Networks ?? service.spec.Networks ?? [];
}

function hasGateway(view: View, nodeId: string, networkId: string): boolean {
  const gateway = view.nodes.get(nodeId)?.gateways[networkId];
  return gateway !== undefined && view.networks.get(networkId)?.allocation !== undefined;
}

function isAssigned(task: Task): boolean {
  return task.status.state >= TaskState.ASSIGNED;
}

function hasEndpoint(task: Task): boolean {
  return isAssigned(task) && !isTerminal(task.status.state) && task.nodeId !== '';
}

/** True while the task is to get connections. */
export function isServing(task: Task): boolean {
  return isBalanced(task) && task.desiredState <= TaskState.COMPLETE;
}

/** True for a task that gets connections as long as it is wanted: it runs, and is ready if it can say so. */
export function isBalanced({ status, networks }: Task): boolean {
  return status.state === TaskState.RUNNING && status.ready !== false && networks.length > 0;
}

function add<T>(map: Map<string, Set<T>>, key: string, value: T): void {
  const set = map.get(key);
  if (set === undefined) map.set(key, new Set([value]));
  else set.add(value);
}
