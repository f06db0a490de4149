/**
 * What a manager runs besides the agent: the state with its journal, the port that nodes dial, and the control loops.
 * `open` fails as a whole or leaves all of it running; `close` ends it in the opposite order.
 */
import { join } from 'node:path';
import { rmSync } from 'node:fs';
import { startControl, type Control } from '../control/control.ts';
import { renew } from '../dispatch/join.ts';
import { DispatchServer } from '../dispatch/server.ts';
import type { Streams } from '../dispatch/streams.ts';
import type { Journal } from '../journal/journal.ts';
import { SealedJournal } from '../journal/sealed.ts';
import { SqliteJournal } from '../journal/sqlite.ts';
import { CLUSTER_ROW } from '../model/objects.ts';
import type { Clock, Log, Random } from '../model/clock.ts';
import type { Identity } from '../pki/identity.ts';
import type { TableName } from '../store/schema.ts';
import { Store } from '../store/store.ts';
import type { Membership } from './membership.ts';

export interface Surroundings {
  dataDir: string;
  clock: Clock;
  random: Random;
  log: Log;
}

const stateFile = (dataDir: string) => join(dataDir, 'state.db');
const keyFile = (dataDir: string) => join(dataDir, 'state.key');

/** The tables whose rows hold what nobody should read off a disk: keys, tokens, secrets, credentials of registries. */
const CONFIDENTIAL: ReadonlySet<string> = new Set<TableName>([
  'clusters',
  'secrets',
  'configs',
  'services',
  'serviceSpecs',
]);

/** The journal of a data directory, its confidential rows sealed with the key beside it. Throws JournalDamaged. */
export function openJournal(dataDir: string): Journal {
  return new SealedJournal({
    journal: new SqliteJournal(stateFile(dataDir)),
    name: stateFile(dataDir),
    keyFile: keyFile(dataDir),
    isConfidential: (key) => CONFIDENTIAL.has(key.slice(0, key.indexOf('/'))),
  });
}

/** Opens the journal and the state in it. The caller closes both. Throws JournalDamaged. */
export async function openState(dataDir: string): Promise<{ store: Store; close(): Promise<void> }> {
  const journal = openJournal(dataDir);
  const store = await Store.open(journal).catch(async (error: unknown) => {
    await journal.close();
    throw error;
  });
  return {
    store,
    async close() {
      await store.close();
      await journal.close();
    },
  };
}

/** Removes the state of a cluster that this node has left, or never finished making. */
export function removeState(dataDir: string): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(stateFile(dataDir) + suffix, { force: true });
  for (const suffix of ['', '.new']) rmSync(keyFile(dataDir) + suffix, { force: true });
}

export class Manager {
  readonly store: Store;
  readonly #state: { close(): Promise<void> };
  readonly #dispatch: DispatchServer;
  readonly #control: Control;
  readonly #certify: (csr: string) => Promise<string>;

  private constructor(
    state: { store: Store; close(): Promise<void> },
    dispatch: DispatchServer,
    control: Control,
    certify: (csr: string) => Promise<string>,
  ) {
    this.store = state.store;
    this.#certify = certify;
    this.#state = state;
    this.#dispatch = dispatch;
    this.#control = control;
  }

  /** Throws JournalDamaged, or why the port cannot be had. */
  static async open(membership: Membership, identity: Identity, around: Surroundings): Promise<Manager> {
    const { clock, random, log, dataDir } = around;
    const state = await openState(dataDir);
    const opened: { close(): Promise<void> }[] = [state];
    try {
      const { store } = state;
      // Not handled, so that the process ends: it is started again, and opens what the disk really has.
      void store.lost.then((error) => Promise.reject(error));
      const cluster = store.view((view) => view.clusters.get(CLUSTER_ROW));
      if (cluster === undefined) throw new Error(`the state in ${dataDir} holds no cluster`);
      const authority = { store, clock, log: log.child({ room: 'dispatch' }), root: cluster.rootCa };
      const dispatch = new DispatchServer({
        ...authority,
        random,
        identity,
        roles: ['worker'],
        managers: () => managersOf(store),
      });
      opened.push(dispatch);
      const { host, port } = splitAddress(membership.listenAddress);
      await dispatch.listen(host, port);
      const control = startControl({ store, clock, random, log: log.child({ room: 'control' }) });
      return new Manager(state, dispatch, control, (csr) => renew(authority, csr, membership.nodeId));
    } catch (error) {
      for (const part of opened.reverse()) await part.close();
      throw error;
    }
  }

  /** What asks nodes for streams. */
  get streams(): Streams {
    return this.#dispatch.streams;
  }

  /** The next certificate (PEM) of this manager itself: it needs nobody for that, even when the present one has expired. */
  certify(csr: string): Promise<string> {
    return this.#certify(csr);
  }

  /** Whoever dials from now on is shown this certificate; sessions go on. */
  useIdentity(identity: Identity): void {
    this.#dispatch.useIdentity(identity);
  }

  async close(): Promise<void> {
    await this.#dispatch.close();
    await this.#control.stop();
    await this.#state.close();
  }
}

export function managersOf(store: Store): { nodeId: string; address: string }[] {
  return store.view((view) =>
    [...view.nodes.all()].flatMap((node) =>
      node.manager === undefined ? [] : [{ nodeId: node.id, address: node.manager.address }],
    ),
  );
}

export function splitAddress(address: string): { host: string; port: number } {
  const at = address.lastIndexOf(':');
  return { host: address.slice(0, at), port: Number(address.slice(at + 1)) };
}
