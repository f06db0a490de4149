/**
 * The allocator: subnets for networks, endpoints for services, addresses for tasks (NEW → PENDING) and for single
 * containers, gateways for nodes. Promises: nothing is given twice; what goes is free again; what waits says why and goes on by itself when
 * what it lacks is there. Its cost follows what changed.
 */
import type { ContainerAttachment, Network, Service, Task } from '../../model/objects.ts';
import { timestamp } from '../../model/clock.ts';
import { TaskState } from '../../model/states.ts';
import type { Event, Transaction, View } from '../../store/store.ts';
import { Loop, type LoopDeps, type Mark } from '../loop.ts';
import { Books, SUBNETS, addressesOf, gatewaysOf } from './books.ts';
import {
  decideAttachment,
  decideGateways,
  decideTaskNetworks,
  endpointOf,
  isUnallocated,
  needsGateways,
  nodesAmiss,
  pendingStatus,
  sameGateways,
} from './decisions.ts';
import { decideEndpoint, type Missing } from './endpoint.ts';
import { Waiters } from './waiters.ts';

/** Objects a transaction looks at: etcd takes 128 operations in one. */
const CHUNK = 100;

/** Starts the allocator. One runs in a cluster, on the leader. `stop` resolves when it writes nothing more. */
export function startAllocator(deps: LoopDeps): { stop(): Promise<void> } {
  const allocator = new Allocator(deps);
  allocator.loop.start();
  return allocator.loop;
}

/** Kinds of keys, in the order they are dealt with: gateways before tasks, so that tasks do not take their addresses. */
type Kind = 'network' | 'service' | 'node' | 'task' | 'attachment' | 'freed';
const keyOf = (kind: Kind, id: string): string => `${kind}:${id}`;

export class Allocator {
  readonly loop: Loop;
  readonly books = new Books();
  readonly #deps: LoopDeps;
  readonly #waiters = new Waiters();

  constructor(deps: LoopDeps) {
    this.#deps = deps;
    this.loop = new Loop(deps, {
      name: 'allocator',
      initial: (view) => this.#initial(view),
      affected: (event, view, mark) => this.#affected(event, view, mark),
      reconcile: (keys) => this.#reconcile(keys),
    });
  }

  /** How many objects wait for something. */
  get waiting(): number {
    return this.#waiters.size;
  }

  *#initial(view: View): Iterable<string> {
    this.books.rebuild(view);
    for (const network of view.networks.all()) if (network.allocation === undefined) yield keyOf('network', network.id);
    for (const service of view.services.all()) yield keyOf('service', service.id);
    for (const nodeId of nodesAmiss(view, this.books.ingress)) yield keyOf('node', nodeId);
    for (const task of view.tasks.all()) {
      if (isUnallocated(task)) yield keyOf('task', task.id);
      if (isExplained(task)) yield keyOf('node', task.nodeId);
    }
    for (const attachment of view.attachments.all()) if (isOpen(attachment)) yield keyOf('attachment', attachment.id);
  }

  /** Moves the books on, too: it sees each event once, in order, before any later run. */
  #affected(event: Event, view: View, mark: Mark): void {
    for (const thing of this.books.apply(event, view)) this.#wake(thing, mark);
    switch (event.table) {
      case 'networks':
        if (event.before === undefined || event.after === undefined)
          mark(keyOf('network', (event.after ?? event.before)!.id));
        if (changesIngress(event.before, event.after))
          for (const node of view.nodes.all()) mark(keyOf('node', node.id));
        break;
      case 'nodes':
        if (event.before === undefined || event.after === undefined)
          mark(keyOf('node', (event.after ?? event.before)!.id));
        break;
      case 'services':
        if (event.before?.spec !== event.after?.spec) mark(keyOf('service', (event.after ?? event.before)!.id));
        if (isSettled(event.after) && !isSettled(event.before)) this.#wake(endpointOf(event.after!.id), mark);
        break;
      case 'tasks':
        taskKeys(event.before, event.after, mark);
        break;
      case 'attachments':
        attachmentKeys(event.before, event.after, mark);
        break;
      case 'clusters':
      case 'serviceSpecs':
      case 'stackDeploys':
      case 'stackRevisions':
        break;
    }
  }

  #wake(thing: string, mark: Mark): void {
    if (this.#waiters.has(thing)) mark(keyOf('freed', thing));
  }

  async #reconcile(keys: ReadonlySet<string>): Promise<void> {
    const work: Record<Exclude<Kind, 'freed'>, Set<string>> = {
      network: new Set(),
      service: new Set(),
      node: new Set(),
      task: new Set(),
      attachment: new Set(),
    };
    const freed: string[] = [];
    const sort = (key: string): void => {
      const at = key.indexOf(':');
      const kind = key.slice(0, at) as Kind;
      if (kind === 'freed') freed.push(key.slice(at + 1));
      else work[kind].add(key.slice(at + 1));
    };
    keys.forEach(sort);
    const woken = freed.map((thing) => ({ thing, keys: this.#waiters.first(thing, this.#supply(thing)) }));
    for (const { keys: some } of woken) some.forEach(sort);

    // Only what the journal has counts as a network that others can take addresses from.
    await this.#write([...work.network], (tx, id) => this.#allocateNetwork(tx, id));
    const writes = [
      this.#write([...work.service], (tx, id) => this.#allocateService(tx, id)),
      this.#write([...work.node], (tx, id) => this.#allocateGateways(tx, id)),
      this.#write([...work.task], (tx, id) => this.#allocateTask(tx, id)),
      this.#write([...work.attachment], (tx, id) => this.#allocateAttachment(tx, id)),
    ];
    const failed = (await Promise.allSettled(writes)).find((result) => result.status === 'rejected');
    if (failed !== undefined) {
      // What was taken for writes that did not come about has to be free again.
      this.#deps.store.view((view) => this.books.rebuild(view));
      throw failed.reason;
    }
    // Some who were woken may have had no need any more, or lack something else: what they left is for the next.
    for (const { thing, keys: some } of woken) {
      if (some.some((key) => !this.#waiters.waits(key, thing)) && this.#waiters.has(thing))
        this.loop.mark(keyOf('freed', thing));
    }
  }

  /** How many of those who wait for a thing it is worth to wake. */
  #supply(thing: string): number {
    for (const prefix of [addressesOf(''), gatewaysOf('')]) {
      if (thing.startsWith(prefix)) return this.books.free(thing.slice(prefix.length));
    }
    return Infinity;
  }

  async #write(ids: readonly string[], allocate: (tx: Transaction, id: string) => void): Promise<void> {
    const writes: Promise<void>[] = [];
    for (let at = 0; at < ids.length; at += CHUNK) {
      const chunk = ids.slice(at, at + CHUNK);
      writes.push(this.#deps.store.update((tx) => chunk.forEach((id) => allocate(tx, id))));
    }
    const failed = (await Promise.allSettled(writes)).find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  #allocateNetwork(tx: Transaction, id: string): void {
    const key = keyOf('network', id);
    this.#waiters.forget(key);
    const network = tx.networks.get(id);
    if (network === undefined || network.allocation !== undefined) return;
    const result = this.books.takeNetwork(network);
    const { allocationError, ...rest } = network;
    if ('allocation' in result) {
      tx.networks.update({ ...rest, allocation: result.allocation });
      return;
    }
    this.#waiters.wait(key, SUBNETS);
    if (allocationError !== result.error) tx.networks.update({ ...network, allocationError: result.error });
  }

  #allocateService(tx: Transaction, id: string): void {
    const key = keyOf('service', id);
    this.#waiters.forget(key);
    const service = tx.services.get(id);
    if (service === undefined) return;
    const result = decideEndpoint(service, tx, this.books);
    if ('error' in result) {
      this.#waiters.wait(key, result.thing);
      if (service.endpointError !== result.error) tx.services.update({ ...service, endpointError: result.error });
      return;
    }
    if (service.endpointError === undefined && JSON.stringify(service.endpoint) === JSON.stringify(result)) return;
    const { endpointError: _, ...rest } = service;
    const after = { ...rest, endpoint: result };
    this.books.claimService(after);
    tx.services.update(after);
  }

  #allocateTask(tx: Transaction, id: string): void {
    const key = keyOf('task', id);
    this.#waiters.forget(key);
    const task = tx.tasks.get(id);
    if (task === undefined || !isUnallocated(task)) return;
    const networks = decideTaskNetworks(task, tx, this.books);
    if (networks === undefined) return;
    if ('error' in networks) return this.#letWait(tx, task, networks);
    const now = timestamp(this.#deps.clock.now());
    const after: Task = { ...task, networks, status: pendingStatus(now), meta: { ...task.meta, updatedAt: now } };
    this.books.claimTask(after);
    tx.tasks.update(after);
  }

  #letWait(tx: Transaction, task: Task, { error, thing }: Missing): void {
    this.#waiters.wait(keyOf('task', task.id), thing);
    if (task.status.error !== error) tx.tasks.update({ ...task, status: { ...task.status, error } });
  }

  #allocateAttachment(tx: Transaction, id: string): void {
    const key = keyOf('attachment', id);
    this.#waiters.forget(key);
    const attachment = tx.attachments.get(id);
    if (attachment === undefined || !isOpen(attachment)) return;
    const result = decideAttachment(attachment, tx, this.books);
    if (result === undefined) {
      this.#waiters.wait(key, addressesOf(attachment.networkId));
      return;
    }
    tx.attachments.update({ ...attachment, ...result });
  }

  #allocateGateways(tx: Transaction, id: string): void {
    const key = keyOf('node', id);
    this.#waiters.forget(key);
    const node = tx.nodes.get(id);
    if (node === undefined) return;
    const tasks = tx.tasks.by('node', id);
    const attachments = tx.attachments.by('node', id);
    const { gateways, missing } = decideGateways(node, { tasks, attachments }, tx, this.books);
    if (missing[0] !== undefined) {
      this.#waiters.wait(key, gatewaysOf(missing[0].id));
      this.#deps.log.warn(
        { node: id, networks: missing.map((network) => network.spec.Name) },
        'no gateway address is free for a node',
      );
    }
    if (!sameGateways(node.gateways, gateways)) {
      const after = { ...node, gateways };
      this.books.claimNode(after);
      tx.nodes.update(after);
    }
    this.#explain(tx, tasks, missing);
  }

  /** Says on the tasks that cannot be sent to their node, while their agent does not know them yet, why so. */
  #explain(tx: Transaction, tasks: readonly Task[], missing: readonly Network[]): void {
    for (const task of tasks) {
      if (task.status.state !== TaskState.ASSIGNED) continue;
      const network = missing.find((candidate) => task.networks.some(({ networkId }) => networkId === candidate.id));
      const error = network && `${this.books.whyNoAddress(network)}, and the task's node has none there yet`;
      if (task.status.error === error) continue;
      const { error: _, ...status } = task.status;
      tx.tasks.update({ ...task, status: error === undefined ? status : { ...status, error } });
    }
  }
}

/** True for a task on its way to a node that was said to have no gateway for it: perhaps it has one by now. */
function isExplained({ status }: Task): boolean {
  return status.state === TaskState.ASSIGNED && status.error !== undefined;
}

/** True until it was decided whether the container gets its address. */
function isOpen({ address, error }: ContainerAttachment): boolean {
  return address === undefined && error === undefined;
}

/** A container that wants its address; and its node, whose gateways it changes by coming, being refused, and going. */
function attachmentKeys(
  before: ContainerAttachment | undefined,
  after: ContainerAttachment | undefined,
  mark: Mark,
): void {
  const { id, nodeId } = (after ?? before)!;
  if (after !== undefined && isOpen(after)) mark(keyOf('attachment', id));
  const had = before !== undefined && before.error === undefined;
  const has = after !== undefined && after.error === undefined;
  if (had !== has) mark(keyOf('node', nodeId));
}

/** A service whose tasks can have their addresses. */
function isSettled(service: Service | undefined): boolean {
  return service?.endpoint !== undefined && service.endpointError === undefined;
}

function changesIngress(before: Network | undefined, after: Network | undefined): boolean {
  return (before ?? after)!.spec.Ingress && (before?.allocation === undefined) !== (after?.allocation === undefined);
}

/** A task that came, went or changed its mind while unallocated; and the nodes whose gateways it changes. */
function taskKeys(before: Task | undefined, after: Task | undefined, mark: Mark): void {
  const waits = before !== undefined && isUnallocated(before);
  const wants = after !== undefined && isUnallocated(after);
  if (waits !== wants && (wants || before?.status.state === after?.status.state || after === undefined)) {
    mark(keyOf('task', (after ?? before)!.id));
  }
  const had = before !== undefined && needsGateways(before);
  const has = after !== undefined && needsGateways(after);
  if (had === has) return;
  const { networks, nodeId } = has ? after : before!;
  if (networks.length > 0) mark(keyOf('node', nodeId));
}
