/** A manager whose disk is full: writes are refused with a sentence, reads go on, and space is all it needs to go on. Needs root. */
import { fork } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Seen } from './full-disk.child.ts';

const isRoot = process.getuid?.() === 0;
if (!isRoot) console.warn('SKIPPED: a full disk (needs root, to mount a small one)');

test.skipIf(!isRoot)('disk full at the journal', { timeout: 60_000 }, async () => {
  const { rounds, acknowledged, refused, foundWhileFull, foundAtEnd, writeAfterOpeningFull } = await seen();
  for (const { refusals, readsWhileFull, recoveredBy } of rounds) {
    for (const { status, json } of refusals) {
      expect(status).toBe(503);
      expect(json.message).toMatch(
        /^The cluster's state cannot be written now: the state database .*state\.db could not be written: the disk is full; nothing was changed, try again later$/,
      );
    }
    expect(readsWhileFull).toEqual([200, 200, 200, 200]);
    expect(recoveredBy).toBe(1);
  }
  expect(rounds).toHaveLength(4);
  // Also by a manager that starts while the disk is full.
  expect(foundWhileFull).toEqual(acknowledged.toSorted());
  expect(writeAfterOpeningFull).toBe('JournalUnavailable');
  expect(foundAtEnd).toEqual(acknowledged.toSorted());
  expect(acknowledged.length).toBeGreaterThan(3);
  expect(refused.length).toBeGreaterThanOrEqual(12);
});

/** Runs the child in a mount namespace of its own: what it mounts goes with it, however it ends. */
async function seen(): Promise<Seen> {
  const child = fork(join(import.meta.dirname, 'full-disk.child.ts'), {
    execPath: 'unshare',
    execArgv: ['--mount', '--propagation', 'private', process.execPath],
  });
  return new Promise((resolve, reject) => {
    child.once('message', resolve);
    child.once('error', reject);
    child.once('exit', (code, signal) => reject(new Error(`the child ended early: ${code ?? signal}`)));
  });
}
