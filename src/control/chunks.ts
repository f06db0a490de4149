/** Many small changes as transactions of a bounded size: etcd takes 128 operations in one (decisions-and-traps.md, trap 8). */
import type { Store, Transaction } from '../store/store.ts';

/** Unless the caller says otherwise: each item may write two rows. */
const ITEMS_PER_TRANSACTION = 50;

/**
 * Calls `apply` once for each item, several items a transaction. The transactions are asked for at once, so that a
 * journal can make them durable together. `apply` must look anew at what its decision rests on: the state may have
 * moved since the items were chosen. Rejects with the first failure, after all transactions have ended.
 */
export async function updateInChunks<T>(
  store: Store,
  items: Iterable<T>,
  apply: (tx: Transaction, item: T) => void,
  itemsPerTransaction = ITEMS_PER_TRANSACTION,
): Promise<void> {
  const all = [...items];
  const writes: Promise<void>[] = [];
  for (let i = 0; i < all.length; i += itemsPerTransaction) {
    const chunk = all.slice(i, i + itemsPerTransaction);
    writes.push(
      store.update((tx) => {
        for (const item of chunk) apply(tx, item);
      }),
    );
  }
  const failure = (await Promise.allSettled(writes)).find((result) => result.status === 'rejected');
  if (failure !== undefined) throw failure.reason;
}
