/**
 * What the store says of the managers, kept true by the one that leads: who leads, who can be reached. A manager can be
 * reached while its member of the journal answers and its node is not down; of one that is not known yet, what was said of it
 * last stands. One that was demoted is taken out of the journal first, and then it is no manager any more.
 *
 * Keys: ids of nodes that are managers.
 */
import { Loop } from '../control/loop.ts';
import { timestamp, type Clock, type Log } from '../model/clock.ts';
import type { Node } from '../model/objects.ts';
import type { Store } from '../store/store.ts';

type ManagerStatus = NonNullable<Node['manager']>;

export interface ManagerRowsDeps {
  store: Store;
  clock: Clock;
  log: Log;
  /** The manager that leads: this one. */
  leaderId: string;
  /** Whether a manager's member of the journal answers; undefined: not asked yet. */
  answers: (nodeId: string) => boolean | undefined;
  /** Takes the member of one that is no manager any more out of the journal. Rejects while that would lose the quorum. */
  remove(node: { nodeId: string; address: string }): Promise<void>;
  /** This manager is to be one no more: another has to lead, and to take it out. */
  stepAside(): void;
}

/** What is to be said of a manager now; undefined if it is none, or is to be none any more. Pure. */
export function statusOf(node: Node, leaderId: string, answers: boolean | undefined): ManagerStatus | undefined {
  if (node.manager === undefined || node.spec.Role === 'worker') return undefined;
  const leader = node.id === leaderId;
  return { ...node.manager, leader, reachability: leader ? 'reachable' : reachability(node, node.manager, answers) };
}

function reachability(node: Node, said: ManagerStatus, answers: boolean | undefined): ManagerStatus['reachability'] {
  if (node.status.state === 'down' || answers === false) return 'unreachable';
  if (answers === true) return 'reachable';
  return said.reachability;
}

/** A loop whose `mark` is to be called when what `answers` says of a manager has changed. */
export function managerRowsLoop(deps: ManagerRowsDeps): Loop {
  const { store, clock, leaderId, answers } = deps;
  return new Loop(deps, {
    name: 'managers',

    *initial(view) {
      for (const node of view.nodes.all()) if (node.manager !== undefined) yield node.id;
    },

    affected(event, _, mark) {
      if (event.table !== 'nodes' || event.after?.manager === undefined) return;
      const { before, after } = event;
      const seen = before?.manager === after.manager && before?.status.state === after.status.state;
      if (!seen || before?.spec.Role !== after.spec.Role) mark(after.id);
    },

    async reconcile(keys) {
      const gone = new Set<string>();
      for (const { id, manager } of demoted(store, keys)) {
        if (id === leaderId) {
          deps.stepAside();
          continue;
        }
        await deps.remove({ nodeId: id, address: hostOf(manager.address) });
        gone.add(id);
      }
      await store.update((tx) => {
        const updatedAt = timestamp(clock.now());
        for (const id of keys) {
          const node = tx.nodes.get(id);
          if (node?.manager === undefined) continue;
          const { manager, ...worker } = node;
          const meta = { ...node.meta, updatedAt };
          const status = statusOf(node, leaderId, answers(id));
          if (status !== undefined && !same(status, manager)) tx.nodes.update({ ...node, manager: status, meta });
          else if (node.spec.Role === 'worker' && gone.has(id)) tx.nodes.update({ ...worker, meta });
        }
      });
    },
  });
}

/** Those of them that take part, and are not to any more. */
function demoted(store: Store, ids: Iterable<string>): (Node & { manager: ManagerStatus })[] {
  return store.view((view) =>
    [...ids].flatMap((id) => {
      const node = view.nodes.get(id);
      return node?.manager === undefined || node.spec.Role === 'manager' ? [] : [{ ...node, manager: node.manager }];
    }),
  );
}

function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':'));
}

function same(a: ManagerStatus, b: ManagerStatus | undefined): boolean {
  return a.address === b?.address && a.leader === b.leader && a.reachability === b.reachability;
}
