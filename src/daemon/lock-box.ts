/**
 * Keeps a manager's key file locked as the cluster says (`--autolock`): with its unlock key, with another one after that was
 * rotated, or not at all. The file is replaced before the update that changes the lock resolves; until then the lock of
 * before opens it, so a crash in between leaves a file that somebody has the key of, and the next start goes on.
 */
import type { KeyFile } from '../journal/key-file.ts';
import type { Clock, Log, Timer } from '../model/clock.ts';
import { CLUSTER_ROW } from '../model/objects.ts';
import { parseUnlockKey } from '../pki/unlock-key.ts';
import type { Store, View } from '../store/store.ts';

export interface LockBoxDeps {
  store: Store;
  keyFile: KeyFile;
  clock: Clock;
  log: Log;
}

/** A disk that is full now may have room then. */
const RETRY_MS = 5_000;

export class LockBox {
  readonly #deps: LockBoxDeps;
  #stopWatch: (() => void) | undefined;
  #retry: Timer | undefined;
  #trouble = '';

  constructor(deps: LockBoxDeps) {
    this.#deps = deps;
  }

  start(): void {
    const { result, stop } = this.#deps.store.viewAndWatch(clusterIn, (events) => {
      if (events.some(({ table }) => table === 'clusters')) this.#look(this.#deps.store.view(clusterIn));
    });
    this.#stopWatch = stop;
    this.#look(result);
  }

  stop(): void {
    this.#stopWatch?.();
    this.#retry?.cancel();
  }

  /** Why the key file is not locked as the cluster says, in words; '' if it is. */
  trouble(): string {
    return this.#trouble;
  }

  /** Called by the store, which an error would end: whatever fails is tried again later. */
  #look(cluster: ReturnType<typeof clusterIn>): void {
    this.#retry?.cancel();
    // A store that follows knows nothing at first: that is no word against a lock.
    if (cluster === undefined) return;
    const { keyFile, clock, log } = this.#deps;
    try {
      const unlockKey = cluster.unlockKey === undefined ? undefined : parseUnlockKey(cluster.unlockKey);
      if (!keyFile.isLockedWith(unlockKey)) {
        keyFile.lockWith(unlockKey);
        log.info({ file: keyFile.path, locked: unlockKey !== undefined }, 'the lock of the key file was changed');
      }
      this.#trouble = '';
    } catch (error) {
      this.#trouble = (error as Error).message;
      log.error({ err: error, file: keyFile.path }, 'the lock of the key file cannot be changed now');
      this.#retry = clock.after(RETRY_MS, () => this.#look(this.#deps.store.view(clusterIn)));
    }
  }
}

function clusterIn(view: View) {
  return view.clusters.get(CLUSTER_ROW);
}
