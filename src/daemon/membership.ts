/**
 * Which cluster this node belongs to, as `cluster.json` in the data directory keeps it. The file is written last when a
 * node becomes a member and removed last when it has left, so whatever else lies there without it is a leftover, and a
 * leave that was broken off is known.
 */
import { mkdirSync, openSync, closeSync, fsyncSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

const Membership = z.object({
  nodeId: z.string().min(1),
  clusterId: z.string().min(1),
  role: z.enum(['manager', 'worker']),
  /** Where a manager on this node listens: host:port. */
  listenAddress: z.string(),
  /** How other nodes reach this one: plain IPv4. */
  advertiseAddress: z.string(),
  /** host:port by which others reach the manager on this node, if its port is not that of `listenAddress`. */
  managerAddress: z.string().optional(),
  /** Where VXLAN packets of this node come from and go to: plain IPv4. */
  dataPathAddress: z.string(),
  /** host:port of the managers this node has last heard of. */
  managers: z.array(z.string()).min(1),
  /** What keeps the cluster's state on a manager: managers' own etcd, or one that stands elsewhere; absent: a database of its own. */
  keeper: z.enum(['etcd', 'outside-etcd']).optional(),
  /** Set when leaving begins: from then on the host is cleared and nothing else. */
  leaving: z.literal(true).optional(),
});

export type Membership = z.infer<typeof Membership>;

/** `cluster.json` is there but cannot be understood; the message names the file. It was left untouched. */
export class MembershipDamaged extends Error {
  override readonly name = 'MembershipDamaged';
}

export class MembershipFile {
  readonly #dir: string;
  readonly #path: string;

  constructor(dataDir: string) {
    this.#dir = dataDir;
    this.#path = join(dataDir, 'cluster.json');
  }

  /** Undefined when this node belongs to no cluster. Throws MembershipDamaged. */
  read(): Membership | undefined {
    let text: string;
    try {
      text = readFileSync(this.#path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    try {
      return Membership.parse(JSON.parse(text));
    } catch (error) {
      throw new MembershipDamaged(`${this.#path} is damaged (${(error as Error).message}); it was left untouched`, {
        cause: error,
      });
    }
  }

  /** Durable, and whole or not at all, when it returns. */
  write(membership: Membership): void {
    mkdirSync(this.#dir, { recursive: true });
    const next = `${this.#path}.new`;
    writeFileSync(next, `${JSON.stringify(membership, null, 2)}\n`, { flush: true });
    renameSync(next, this.#path);
    this.#syncDir();
  }

  remove(): void {
    rmSync(this.#path, { force: true });
    this.#syncDir();
  }

  #syncDir(): void {
    const fd = openSync(this.#dir, 'r');
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }
}
