/** A real etcd as other people run theirs: over TLS, with certificates on both sides that no cluster of ours has issued. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createCertificateRequest, createRootCa, issueNodeCertificate, type RootCa } from '../../pki/authority.ts';
import type { EtcdTls } from './channels.ts';
import { startEtcd } from './etcd.fixture.ts';

/** Who signs for such an etcd and its clients. */
export class TlsAuthority {
  readonly #root: RootCa;

  private constructor(root: RootCa) {
    this.#root = root;
  }

  static async make(): Promise<TlsAuthority> {
    return new TlsAuthority(await createRootCa(Date.now()));
  }

  get caCertificate(): string {
    return this.#root.certificate;
  }

  /** A certificate for that IP address and common name. */
  async certified(address: string, commonName = '1'.repeat(25)): Promise<Required<EtcdTls>> {
    const { key, csr } = await createCertificateRequest();
    const subject = { nodeId: commonName, clusterId: 'c'.repeat(25), role: 'manager' as const, addresses: [address] };
    const certificate = await issueNodeCertificate(this.#root, csr, subject, Date.now());
    return { certificate, key, caCertificate: this.caCertificate };
  }

  /** On loopback, with a certificate that names `address`. Resolves when it answers. */
  async start(address = '127.0.0.1'): Promise<{ endpoint: string; dispose: () => Promise<void> }> {
    const dir = mkdtempSync(join(tmpdir(), 'drover-tls-etcd-'));
    const own = await this.certified(address);
    const file = (name: string, text: string) => {
      writeFileSync(join(dir, name), text, { mode: 0o600 });
      return join(dir, name);
    };
    const flags = [
      `--cert-file=${file('node.crt', own.certificate)}`,
      `--key-file=${file('node.key', own.key)}`,
      `--trusted-ca-file=${file('root.crt', this.caCertificate)}`,
      '--client-cert-auth',
    ];
    const { certificate, key } = await this.certified('127.0.0.1');
    const etcd = await startEtcd({ flags, identity: { certificate, key, rootCertificate: this.caCertificate } });
    const dispose = async () => {
      await etcd.dispose();
      rmSync(dir, { recursive: true, force: true });
    };
    return { endpoint: etcd.members[0]!.endpoint, dispose };
  }
}
