/** Keeps what the resolver knows equal to the files it is fed by, reading only those that changed. */
import { readdirSync, readFileSync, statSync, watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { join } from 'node:path';
import type { Knowledge } from './answer.ts';
import { NameTable } from './answer.ts';
import type { Askers, NetworkNames, Settings } from './names.ts';
import { ASKERS_FILE, networkOfFile, SETTINGS_FILE } from './names.ts';
import { parseResolvConf } from './upstream.ts';

/** Milliseconds between two looks at all files, in case a notice of the kernel was lost. */
const RECHECK_MS = 2_000;

export class KnowledgeFiles implements Knowledge {
  readonly #directory: string;
  readonly #onChange: () => void;
  readonly #report: (message: string) => void;
  readonly #seen = new Map<string, string>();
  #watcher: FSWatcher | undefined;
  #settings: Settings = { resolvConf: '/etc/resolv.conf' };
  #resolvConf: { stamp: string; servers: string[] } = { stamp: '', servers: [] };
  networks = new Map<string, NameTable>();
  askers: Askers = {};

  constructor(directory: string, onChange: () => void, report: (message: string) => void) {
    this.#directory = directory;
    this.#onChange = onChange;
    this.#report = report;
  }

  /** Reads all, and goes on watching; throws if the directory cannot be read. */
  start(): void {
    this.#watcher = watch(this.#directory, (_event, file) => {
      if (file === null ? this.#readAll() : this.#read(file)) this.#onChange();
    });
    this.#watcher.on('error', (error) => this.#report(`cannot watch ${this.#directory}: ${error.message}`));
    setInterval(() => {
      if (this.#readAll()) this.#onChange();
    }, RECHECK_MS);
    this.#readAll();
    this.#onChange();
  }

  /** Addresses to listen on. */
  gateways(): Set<string> {
    return new Set([...this.networks.values()].map((table) => table.network.gateway));
  }

  /** The name servers for names that are not ours, as they stand now. */
  upstreams(): readonly string[] {
    if (this.#settings.upstreams !== undefined) return this.#settings.upstreams;
    const stamp = stampOf(this.#settings.resolvConf);
    if (stamp !== undefined && stamp !== this.#resolvConf.stamp) {
      this.#resolvConf = { stamp, servers: parseResolvConf(readFileSync(this.#settings.resolvConf, 'utf8')) };
    }
    return this.#resolvConf.servers;
  }

  #readAll(): boolean {
    const present = new Set(readdirSync(this.#directory));
    const all = new Set([...present, ...this.#seen.keys()]);
    return [...all].map((file) => this.#read(file)).some((changed) => changed);
  }

  /** True if the file had changed, and what is known with it. */
  #read(file: string): boolean {
    const networkId = networkOfFile(file);
    if (networkId === undefined && file !== ASKERS_FILE && file !== SETTINGS_FILE) return false;
    const path = join(this.#directory, file);
    const stamp = stampOf(path);
    if (stamp === this.#seen.get(file)) return false;
    if (stamp === undefined) {
      this.#seen.delete(file);
      if (networkId !== undefined) this.networks.delete(networkId);
      if (file === ASKERS_FILE) this.askers = {};
      return true;
    }
    try {
      const text = readFileSync(path, 'utf8');
      // Our own files, replaced atomically by the same version's code: their shape is not in doubt.
      if (networkId !== undefined) this.networks.set(networkId, tableOf(text));
      else if (file === ASKERS_FILE) this.askers = JSON.parse(text);
      else this.#settings = JSON.parse(text);
    } catch (error) {
      this.#report(`cannot read ${path}: ${String(error)}`);
      return false;
    }
    this.#seen.set(file, stamp);
    return true;
  }
}

function tableOf(text: string): NameTable {
  const names: NetworkNames = JSON.parse(text);
  return new NameTable(names);
}

/** Changes whenever a file is replaced; undefined if it is not there. */
function stampOf(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false, bigint: true });
  return stat === undefined ? undefined : `${stat.ino}.${stat.mtimeNs}.${stat.size}`;
}
