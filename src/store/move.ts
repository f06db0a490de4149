/**
 * The rows of a state on their way into another journal. What an earlier try, broken off, has left there is found and
 * made right, so that the journal holds these rows and no others when `copyInto` resolves.
 */
import type { Change, Journal } from '../journal/journal.ts';

/** What a keeper surely takes in one transaction: etcd, 128 operations and 1.5 MiB. */
const TRANSACTION = { rows: 64, bytes: 512 * 1024 };
/** How many transactions are under way at a time: their rows, written out, are in memory. */
const TRANSACTIONS_AT_ONCE = 16;

/**
 * Makes `journal` hold exactly `rows`, in small transactions; the last row given is written last. Rejects with what the
 * journal says when it takes no more; what it holds then is of no use until another try has come to its end.
 */
export async function copyInto(journal: Journal, rows: Iterable<{ key: string; value: string }>): Promise<void> {
  const left = await journal.load();
  let transactions: Change[][] = [];
  for (const transaction of inTransactions(changesTo(left, rows))) {
    transactions.push(transaction);
    if (transactions.length < TRANSACTIONS_AT_ONCE) continue;
    await journal.commit(transactions);
    transactions = [];
  }
  if (transactions.length > 0) await journal.commit(transactions);
}

/** What is to be written so that what is `left` becomes `rows`. Consumes `left`. */
function* changesTo(left: Map<string, string>, rows: Iterable<{ key: string; value: string }>): Generator<Change> {
  let last: Change | undefined;
  for (const row of rows) {
    if (last !== undefined) yield last;
    last = undefined;
    const same = left.get(row.key) === row.value;
    left.delete(row.key);
    if (!same) last = row;
  }
  for (const key of left.keys()) yield { key, value: null };
  if (last !== undefined) yield last;
}

function* inTransactions(changes: Iterable<Change>): Generator<Change[]> {
  let transaction: Change[] = [];
  let bytes = 0;
  for (const change of changes) {
    const more = Buffer.byteLength(change.key) + Buffer.byteLength(change.value ?? '');
    if (transaction.length === TRANSACTION.rows || (transaction.length > 0 && bytes + more > TRANSACTION.bytes)) {
      yield transaction;
      transaction = [];
      bytes = 0;
    }
    transaction.push(change);
    bytes += more;
  }
  if (transaction.length > 0) yield transaction;
}
