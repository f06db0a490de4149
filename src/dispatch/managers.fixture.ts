/** For tests with several managers: one journal in memory, of which one store leads and the others are replicas, each manager with its port. */
import type { Change, Journal } from '../journal/journal.ts';
import { NotLeading } from '../journal/shared.ts';
import type { NodeSpec } from '../model/specs.ts';
import { Store } from '../store/store.ts';
import type { DispatchOptions } from './server.ts';
import { manager, node, type Manager } from './testbed.fixture.ts';

/** What all managers share. Replication can be held up, as when a follower is behind. */
class Rows {
  readonly #rows = new Map<string, string>();
  readonly #replicas = new Set<Store>();
  #held: (() => void)[] | undefined;
  #stall = async (): Promise<void> => {};

  journalOf(store: Store): Journal {
    return {
      load: async () => new Map(this.#rows),
      commit: async (transactions) => {
        await this.#stall();
        if (!store.leading) throw new NotLeading('fenced');
        for (const changes of transactions) this.#apply(changes, store);
      },
      close: async () => {},
    };
  }

  follow(store: Store): void {
    this.#replicas.add(store);
    store.replace(this.#rows);
  }

  unfollow(store: Store): void {
    this.#replicas.delete(store);
  }

  stall(): Stalled {
    const [reached, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    this.#stall = async () => {
      reached.resolve();
      await go.promise;
    };
    return { reached: reached.promise, go: go.resolve };
  }

  hold(): void {
    this.#held ??= [];
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const tell of held) tell();
  }

  #apply(changes: readonly Change[], writer: Store): void {
    const copies = changes.map(({ key, value }) => ({ key, value }));
    for (const { key, value } of copies) {
      if (value === null) this.#rows.delete(key);
      else this.#rows.set(key, value);
    }
    for (const replica of this.#replicas) {
      if (replica === writer) continue;
      const tell = (): void => replica.apply(copies);
      if (this.#held === undefined) tell();
      else this.#held.push(tell);
    }
  }
}

export interface Stalled {
  /** Resolves when a write has come that far. */
  reached: Promise<void>;
  go(): void;
}

export interface Member extends Manager {
  nodeId: string;
}

export interface Managers {
  members: Member[];
  /** Ends the leading of whoever leads; nobody is known to lead then. */
  stepDown(): Promise<void>;
  /** Makes this one lead, and tells all of it; who led before steps down first. */
  elect(member: Member): Promise<void>;
  /** Replicas hear nothing until `release`. */
  hold(): void;
  release(): void;
  /** No write comes to its end until told to. */
  stall(): Stalled;
  setRole(nodeId: string, role: NodeSpec['Role']): Promise<void>;
  close(): Promise<void>;
}

/** `count` managers, the first of which leads. `options` are for each of them. */
export async function managers(
  count: number,
  options: (at: number) => Partial<DispatchOptions> = () => ({}),
): Promise<Managers> {
  const rows = new Rows();
  const members: Member[] = [];
  let leader: Member | undefined;

  const lead = (store: Store): void => {
    rows.unfollow(store);
    store.lead(rows.journalOf(store));
  };
  const stepDown = async (): Promise<void> => {
    const before = leader;
    leader = undefined;
    before?.server.follow();
    await before?.store.follow();
    if (before !== undefined) rows.follow(before.store);
    for (const { server } of members) server.leaderIs(undefined);
  };
  const tell = (): void => {
    for (const { server } of members) server.leaderIs(leader && { nodeId: leader.nodeId, address: leader.address });
  };

  for (let at = 0; at < count; at++) {
    const store = Store.replica();
    rows.follow(store);
    if (at === 0) lead(store);
    const identity = await members[0]?.certify('manager', false);
    const managersOf = () =>
      store.view((view) =>
        [...view.nodes.all()].flatMap(({ id, manager: status }) =>
          status === undefined ? [] : [{ nodeId: id, address: status.address }],
        ),
      );
    const made = await manager({ managers: managersOf, ...(identity && { identity }), ...options(at), store });
    const member = { ...made, nodeId: made.identity.nodeId };
    members.push(member);
    leader ??= member;
    await leader.store.update((tx) =>
      tx.nodes.create({
        ...node(member.nodeId),
        spec: { Labels: {}, Role: 'manager', Availability: 'active' },
        manager: { address: member.address, leader: member === leader, reachability: 'reachable' },
      }),
    );
  }
  tell();

  return {
    members,
    stepDown,
    async elect(member) {
      await stepDown();
      lead(member.store);
      leader = member;
      await member.server.lead();
      tell();
    },
    hold: () => rows.hold(),
    release: () => rows.release(),
    stall: () => rows.stall(),
    async setRole(nodeId, Role) {
      await leader!.store.update((tx) => {
        const row = tx.nodes.get(nodeId)!;
        tx.nodes.update({ ...row, spec: { ...row.spec, Role } });
      });
    },
    async close() {
      await Promise.all(members.map((member) => member.close()));
    },
  };
}
