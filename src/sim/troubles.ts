/** Lets a planned fault happen to a world, and ends it when its time is over. */
import type { PlannedFault } from './faults.ts';
import { faultText } from './faults.ts';
import type { JournalLink } from './manager-host.ts';
import type { World } from './world.ts';

/** What is slow while a disk is. */
const SLOW_SYNC = { leastMs: 100, mostMs: 1_500 };
/** What is asked of the journal may arrive after whoever asked has given up. */
const LATE = { leastMs: 1, mostMs: 6_000, requestLost: 0, answerLost: 0 };
const SLOW_NETWORK = { leastMs: 20, mostMs: 400 };

/** Faults that are under way: what one of them holds, another must not let go. */
export class Troubles {
  readonly #world: World;
  /** By what is held: how often. */
  readonly #held = new Map<string, number>();

  constructor(world: World) {
    this.#world = world;
  }

  plan(faults: readonly PlannedFault[]): void {
    const { loop } = this.#world;
    for (const fault of faults)
      loop.after(fault.atMs - loop.now, 'fault', () => {
        this.#world.say(faultText(fault));
        this.#begin(fault);
      });
  }

  #begin(fault: PlannedFault): void {
    const { managers, nodes, disks, network, wires } = this.#world;
    const { target, forMs } = fault;
    const manager = managers[target % managers.length]!;
    const node = nodes[target % nodes.length]!;
    const disk = disks[target % Math.max(1, disks.length)];
    const hold = (what: string, begin: () => void, end: () => void) =>
      this.#hold(`${what} ${target}`, forMs, begin, end);
    switch (fault.kind) {
      case 'manager killed':
        manager.kill();
        this.#later(forMs, () => manager.start());
        break;
      case 'manager stopped':
        void manager.stop();
        this.#later(Math.max(forMs, 6_000), () => {
          // One that does not end in time is ended.
          manager.kill();
          manager.start();
        });
        break;
      case 'manager paused':
        this.#pause(manager, forMs);
        break;
      case 'manager without power':
        hold(
          'power of manager',
          () => manager.powerCut(),
          () => manager.powerOn(),
        );
        break;
      case 'disk full':
        hold(
          'room on disk',
          () => disk && (disk.full = true),
          () => disk && (disk.full = false),
        );
        break;
      case 'disk failing':
        if (disk !== undefined) disk.failsNext = true;
        break;
      case 'disk slow': {
        const usual = { leastMs: 0.5, mostMs: 8 };
        hold(
          'speed of disk',
          () => disk && (disk.sync = SLOW_SYNC),
          () => disk && (disk.sync = usual),
        );
        break;
      }
      case 'node killed':
        node.process.kill();
        this.#later(forMs, () => node.start());
        break;
      case 'node stopped':
        void node.stop();
        this.#later(Math.max(forMs, 2_000), () => {
          node.process.kill();
          node.start();
        });
        break;
      case 'node paused':
        this.#pause(node, forMs);
        break;
      case 'node without power':
        hold(
          'power of node',
          () => node.powerCut(),
          () => node.powerOn(),
        );
        break;
      case 'engine away':
        hold(
          'engine',
          () => node.engine.engine.goAway(),
          () => node.isOn && node.engine.engine.comeBack(),
        );
        break;
      case 'engine troubled':
        hold(
          'engine health',
          () => (node.engine.troubled = true),
          () => (node.engine.troubled = false),
        );
        break;
      case 'container dies':
        node.engine.someContainerDies(this.#world.chance);
        break;
      case 'clock jumps':
        [...managers, ...nodes][target % (managers.length + nodes.length)]!.time.epochMs += fault.byMs;
        if (target % (managers.length + nodes.length) < managers.length)
          this.#world.committed.clockJumpedAt = this.#world.loop.now;
        break;
      case 'cut off':
      case 'cut one way':
        this.#cut(fault);
        break;
      case 'connections reset':
        for (const wire of wires) if (wire.hosts[0] === node.name) wire.reset();
        break;
      case 'network slow': {
        const usual = { leastMs: 0.2, mostMs: 3 };
        hold(
          'network',
          () => (network.latency = SLOW_NETWORK),
          () => (network.latency = usual),
        );
        break;
      }
      default:
        this.#troubleJournal(fault);
    }
  }

  #troubleJournal({ kind, target, forMs }: PlannedFault): void {
    const { cluster, managers } = this.#world;
    const manager = managers[target % managers.length]!;
    const link = (during: JournalLink, usual: JournalLink) =>
      this.#hold(
        `${kind} of ${manager.name}`,
        forMs,
        () => manager.reachJournal(during),
        () => manager.reachJournal(usual),
      );
    if (kind === 'journal without quorum')
      this.#hold(
        kind,
        forMs,
        () => cluster?.loseQuorum(),
        () => cluster?.regainQuorum(),
      );
    else if (kind === 'journal compacted') cluster?.compact();
    else if (kind === 'journal late') link({ faults: LATE }, { faults: undefined });
    else if (kind === 'journal answers lost') link({ deaf: true }, { deaf: false });
    else if (kind === 'journal cut off') link({ cut: true }, { cut: false });
  }

  /** One host cannot reach the others any more, or is not heard by them. */
  #cut({ kind, target, forMs }: PlannedFault): void {
    const { network, managers, nodes } = this.#world;
    const hosts = [...managers, ...nodes];
    const { name } = hosts[target % hosts.length]!;
    const isOneWay = kind === 'cut one way';
    const manager = managers[target % hosts.length];
    // A majority of the journal's members is elsewhere.
    if (manager !== undefined) {
      const isDeaf = isOneWay && target % 2 !== 0;
      const during = isDeaf ? { deaf: true } : { cut: true };
      const usual = isDeaf ? { deaf: false } : { cut: false };
      const what = isDeaf ? 'journal answers lost' : 'journal cut off';
      this.#hold(
        `${what} of ${name}`,
        forMs,
        () => manager.reachJournal(during),
        () => manager.reachJournal(usual),
      );
    }
    for (const other of hosts) {
      if (other.name === name) continue;
      const ways: [string, string][] = isOneWay
        ? [target % 2 === 0 ? [name, other.name] : [other.name, name]]
        : [
            [name, other.name],
            [other.name, name],
          ];
      for (const [from, to] of ways)
        this.#hold(
          `${from}>${to}`,
          forMs,
          () => network.cut(from, to),
          () => network.mend(from, to),
        );
    }
  }

  #pause(host: World['managers'][number] | World['nodes'][number], forMs: number): void {
    this.#hold(
      `${host.name} awake`,
      forMs,
      () => host.process.pause(),
      () => host.process.resume(),
    );
  }

  /** While anybody holds it, it does not end. */
  #hold(what: string, forMs: number, begin: () => unknown, end: () => unknown): void {
    this.#held.set(what, (this.#held.get(what) ?? 0) + 1);
    begin();
    this.#later(forMs, () => {
      const left = this.#held.get(what)! - 1;
      this.#held.set(what, left);
      if (left === 0) end();
    });
  }

  #later(ms: number, fn: () => void): void {
    this.#world.loop.after(ms, 'fault ends', fn);
  }
}
