/**
 * Files that tasks get from outside, their secrets above all, on this host: for each task a tmpfs of its own, mounted below
 * the data directory, whose files the engine binds into the container one by one. Promises: nothing of it is ever written to
 * a disk; it is there for as long as the container runs, whatever becomes of the daemon, and gone when the task has ended.
 *
 * It takes an engine in the same mount namespace: one that looks elsewhere finds no file and refuses to start the task.
 */
import { chmod, chown, mkdir, readdir, rm, stat, statfs, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FileMount } from '../engine/engine.ts';
import type { PayloadFileContent } from '../engine/payload-files.ts';
import type { CommandRunner } from '../network/command.ts';

/** What the agent asks of its host. */
export interface TaskFiles {
  /** Makes the task's files, in the place of those it had. Rejects if they cannot be kept off the disks. */
  put(taskId: string, files: readonly PayloadFileContent[]): Promise<FileMount[]>;
  /** The task has ended: its files go. No error if it had none. */
  release(taskId: string): Promise<void>;
  /** Releases every task that is not named. */
  keepOnly(taskIds: ReadonlySet<string>): Promise<void>;
}

const TMPFS_MAGIC = 0x01021994;
const PAGE_BYTES = 4096;
/** Beside the files: the root, and room for another try. */
const SPARE_INODES = 8;
const OWNER_ONLY = 0o700;

export class TmpfsFiles implements TaskFiles {
  readonly #dir: string;
  readonly #run: CommandRunner;
  /** What is being done for a task: one thing at a time. */
  readonly #busy = new Map<string, Promise<unknown>>();
  /** Tasks with a directory, once it was looked which there are. */
  #known: Set<string> | undefined;
  /** Whether this kernel can keep a tmpfs out of the swap (6.4 and later); undefined: not tried yet. */
  #noSwap: boolean | undefined;

  /** `dir` is this node's own; it is made when it is needed. */
  constructor(deps: { dir: string; run: CommandRunner }) {
    this.#dir = deps.dir;
    this.#run = deps.run;
  }

  put(taskId: string, files: readonly PayloadFileContent[]): Promise<FileMount[]> {
    return this.#inTurn(taskId, async () => {
      const known = await this.#tasks();
      const root = join(this.#dir, taskId);
      known.add(taskId);
      await mkdir(root, { recursive: true, mode: OWNER_ONLY });
      // What an earlier try left may be smaller than what is needed now.
      await this.#clear(root);
      await this.#mount(root, files);
      return Promise.all(
        files.map(async ({ target, uid, gid, mode, content }, at) => {
          const source = join(root, String(at));
          await writeFile(source, content, { flag: 'wx', mode: 0o600 });
          await chown(source, uid, gid);
          await chmod(source, mode);
          return { source, target };
        }),
      );
    });
  }

  release(taskId: string): Promise<void> {
    return this.#inTurn(taskId, async () => {
      const known = await this.#tasks();
      if (!known.has(taskId)) return;
      const root = join(this.#dir, taskId);
      await this.#clear(root);
      await rm(root, { recursive: true, force: true });
      known.delete(taskId);
    });
  }

  async keepOnly(taskIds: ReadonlySet<string>): Promise<void> {
    const gone = [...(await this.#tasks())].filter((taskId) => !taskIds.has(taskId));
    await Promise.all(gone.map((taskId) => this.release(taskId)));
  }

  async #tasks(): Promise<Set<string>> {
    if (this.#known === undefined) {
      await mkdir(this.#dir, { recursive: true, mode: OWNER_ONLY });
      const found = await readdir(this.#dir);
      this.#known ??= new Set(found);
    }
    return this.#known;
  }

  async #mount(root: string, files: readonly PayloadFileContent[]): Promise<void> {
    const pages = files.reduce((sum, { content }) => sum + Math.ceil(content.length / PAGE_BYTES) + 1, 1);
    const size = [`size=${pages * PAGE_BYTES}`, `nr_inodes=${files.length + SPARE_INODES}`, 'mode=0700'];
    const options = [...size, 'nosuid', 'nodev'];
    const mount = (more: string[]): Promise<string> =>
      this.#run(['mount', '-t', 'tmpfs', '-o', [...options, ...more].join(), 'drover', root]);
    if (this.#noSwap !== false) {
      try {
        await mount(['noswap']);
        this.#noSwap = true;
      } catch (error) {
        if (this.#noSwap === true) throw error;
        this.#noSwap = false;
      }
    }
    if (!this.#noSwap) await mount([]);
    // Written to anything else, it would be on a disk.
    if (!(await this.#isMounted(root))) throw new Error(`${root} could not be made a tmpfs`);
  }

  /** Empties the files, so that nothing is left of them even where a mount is still held, and takes the tmpfs away. */
  async #clear(root: string): Promise<void> {
    if (!(await this.#isMounted(root))) return;
    for (const name of await readdir(root)) await truncate(join(root, name));
    await this.#run(['umount', '-l', root]);
  }

  async #isMounted(root: string): Promise<boolean> {
    try {
      const [own, above, kind] = await Promise.all([stat(root), stat(this.#dir), statfs(root)]);
      return own.dev !== above.dev && kind.type === TMPFS_MAGIC;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    }
  }

  #inTurn<T>(taskId: string, work: () => Promise<T>): Promise<T> {
    const before = this.#busy.get(taskId) ?? Promise.resolve();
    const result = before.then(work);
    const settled = result.then(
      () => {},
      () => {},
    );
    this.#busy.set(taskId, settled);
    void settled.then(() => {
      if (this.#busy.get(taskId) === settled) this.#busy.delete(taskId);
    });
    return result;
  }
}
