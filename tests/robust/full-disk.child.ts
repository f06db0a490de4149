/**
 * Run in a mount namespace of its own by disk-full.test.ts: a manager's state on a disk of 2 MB that is filled, emptied
 * and filled again while users and control loops write. Sends what it saw to its parent.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { aNode, startApi, type Answer, type TestApi } from '../../src/api/api.fixture.ts';
import { startControl } from '../../src/control/control.ts';
import { systemClock } from '../../src/daemon/system.ts';
import { SqliteJournal } from '../../src/journal/sqlite.ts';
import { silentLog } from '../../src/model/clock.ts';
import { TaskState } from '../../src/model/states.ts';
import { Store } from '../../src/store/store.ts';

export interface Seen {
  rounds: { refusals: Answer[]; readsWhileFull: number[]; recoveredBy: number }[];
  /** Networks whose creation was answered with 201, and those refused: by name. */
  acknowledged: string[];
  refused: string[];
  /** What a new store finds: opened while the disk was full, and at the end. */
  foundWhileFull: string[];
  foundAtEnd: string[];
  writeAfterOpeningFull: string;
}

const ROUNDS = 4;

async function main(): Promise<Seen> {
  const disk = mkdtempSync(join(tmpdir(), 'drover-full-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', disk]);
  const path = join(disk, 'state.db');
  const journal = new SqliteJournal(path);
  const api = await startApi(undefined, 'manager', journal);
  await api.store.update((tx) => tx.nodes.create(aNode('node1')));
  const control = startControl({ store: api.store, clock: systemClock, random: Math.random, log: silentLog });
  const seen: Seen = {
    rounds: [],
    acknowledged: [],
    refused: [],
    foundWhileFull: [],
    foundAtEnd: [],
    writeAfterOpeningFull: '',
  };
  for (let round = 0; round < ROUNDS; round++) seen.rounds.push(await oneRound(api, disk, round, seen));
  await control.stop();
  await api.store.close();
  await journal.close();

  fill(disk);
  const second = new SqliteJournal(path);
  const full = await Store.open(second);
  seen.foundWhileFull = networks(full);
  seen.writeAfterOpeningFull = await full
    .update((tx) =>
      tx.nodes.create(
        aNode('late', { spec: { Labels: { long: 'x'.repeat(20_000) }, Role: 'worker', Availability: 'active' } }),
      ),
    )
    .then(
      () => 'written',
      (error: Error) => error.name,
    );
  empty(disk);
  await full.update((tx) => tx.nodes.create(aNode('later')));
  await second.close();
  const third = new SqliteJournal(path);
  seen.foundAtEnd = networks(await Store.open(third));
  await third.close();
  await api.close();
  execFileSync('umount', [disk]);
  rmSync(disk, { recursive: true });
  return seen;
}

async function oneRound(api: TestApi, disk: string, round: number, seen: Seen): Promise<Seen['rounds'][number]> {
  // A service that came just before the disk was full: its tasks have to wait.
  const service = await api.call('POST', '/services/create', {
    Name: `svc${round}`,
    TaskTemplate: { ContainerSpec: { Image: 'i' } },
  });
  fill(disk);
  const refusals: Answer[] = [];
  let number = 0;
  while (refusals.length < 3) {
    const answer = await createNetwork(api, `full-${round}-${number++}`, seen);
    if (answer.status !== 201) refusals.push(answer);
  }
  const reads = await Promise.all(['/networks', '/services', '/nodes', '/tasks'].map((path) => api.call('GET', path)));
  empty(disk);
  let tries = 0;
  while ((await createNetwork(api, `free-${round}-${tries++}`, seen)).status !== 201);
  await placed(api, (service.json as { ID: string }).ID);
  return { refusals, readsWhileFull: reads.map(({ status }) => status), recoveredBy: tries };
}

async function createNetwork(api: TestApi, name: string, seen: Seen): Promise<Answer> {
  const answer = await api.call('POST', '/networks/create', {
    Name: name,
    Driver: 'overlay',
    Labels: { long: 'x'.repeat(3000) },
  });
  (answer.status === 201 ? seen.acknowledged : seen.refused).push(name);
  return answer;
}

/** Resolves when the service's task has got its node: the loops have tried again by themselves. */
function placed(api: TestApi, serviceId: string): Promise<void> {
  const isPlaced = (): boolean =>
    api.store.view((view) =>
      view.tasks.by('service', serviceId).some(({ status }) => status.state >= TaskState.ASSIGNED),
    );
  return new Promise((resolve) => {
    const stop = api.store.watch(() => check());
    const check = (): void => {
      if (!isPlaced()) return;
      stop();
      resolve();
    };
    check();
  });
}

function fill(disk: string): void {
  const file = openSync(join(disk, 'ballast'), 'w');
  try {
    for (;;) writeSync(file, Buffer.alloc(4096));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  } finally {
    closeSync(file);
  }
}

function empty(disk: string): void {
  rmSync(join(disk, 'ballast'));
}

function networks(store: Store): string[] {
  return store.view((view) => [...view.networks.all()].map(({ spec }) => spec.Name)).toSorted();
}

// Nothing but timers of the loops may be what is waited for, and those keep no process alive.
const alive = setInterval(() => {}, 1000);
process.send?.(await main());
clearInterval(alive);
process.disconnect?.();
