/**
 * A backup of a cluster in one file: lines of JSON. The first says what it is, of which cluster and moment, and holds what
 * makes a machine its manager: addresses, certificates, and the key file as it is, locked if the cluster locks its managers.
 * Then a line for each row as the journal has it, confidential ones encrypted with that key. The last line is a checksum of
 * all bytes before it, so that damage and a missing end are noticed.
 *
 * Whoever has the file of a cluster without a lock has all its keys.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { unavailable } from '../api/errors.ts';
import type { KeyFile } from '../journal/key-file.ts';
import { RowSeal } from '../journal/row-seal.ts';
import type { Identity } from '../pki/identity.ts';
import { isConfidential, snapshotOf } from '../store/snapshot.ts';
import type { Store } from '../store/store.ts';
import type { Membership } from './membership.ts';

/** Raised with every change that an older Drover could not read. */
const FORMAT = 1;
const KIND = 'backup of a cluster';
const NEWLINE = 0x0a;
/** Many times what the largest object takes. */
const MAX_LINE_BYTES = 64 * 1024 * 1024;
const NO_BACKUP = 'this is no backup of a Drover cluster; nothing was changed';

const header = z.object({
  drover: z.literal(KIND),
  format: z.literal(FORMAT),
  clusterId: z.string().min(1),
  /** RFC 3339. */
  at: z.string(),
  /** The number of the last transaction in it. */
  index: z.int().min(0),
  manager: z.object({
    nodeId: z.string().min(1),
    listenAddress: z.string(),
    advertiseAddress: z.string(),
    dataPathAddress: z.string(),
    /** host:port by which the other nodes reached it. */
    address: z.string(),
  }),
  /** PEM. */
  certificates: z.object({ certificate: z.string(), key: z.string(), rootCertificate: z.string() }),
  /** What the key file holds. */
  keyFile: z.string(),
});
const row = z.tuple([z.string(), z.string()]);
const end = z.object({ rows: z.int().min(0), sha256: z.string() });

export type BackupHeader = Omit<z.infer<typeof header>, 'drover' | 'format'>;

export interface Backup {
  header: BackupHeader;
  rows: { key: string; value: string }[];
}

/** What came is not a backup that this version can restore; the message, for people, says why. */
export class BackupRefused extends Error {
  override readonly name = 'BackupRefused';
}

export interface BackupSource {
  store: Store;
  keyFile: KeyFile;
  /** Of the manager that the backup is taken on. */
  membership: Pick<Membership, 'nodeId' | 'clusterId' | 'listenAddress' | 'advertiseAddress' | 'dataPathAddress'>;
  identity: Pick<Identity, 'certificate' | 'key' | 'rootCertificate'>;
  /** RFC 3339. */
  at: string;
}

/**
 * The lines of a backup of the state as it is now, each with its end. Writes that come while they are read are not in it.
 *
 * @throws ApiError 503 if the store does not know the cluster yet; why the key file cannot be read
 */
export function writeBackup({ store, keyFile, membership, identity, at }: BackupSource): Iterable<string> {
  const { index, rows } = snapshotOf(store);
  const { clusterId, nodeId, listenAddress, advertiseAddress, dataPathAddress } = membership;
  const { certificate, key, rootCertificate } = identity;
  const node = store.view((view) => view.nodes.get(nodeId));
  if (node?.manager === undefined)
    throw unavailable('This manager does not know the state of its cluster yet. Try again in a moment.');
  const seal = new RowSeal({ name: 'the backup', keyFile, isConfidential });
  const first: z.infer<typeof header> = {
    drover: KIND,
    format: FORMAT,
    clusterId,
    at,
    index,
    manager: { nodeId, listenAddress, advertiseAddress, dataPathAddress, address: node.manager.address },
    certificates: { certificate, key, rootCertificate },
    keyFile: readFileSync(keyFile.path, 'utf8'),
  };
  return lines(first, rows, seal);
}

function* lines(first: object, rows: Iterable<{ key: string; value: string }>, seal: RowSeal): Generator<string> {
  const hash = createHash('sha256');
  const line = (value: unknown): string => {
    const text = `${JSON.stringify(value)}\n`;
    hash.update(text);
    return text;
  };
  yield line(first);
  let count = 0;
  for (const clear of rows) {
    const { key, value } = seal.seal(clear);
    yield line([key, value]);
    count += 1;
  }
  yield `${JSON.stringify({ rows: count, sha256: hash.digest('hex') })}\n`;
}

/** All of a backup. Rejects with BackupRefused unless it is whole and of a format that is understood. */
export async function readBackup(chunks: AsyncIterable<Buffer>): Promise<Backup> {
  const reader = new BackupReader();
  let last: Buffer | undefined;
  for await (const line of linesOf(chunks)) {
    if (last !== undefined) reader.take(last);
    last = line;
  }
  return reader.finish(last ?? Buffer.alloc(0));
}

class BackupReader {
  readonly #hash = createHash('sha256');
  readonly #rows: Backup['rows'] = [];
  #header: BackupHeader | undefined;

  /** The next line, of which more come. */
  take(line: Buffer): void {
    this.#hash.update(line).update('\n');
    if (this.#header === undefined) {
      this.#header = parseHeader(line);
      return;
    }
    const parsed = row.safeParse(parseLine(line));
    if (!parsed.success) throw damaged(`its line ${this.#rows.length + 2} is no row`);
    const [key, value] = parsed.data;
    this.#rows.push({ key, value });
  }

  /** The last line. */
  finish(line: Buffer): Backup {
    if (this.#header === undefined) parseHeader(line);
    const parsed = end.safeParse(parseLine(line));
    if (this.#header === undefined || !parsed.success) throw damaged('its end is missing');
    if (parsed.data.sha256 !== this.#hash.digest('hex') || parsed.data.rows !== this.#rows.length)
      throw damaged('its checksum is wrong');
    return { header: this.#header, rows: this.#rows };
  }
}

function parseHeader(line: Buffer): BackupHeader {
  const value = parseLine(line);
  const kind = z.looseObject({ drover: z.literal(KIND), format: z.int() }).safeParse(value);
  if (!kind.success) throw new BackupRefused(NO_BACKUP);
  if (kind.data.format > FORMAT)
    throw new BackupRefused(
      `this backup was written by a newer Drover (format ${kind.data.format}; this one reads up to ${FORMAT}); nothing was changed`,
    );
  const parsed = header.safeParse(value);
  if (!parsed.success) throw damaged('its first line is not understood');
  const { drover: _, format: __, ...about } = parsed.data;
  return about;
}

function parseLine(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString('utf8'));
  } catch {
    // What it should have been says who looks for it.
    return undefined;
  }
}

/** What something is whose checksum is not what it should be, or that cannot be understood although it is. */
export function damaged(why: string): BackupRefused {
  return new BackupRefused(`this backup is damaged (${why}); nothing was changed`);
}

async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let pieces: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    let from = 0;
    for (let to = chunk.indexOf(NEWLINE); to !== -1; to = chunk.indexOf(NEWLINE, from)) {
      yield Buffer.concat([...pieces, chunk.subarray(from, to)]);
      pieces = [];
      bytes = 0;
      from = to + 1;
    }
    pieces.push(chunk.subarray(from));
    bytes += chunk.length - from;
    if (bytes > MAX_LINE_BYTES) throw new BackupRefused(NO_BACKUP);
  }
  if (bytes > 0) yield Buffer.concat(pieces);
}
