/**
 * A node's certificates on its disk, under Docker Swarm's names: `swarm-root-ca.crt`, `swarm-node.crt`,
 * `swarm-node.key` (0600). Each file is replaced whole or not at all. A certificate and its key are two files that must
 * change as one: the new certificate stands beside the old one, as `swarm-node.crt.new`, before the key is replaced, and
 * takes its place afterwards. Whoever finds a key that is that of the waiting certificate finishes the change.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { IdentityParts } from './identity.ts';

const ROOT = 'swarm-root-ca.crt';
const CERTIFICATE = 'swarm-node.crt';
const KEY = 'swarm-node.key';
const DRAFT = '.new';

/** Writes a node's certificates below `dataDir`, over what is there; they are on the disk when it resolves. */
export async function saveIdentity(dataDir: string, identity: IdentityParts): Promise<void> {
  const folder = folderIn(dataDir);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeDraft(folder, ROOT, identity.rootCertificate, 0o644);
  await takeDraft(folder, ROOT);
  await writeDraft(folder, CERTIFICATE, identity.certificate, 0o644);
  await writeDraft(folder, KEY, identity.key, 0o600);
  await takeDraft(folder, KEY);
  await takeDraft(folder, CERTIFICATE);
}

/** What `saveIdentity` wrote, or undefined if this node has no certificate. Rejects if only a part is there. */
export async function loadIdentity(dataDir: string): Promise<IdentityParts | undefined> {
  const folder = folderIn(dataDir);
  const waiting = await readIfThere(join(folder, CERTIFICATE + DRAFT));
  if (waiting !== undefined && isPair(waiting, await readIfThere(join(folder, KEY))))
    await takeDraft(folder, CERTIFICATE);
  const certificate = await readIfThere(join(folder, CERTIFICATE));
  if (certificate === undefined) return undefined;
  const [key, rootCertificate] = await Promise.all([
    readFile(join(folder, KEY), 'utf8'),
    readFile(join(folder, ROOT), 'utf8'),
  ]);
  return { certificate, key, rootCertificate };
}

/** Forgets this node's certificates (on leaving a cluster). Without any, does nothing. */
export async function removeIdentity(dataDir: string): Promise<void> {
  await rm(folderIn(dataDir), { recursive: true, force: true });
}

function folderIn(dataDir: string): string {
  return join(dataDir, 'certificates');
}

/** False too for a draft that a crash left half written. */
function isPair(certificate: string, key: string | undefined): boolean {
  if (key === undefined) return false;
  try {
    return new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key));
  } catch {
    return false;
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function writeDraft(folder: string, name: string, content: string, mode: number): Promise<void> {
  const draft = join(folder, name + DRAFT);
  await rm(draft, { force: true });
  const file = await open(draft, 'wx', mode);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await syncFolder(folder);
}

async function takeDraft(folder: string, name: string): Promise<void> {
  await rename(join(folder, name + DRAFT), join(folder, name));
  await syncFolder(folder);
}

async function syncFolder(folder: string): Promise<void> {
  const directory = await open(folder, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
