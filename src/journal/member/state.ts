/**
 * What is under way with this node's member, in `member.json` in etcd's folder: whole or not at all, on the disk before what
 * it tells of is done. Without the file there is no member, whatever else lies there.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { JournalDamaged } from '../journal.ts';

const PRIVATE = 0o600;
const PRIVATE_FOLDER = 0o700;
const ASIDE = 'removed-';
/** How many removed members' data are kept, in case somebody needs it. */
const ASIDE_KEPT = 2;

const Peers = z.array(z.object({ name: z.string().min(1), peerUrl: z.string().min(1) }));
const name = z.string().regex(/^[0-9a-z]+-[0-9a-z]+$/);

const MemberState = z.discriminatedUnion('phase', [
  /** The first member of a new cluster has not answered yet. */
  z.object({ phase: z.literal('bootstrapping'), name }),
  /** Not a voter yet; `peers` once the leader has admitted it. */
  z.object({ phase: z.literal('joining'), name, peers: Peers.optional() }),
  z.object({ phase: z.literal('running'), name }),
  /** All others are being thrown out. */
  z.object({ phase: z.literal('forcing'), name }),
  /** Its data is to be moved aside. */
  z.object({ phase: z.literal('leaving'), name }),
]);

export type MemberState = z.infer<typeof MemberState>;

export class MemberFiles {
  /** etcd's folder. */
  readonly folder: string;
  readonly #path: string;

  constructor(dataDir: string) {
    this.folder = join(dataDir, 'etcd');
    this.#path = join(this.folder, 'member.json');
  }

  /** Undefined if this node has no member. @throws JournalDamaged */
  read(): MemberState | undefined {
    if (!existsSync(this.#path)) return undefined;
    try {
      return MemberState.parse(JSON.parse(readFileSync(this.#path, 'utf8')));
    } catch (error) {
      throw new JournalDamaged(`${this.#path} cannot be read (${(error as Error).message}); it was left untouched`, {
        cause: error,
      });
    }
  }

  write(state: MemberState): void {
    mkdirSync(this.folder, { recursive: true, mode: PRIVATE_FOLDER });
    writeFileSync(`${this.#path}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: PRIVATE, flush: true });
    renameSync(`${this.#path}.new`, this.#path);
    syncFolder(this.folder);
  }

  /** Where the member of this name keeps its data. */
  data(memberName: string): string {
    return join(this.folder, memberName);
  }

  log(memberName: string): string {
    return join(this.folder, `${memberName}.log`);
  }

  /** A file with this root certificate; its name changes with its content, so a command line tells which root is in use. */
  root(certificate: string, digest: string): string {
    mkdirSync(this.folder, { recursive: true, mode: PRIVATE_FOLDER });
    const path = join(this.folder, `root-${digest}.crt`);
    if (existsSync(path) && readFileSync(path, 'utf8') === certificate) return path;
    writeFileSync(`${path}.new`, certificate, { flush: true });
    renameSync(`${path}.new`, path);
    for (const other of this.#files(/^root-.*\.crt$/))
      if (join(this.folder, other) !== path) rmSync(join(this.folder, other));
    return path;
  }

  /** Moves the data of a member that is no more aside, and forgets the member. May be repeated after a crash. */
  putAside(memberName: string): void {
    if (existsSync(this.data(memberName))) renameSync(this.data(memberName), this.data(ASIDE + memberName));
    const aside = this.#files(/^removed-/);
    for (const old of aside.slice(0, -ASIDE_KEPT)) rmSync(join(this.folder, old), { recursive: true });
    this.#forget(memberName);
  }

  /** Deletes the data of a member that nobody counts on, and forgets the member. May be repeated after a crash. */
  discard(memberName: string): void {
    rmSync(this.data(memberName), { recursive: true, force: true });
    this.#forget(memberName);
  }

  #forget(memberName: string): void {
    rmSync(this.log(memberName), { force: true });
    rmSync(`${this.log(memberName)}.1`, { force: true });
    rmSync(this.#path, { force: true });
    if (existsSync(this.folder)) syncFolder(this.folder);
  }

  /** The oldest first. */
  #files(pattern: RegExp): string[] {
    const found = readdirSync(this.folder).filter((file) => pattern.test(file));
    return found.toSorted((a, b) => changedMs(join(this.folder, a)) - changedMs(join(this.folder, b)));
  }
}

function changedMs(path: string): number {
  return statSync(path).ctimeMs;
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
