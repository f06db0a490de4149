import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { JournalDamaged, JournalUnavailable, type Change } from './journal.ts';
import { DataKey, KeyFile, writeKeys } from './key-file.ts';
import { MemoryJournal } from './memory.ts';
import { SealedJournal } from './sealed.ts';
import { SealedSharedJournal } from './sealed-shared.ts';
import type { Following, FollowListener, Leader, Leadership, SharedJournal } from './shared.ts';

/** A keeper that holds rows, and whose followers hear of a commit at once. */
class TestKeeper implements SharedJournal {
  readonly rows = new Map<string, string>();
  readonly followers = new Set<FollowListener>();
  revision = 0;
  closed = false;

  async follow(listener: FollowListener): Promise<Following> {
    this.followers.add(listener);
    listener.replace(new Map(this.rows), this.revision);
    const revision = () => this.revision;
    return {
      get revision() {
        return revision();
      },
      // A revision that is not there yet: for ever.
      reached: (revision) => (revision <= this.revision ? Promise.resolve() : new Promise(() => {})),
      stop: async () => void this.followers.delete(listener),
    };
  }

  tell(changes: readonly Change[]): void {
    this.revision += 1;
    for (const follower of this.followers) follower.apply(changes, this.revision);
  }

  async campaign(): Promise<Leadership> {
    const memory = new MemoryJournal(this.rows);
    return {
      journal: {
        load: () => memory.load(),
        commit: async (transactions) => {
          await memory.commit(transactions);
          for (const changes of transactions) this.tell(changes);
        },
        close: () => memory.close(),
      },
      revision: this.revision,
      over: new Promise(() => {}),
      resign: async () => {},
    };
  }

  observe(listener: (leader: Leader | undefined) => void): () => void {
    listener({ nodeId: 'n1', address: '10.0.0.1:2377' });
    return () => {};
  }

  async hasQuorum(): Promise<boolean> {
    return true;
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

class Follower implements FollowListener {
  readonly told: (Map<string, string> | readonly Change[])[] = [];
  readonly damages: Error[] = [];

  replace(rows: Map<string, string>): void {
    this.told.push(rows);
  }

  apply(changes: readonly Change[]): void {
    this.told.push(changes);
  }

  damaged(error: Error): void {
    this.damages.push(error);
  }
}

const isConfidential = (key: string) => key.startsWith('secrets/');
const self = { nodeId: 'n1', address: '10.0.0.1:2377' };

describe('SealedSharedJournal', () => {
  let dir: string;
  let keyPath: string;
  let keeper: TestKeeper;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'drover-sealed-shared-'));
    keyPath = join(dir, 'state.key');
    writeKeys(keyPath, [DataKey.random()]);
    keeper = new TestKeeper();
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  const options = () => ({ name: 'etcd', keyFile: new KeyFile(keyPath), isConfidential });
  const open = (): SealedSharedJournal => new SealedSharedJournal({ ...options(), journal: keeper });
  const lead = async (): Promise<Leadership> => open().campaign(self, new AbortController().signal);
  const secret = [{ key: 'secrets/a', value: 'hunter2' }];

  test('the keeper sees sealed rows, the leader and who follows clear ones, first and later', async () => {
    const early = new Follower();
    await open().follow(early);
    const { journal } = await lead();
    await journal.commit([[...secret, { key: 'nodes/n', value: 'plain' }]]);
    expect(keeper.rows.get('secrets/a')).toMatch(/^sealed:[0-9a-f]{8}:/);
    expect(keeper.rows.get('nodes/n')).toBe('plain');
    expect(await journal.load()).toEqual(
      new Map([
        ['secrets/a', 'hunter2'],
        ['nodes/n', 'plain'],
      ]),
    );
    await journal.commit([[{ key: 'secrets/a', value: null }]]);
    const late = new Follower();
    await open().follow(late);
    expect(early.told).toEqual([
      new Map(),
      [...secret, { key: 'nodes/n', value: 'plain' }],
      [{ key: 'secrets/a', value: null }],
    ]);
    expect(late.told).toEqual([new Map([['nodes/n', 'plain']])]);
  });

  test('its rows are those of a sealed journal of one manager, with the same key file', async () => {
    const own = new SealedJournal({ ...options(), journal: new MemoryJournal(keeper.rows) });
    await own.commit([secret]);
    const follower = new Follower();
    await open().follow(follower);
    expect(follower.told).toEqual([new Map([['secrets/a', 'hunter2']])]);
  });

  test('a value is sealed once, however often the keeper reads it', async () => {
    const { journal } = await lead();
    const seen: (string | null)[] = [];
    keeper.followers.add({
      replace: () => {},
      apply: ([change]) => seen.push(change!.value, change!.value),
    });
    await journal.commit([secret]);
    expect(seen[0]).toBe(seen[1]);
    expect(keeper.rows.get('secrets/a')).toBe(seen[0]);
  });

  test('without a key nothing is written, and none is made: the other managers would not have it', async () => {
    rmSync(keyPath);
    const { journal } = await lead();
    await expect(journal.commit([secret])).rejects.toThrow(JournalUnavailable);
    expect(keeper.rows.size).toBe(0);
    expect(new KeyFile(keyPath).exists()).toBe(false);
  });

  test('a first row that does not open: follow rejects with its name, and nothing is told', async () => {
    await (await lead()).journal.commit([secret]);
    writeKeys(keyPath, [DataKey.random()]);
    const follower = new Follower();
    const followed = open().follow(follower);
    await expect(followed).rejects.toThrow(JournalDamaged);
    await expect(followed).rejects.toThrow(/etcd is encrypted with the key .*state\.key, .* holds other keys/);
    expect(follower.told).toEqual([]);
    expect(keeper.followers.size).toBe(0);
  });

  test('a later row that does not open: who follows is told, hears no more, and nobody waits in vain', async () => {
    const { journal } = await lead();
    await journal.commit([secret]);
    const follower = new Follower();
    const following = await open().follow(follower);
    const waiting = following.reached(9);
    keeper.tell([{ key: 'secrets/b', value: keeper.rows.get('secrets/a')! }]);
    keeper.tell([{ key: 'nodes/n', value: 'plain' }]);
    expect(follower.told).toHaveLength(1);
    expect(follower.damages.map((error) => error.message)).toEqual([
      expect.stringMatching(/its row secrets\/b cannot be decrypted/),
    ]);
    await expect(waiting).rejects.toThrow(JournalDamaged);
    await expect(following.reached(1)).rejects.toThrow(JournalDamaged);
    expect(keeper.followers.size).toBe(0);
  });

  test('what is no row goes through as it is', async () => {
    const journal = open();
    const seen: (Leader | undefined)[] = [];
    journal.observe((leader) => seen.push(leader));
    expect(seen).toEqual([self]);
    expect(await journal.hasQuorum()).toBe(true);
    await journal.close();
    expect(keeper.closed).toBe(true);
  });
});
