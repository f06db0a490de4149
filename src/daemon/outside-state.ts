/**
 * A manager's part in a state that lies in an etcd which stands elsewhere: nothing runs here for it, and nobody's vote counts.
 * Any one manager that reaches that etcd can lead. So that only managers do, who was demoted meanwhile has to be let in by the
 * leader again (`losePlace`): the fence cannot tell, because their way to that etcd is not ours to close.
 */
import { EtcdJournal } from '../journal/etcd/journal.ts';
import type { OutsideEtcd } from '../journal/etcd/outside.ts';
import type { KeyFile } from '../journal/key-file.ts';
import type { Peer } from '../journal/member/arguments.ts';
import { SealedSharedJournal } from '../journal/sealed-shared.ts';
import type { SharedJournal } from '../journal/shared.ts';
import type { Clock, Log, Random, Timer } from '../model/clock.ts';
import { isConfidential } from '../store/snapshot.ts';

export interface OutsideStateDeps {
  etcd: OutsideEtcd;
  clusterId: string;
  /** Is there once this manager was let in, or began the cluster. */
  keyFile: KeyFile;
  clock: Clock;
  random: Random;
  log: Log;
}

/** How often that etcd is asked whether it answers; only people are told. */
const PROBE_MS = 3_000;

export class OutsideState {
  readonly kind = 'elsewhere';
  readonly #deps: OutsideStateDeps;
  #placed: boolean;
  #journal: SharedJournal | undefined;
  #probe: Timer | undefined;
  #silent = false;

  constructor(deps: OutsideStateDeps) {
    this.#deps = deps;
    this.#placed = deps.keyFile.exists();
  }

  /** Asks the leader to be let in, unless it has done so. @throws EtcdUnfit if that etcd does not hold the cluster */
  async resume(ask: (peer?: Peer) => Promise<readonly Peer[]>): Promise<void> {
    await this.#deps.etcd.assertHolds(this.#deps.clusterId);
    if (this.#placed) return;
    await ask();
    this.#placed = true;
  }

  /** The leader has to let this manager in again. */
  losePlace(): void {
    this.#placed = false;
    this.#lookNoMore();
  }

  /** The caller closes it. */
  async journal(): Promise<SharedJournal> {
    const journal = await outsideJournal(this.#deps);
    this.#journal = journal;
    this.#lookLater(journal);
    return journal;
  }

  /** Its own certificate is not what this manager shows there. */
  useIdentity(): void {}

  /** What does not work, in words. */
  degraded(): string[] {
    return this.#silent ? [`${this.#deps.etcd.name}, which holds the swarm's state, does not answer this manager`] : [];
  }

  /** The journal is closed before. */
  async detach(): Promise<void> {
    this.#lookNoMore();
  }

  /** As `detach`: nothing there is this manager's own. */
  leave(): Promise<void> {
    return this.detach();
  }

  #lookNoMore(): void {
    this.#journal = undefined;
    this.#probe?.cancel();
    this.#silent = false;
  }

  #lookLater(journal: SharedJournal): void {
    this.#probe?.cancel();
    this.#probe = this.#deps.clock.after(PROBE_MS, () => void this.#look(journal));
  }

  /** Never rejects. */
  async #look(journal: SharedJournal): Promise<void> {
    const answers = await journal.hasQuorum();
    // Closed meanwhile, or another one was made.
    if (this.#journal !== journal) return;
    this.#silent = !answers;
    this.#lookLater(journal);
  }
}

/** The journal of a cluster in an etcd that stands elsewhere. The caller closes it. */
export async function outsideJournal({ etcd, keyFile, ...deps }: OutsideStateDeps): Promise<SharedJournal> {
  const api = await etcd.client();
  const { prefix } = etcd.settings;
  const log = deps.log.child({ room: 'journal' });
  const journal = new EtcdJournal({ ...deps, api, prefix, claimed: true, log });
  return new SealedSharedJournal({ journal, name: etcd.name, keyFile, isConfidential });
}
