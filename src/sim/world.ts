/**
 * A whole cluster in one process, from one seed: managers, hosts with agents and engines, the network between them, users, and
 * what goes wrong. `simulate` runs it and says what it found; the same scenario gives the same run, to the last event.
 */
import type { ClientHttp2Session } from 'node:http2';
import { silentLog, type Log } from '../model/clock.ts';
import type { TaskAssignment } from '../model/assignments.ts';
import type { Store, View } from '../store/store.ts';
import { dial, type Wire } from './connection.ts';
import { Disk } from './crash-journal.ts';
import { EventLoop } from './event-loop.ts';
import { Ledger } from './invariants/acknowledged.ts';
import { Committed } from './invariants/committed.ts';
import { notAtRest } from './invariants/rest.ts';
import { runsBesides } from './invariants/slots.ts';
import { ManagerHost, type Keeper, type ManagerHostDeps, type PlantedBug } from './manager-host.ts';
import { Network } from './network.ts';
import { NodeHost } from './node-host.ts';
import type { Process } from './process.ts';
import type { Users } from './requests.ts';
import { Chance } from './seeded.ts';
import { Cluster } from './shared-journal.ts';

/** What is wrong. The run ends with the first one. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

export interface WorldOptions {
  seed: number;
  users: Users;
  managers: number;
  nodes: number;
  log?: Log;
  planted?: PlantedBug;
}

/** Users wait so long for an answer; then they do not know. */
const LEAVE_MS = 1_000;
/** By then a manager leads. */
const BEGIN_MS = 1_000;
const REQUEST_MS = { leastMs: 1, mostMs: 20 };

export class World {
  readonly loop = new EventLoop();
  readonly chance: Chance;
  readonly network: Network;
  readonly managers: ManagerHost[] = [];
  readonly nodes: NodeHost[] = [];
  /** Of the one manager that has its state to itself. */
  readonly disks: Disk[] = [];
  /** What several managers share. */
  cluster: Cluster | undefined;
  readonly wires = new Set<Wire>();
  readonly ledger = new Ledger();
  readonly committed: Committed;
  readonly log: Log;
  readonly #users: Users;
  #violation: Violation | undefined;

  constructor(options: WorldOptions) {
    const { seed, users, log = silentLog } = options;
    this.chance = new Chance(seed);
    this.log = log;
    this.#users = users;
    this.network = new Network(this.loop, this.chance.of('network'));
    this.committed = new Committed(
      () => this.loop.now,
      (message) => this.violated(message),
    );
    this.#addManagers(options);
    for (let number = 1; number <= options.nodes; number++) this.#addNode(number);
  }

  /** Writes the first rows and starts everything. */
  async begin(): Promise<void> {
    for (const manager of this.managers) manager.start();
    await this.run(BEGIN_MS);
    const nodes = this.nodes.map(({ nodeId, address }) => ({ id: nodeId, address }));
    const first = this.leader;
    if (first === undefined) throw new Violation('no manager leads after some seconds without faults');
    const begun = first.write((tx) => this.#users.begin(tx, nodes));
    await this.run(100);
    await begun;
    for (const node of this.nodes) node.start();
    this.#watchRemoved();
  }

  /** Lets time pass. @throws Violation */
  async run(ms: number): Promise<void> {
    await this.loop.run(ms, () => {
      if (this.#violation !== undefined) throw this.#violation;
    });
    if (this.#violation !== undefined) throw this.#violation;
  }

  /** The manager that leads and is awake; of several that believe so, the one that showed the newest state. */
  get leader(): ManagerHost | undefined {
    const leading = this.managers.filter(({ leading: store, process }) => store !== undefined && process.running);
    return leading.find(({ leading: store }) => store === this.committed.newest) ?? leading[0];
  }

  /** A user asks for something, number `write`; the answer is awaited in the background. */
  ask(write: number): void {
    const chance = this.chance.of(`request ${write}`);
    // Some users ask a manager that leads no more and does not know.
    const leader = chance.happens(0.2) ? this.managers.find(({ leading }) => leading !== undefined) : this.leader;
    const store = leader?.leading;
    if (leader === undefined || store === undefined) return;
    const request = store.view((view) => this.#users.next(view, chance, write));
    if (request === undefined) return;
    const { what, subject, removes, label = write } = request;
    const delayMs = () => chance.between(REQUEST_MS.leastMs, REQUEST_MS.mostMs);
    this.loop.after(delayMs(), 'request', () => {
      if (removes) this.ledger.removing(subject);
      const { process } = leader;
      process.take(() => {
        leader
          .write((tx) => request.write(tx))
          .then(
            (index) =>
              this.loop.after(delayMs(), 'answer', () => {
                this.say(`write ${write} is done in transaction ${index}: ${what}`);
                this.ledger.done(subject, { index, write: label, removed: removes });
              }),
            (error: Error) => this.say(`write ${write} is refused (${error.message}): ${what}`),
          );
      });
    });
  }

  /** Why the cluster is not what was declared, if it is not. */
  notAtRest(): string | undefined {
    const store = this.leader?.leading;
    if (store === undefined) return 'no manager leads';
    const lost = store.view((view) => this.ledger.lost(view, store.index));
    if (lost !== undefined) this.violated(lost);
    const running = new Map(this.nodes.map((node) => [node.nodeId, node.engine.running()]));
    return store.view((view) => notAtRest(view, running));
  }

  view<R>(fn: (view: View) => R): R | undefined {
    return this.leader?.leading?.view(fn);
  }

  /** Something is wrong: the run ends after this event. */
  violated(message: string): void {
    this.say(`VIOLATION ${message}`);
    this.#violation ??= new Violation(message);
  }

  /** A line of the story, for the trace and for whoever reads along. */
  say(line: string): void {
    this.loop.note(line);
    this.log.info({ atMs: Math.round(this.loop.now) }, line);
  }

  #addManagers({ managers, planted }: WorldOptions): void {
    const keeper = this.#keeper(managers, planted);
    for (let number = 1; number <= managers; number++)
      this.managers.push(
        new ManagerHost({ ...this.#managerDeps(number), keeper, ...(planted === undefined ? {} : { planted }) }),
      );
  }

  #keeper(managers: number, planted: PlantedBug | undefined): Keeper {
    if (managers === 1) {
      const disk = new Disk(this.chance.of('disk'));
      this.disks.push(disk);
      return { kind: 'own', disk };
    }
    const clock = { after: (delayMs: number, fn: () => void) => this.loop.after(delayMs, 'etcd', fn) };
    this.cluster = new Cluster({ clock, random: this.chance.of('etcd').random });
    planted?.keeper?.(this.cluster);
    return { kind: 'shared', cluster: this.cluster };
  }

  #managerDeps(number: number): Omit<ManagerHostDeps, 'keeper'> {
    return {
      loop: this.loop,
      chance: this.chance.of(`manager ${number}`),
      log: this.log,
      name: `m${number}`,
      address: `10.77.0.${number}:2377`,
      managers: () => this.managers.map(({ name, address }) => ({ nodeId: name, address })),
      opened: (store) => this.committed.watch(store),
      leads: (store) => this.#leads(store),
    };
  }

  /** Whoever runs a host that was removed lets it leave, in time. */
  #watchRemoved(): void {
    // What its engine cannot be asked for now is asked for next time.
    for (const node of this.nodes) if (node.removed && !node.engine.engine.isAway) node.leave();
    this.loop.after(LEAVE_MS, 'leaving', () => this.#watchRemoved());
  }

  #leads(store: Store): void {
    this.committed.leads(store);
    const lost = store.view((view) => this.ledger.lost(view, store.index));
    if (lost !== undefined) this.violated(lost);
  }

  #addNode(number: number): void {
    const chance = this.chance.of(`node ${number}`);
    this.nodes.push(
      new NodeHost({
        loop: this.loop,
        chance,
        log: this.log,
        nodeId: `node${number}`,
        hostname: `w${number}`,
        number,
        resources: { nanoCpus: chance.pick([4, 6, 8]) * 1e9, memoryBytes: 16e9 },
        managers: this.managers.map(({ address }) => address),
        dial: (address, from) => this.#dial(address, from),
        started: (task) => this.#started(task),
      }),
    );
  }

  #dial(address: string, from: NodeHost): ClientHttp2Session {
    const manager = this.managers.find((each) => each.address === address)!;
    const peer = (host: NodeHost | ManagerHost, process: Process) => ({
      host: host.name,
      process,
      isOn: () => host.isOn,
    });
    const { nodeId, address: peerAddress } = from;
    return dial(
      {
        network: this.network,
        client: peer(from, from.process),
        serverHost: manager.name,
        server: () => {
          if (!manager.isOn) return undefined;
          const { accept } = manager;
          return {
            peer: peer(manager, manager.process),
            accept: accept && ((stream) => accept(stream, nodeId, peerAddress)),
          };
        },
      },
      (wire) => this.wires.add(wire),
    );
  }

  #started(task: TaskAssignment): void {
    const others = this.nodes.flatMap(({ engine }) => engine.running());
    const { committed, loop } = this;
    const store = committed.newest;
    const wrong = store?.view((view) => runsBesides(view, committed, task, others, loop.now));
    if (wrong !== undefined) this.violated(wrong);
  }
}
