/** Hosts with certificates of one cluster, all on 127.0.0.1 with ports of their own, and the real etcd to run on them. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog, type Clock } from '../../model/clock.ts';
import { newId } from '../../model/ids.ts';
import type { NodeRole } from '../../pki/identity.ts';
import { createCertificateRequest, createRootCa, issueNodeCertificate, type RootCa } from '../../pki/authority.ts';
import { saveIdentity } from '../../pki/files.ts';
import { freePorts } from '../free-ports.fixture.ts';
import type { Connect } from './api.ts';
import type { MemberSettings } from './arguments.ts';
import { connectWith } from './client-api.ts';
import type { EtcdIdentity } from '../etcd/channels.ts';
import { EtcdClient } from '../etcd/client.ts';
import { EtcdMember, type MemberDeps } from './member.ts';
import { endEtcd, findEtcdOn } from './process.ts';

export const random = (): number => randomBytes(6).readUIntBE(0, 6) / 2 ** 48;

export const clock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, fn) {
    const timer = setTimeout(fn, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};

const PATH = process.env['PATH'] ?? '';

export class Host {
  readonly settings: MemberSettings;
  /** As it is now: tests rotate the root. */
  tls: EtcdIdentity;
  /** All that `member` has made. */
  readonly members: EtcdMember[] = [];
  readonly connect: Connect;
  readonly probe: Connect;

  constructor(settings: MemberSettings, tls: EtcdIdentity) {
    this.settings = settings;
    this.tls = tls;
    this.connect = connectWith({ identity: () => this.tls, clock, tryMs: 1_500 });
    this.probe = connectWith({ identity: () => this.tls, clock, tryMs: 700 });
  }

  get nodeId(): string {
    return this.settings.nodeId;
  }

  get endpoint(): string {
    return `127.0.0.1:${this.settings.clientPort}`;
  }

  async put(key: string, value: string): Promise<void> {
    await this.#with((client) => client.txn({ when: [], write: [{ put: key, value }], otherwise: [] }));
  }

  /** Resolves with what a majority has. */
  async get(key: string): Promise<string | undefined> {
    const { rows } = await this.#with((client) => client.range({ from: key, to: `${key}\0` }));
    return rows[0]?.value;
  }

  async #with<T>(ask: (client: EtcdClient) => Promise<T>): Promise<T> {
    const client = await EtcdClient.make({ endpoints: [this.endpoint], identity: this.tls, clock, tryMs: 700 });
    try {
      return await ask(client);
    } finally {
      client.close();
    }
  }

  /** As a droverd that has just started would have it. */
  member(overrides: Partial<MemberDeps> = {}): EtcdMember {
    const { settings, connect } = this;
    const member = new EtcdMember({ settings, connect, clock, random, log: silentLog, searchPath: PATH, ...overrides });
    this.members.push(member);
    return member;
  }
}

export class Hosts {
  readonly clusterId = newId(random);
  readonly root: RootCa;
  readonly #dir = mkdtempSync(join(tmpdir(), 'drover-member-'));
  readonly #all: Host[] = [];

  private constructor(root: RootCa) {
    this.root = root;
  }

  static async make(): Promise<Hosts> {
    return new Hosts(await createRootCa(Date.now()));
  }

  async add(role: NodeRole = 'manager', settings: Partial<MemberSettings> = {}): Promise<Host> {
    const nodeId = newId(random);
    const dataDir = join(this.#dir, nodeId);
    const tls = await this.certificate(nodeId, role);
    await saveIdentity(dataDir, tls);
    const [clientPort = 0, peerPort = 0] = await freePorts(2);
    const { clusterId } = this;
    const all = { nodeId, clusterId, dataDir, advertiseAddress: '127.0.0.1', clientPort, peerPort, ...settings };
    const host = new Host(all, tls);
    this.#all.push(host);
    return host;
  }

  async certificate(
    nodeId: string,
    role: NodeRole,
    addresses = ['127.0.0.1'],
    root = this.root,
  ): Promise<EtcdIdentity> {
    const { key, csr } = await createCertificateRequest();
    const subject = { nodeId, role, clusterId: this.clusterId, addresses };
    const certificate = await issueNodeCertificate(root, csr, subject, Date.now());
    return { certificate, key, rootCertificate: root.certificate };
  }

  /** Ends every etcd that was started on these hosts, and removes all they have. */
  async dispose(): Promise<void> {
    for (const { settings, members } of this.#all) {
      await Promise.all(members.map((member) => member.detach()));
      const folder = join(settings.dataDir, 'etcd');
      for (const name of foldersIn(folder)) {
        const running = await findEtcdOn(join(folder, name));
        if (running !== undefined) process.kill(running.pid, 'SIGKILL');
        if (running !== undefined) await endEtcd(running, clock);
      }
    }
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

function foldersIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}
