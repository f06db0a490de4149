/** A snapshot of the managers' etcd in a file: whole, on the disk and checked, or not there. */
import { createHash } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { MemberApi } from './api.ts';

const PRIVATE = 0o600;
const DIGEST_BYTES = 32;
/** The database is whole sectors; what is over is the digest. */
const SECTOR_BYTES = 512;

/** What came is not what etcd sent. */
export class SnapshotDamaged extends Error {
  override readonly name = 'SnapshotDamaged';
}

/**
 * Writes a snapshot of the member asked to `path` (0600), over what is there; resolves with its size in bytes. Rejects, and leaves
 * `path` as it was, with SnapshotDamaged, EtcdUnreachable, or the disk's error.
 */
export async function saveSnapshot(api: MemberApi, path: string): Promise<number> {
  const draft = `${path}.new`;
  await rm(draft, { force: true });
  const file = await open(draft, 'wx', PRIVATE);
  try {
    const sizeBytes = await receive(api.snapshot(), (bytes) => file.writeFile(bytes));
    await file.sync();
    await rename(draft, path);
    await syncFolder(dirname(path));
    return sizeBytes;
  } finally {
    await file.close();
    await rm(draft, { force: true });
  }
}

/** Passes the parts on as they come; rejects with SnapshotDamaged if the digest at their end is not theirs. */
async function receive(parts: AsyncIterable<Uint8Array>, write: (bytes: Uint8Array) => Promise<void>): Promise<number> {
  const hash = createHash('sha256');
  let held = Buffer.alloc(0);
  let sizeBytes = 0;
  for await (const part of parts) {
    await write(part);
    sizeBytes += part.length;
    held = Buffer.concat([held, part]);
    const known = Math.max(0, held.length - DIGEST_BYTES);
    hash.update(held.subarray(0, known));
    held = held.subarray(known);
  }
  if (sizeBytes % SECTOR_BYTES !== DIGEST_BYTES || !hash.digest().equals(held))
    throw new SnapshotDamaged('the snapshot of etcd is not whole');
  return sizeBytes;
}

async function syncFolder(folder: string): Promise<void> {
  const directory = await open(folder, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
