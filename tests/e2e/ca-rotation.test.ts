/**
 * `docker swarm ca --rotate` on real hosts with the real client: by hand, with a root of the user's own, with a node away, and
 * with droverd killed in the middle. No container notices.
 */
import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Host } from './host.ts';
import { eventually, Lab, succeed } from './lab.ts';

const HOSTS = ['h1', 'h2', 'h3'] as const;

describe('rotation of the root CA', () => {
  let lab: Lab;
  let folder: string;
  let hosts: Record<(typeof HOSTS)[number], Host>;
  let containers: string[];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'drover-ca-'));
    lab = await Lab.up('ca-rotation');
    const [h1, h2, h3] = await Promise.all([Host.open(lab, 'h1'), Host.open(lab, 'h2'), Host.open(lab, 'h3')]);
    hosts = { h1, h2, h3 };
    const command = ['--init', lab.image('busybox:latest'), 'sleep', '100000'];
    await lab.docker('h1', 'service', 'create', '--detach', '--name', 'steady', '--mode', 'global', ...command);
    await lab.converged('steady', 3);
    containers = await running();
  });
  afterAll(async () => {
    await lab?.down();
    await rm(folder, { recursive: true, force: true });
  });

  /** The containers of the service, on every host. */
  async function running(): Promise<string[]> {
    const shown = ['--no-trunc', '--filter', 'label=com.docker.swarm.service.name=steady', '--format', '{{.ID}}'];
    const all = await Promise.all(HOSTS.map((host) => lab.engine(host, 'ps', ...shown)));
    return all.flatMap((out) => out.split('\n').filter((id) => id !== '')).sort();
  }

  const trusted = async () => (await lab.docker('h1', 'swarm', 'ca')).trim();
  const inProgress = () => lab.docker('h1', 'info', '--format', '{{.Swarm.Cluster.RootRotationInProgress}}');
  const tlsStatus = async () =>
    Object.fromEntries(
      (await lab.docker('h1', 'node', 'ls', '--format', '{{.Hostname}}:{{.Status}}:{{.TLSStatus}}'))
        .split('\n')
        .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]),
    );
  const allReady = { h1: 'Ready:Ready', h2: 'Ready:Ready', h3: 'Ready:Ready' };
  const converged = () =>
    eventually('every node trusts the new root and has a certificate by it', async () => {
      return (await inProgress()) === 'false' && JSON.stringify(await tlsStatus()) === JSON.stringify(allReady);
    });
  const onDisk = async (host: Host, name: string) => readFile(join(host.dataDir, 'certificates', name), 'utf8');
  const token = () => lab.docker('h1', 'swarm', 'join-token', '-q', 'worker');
  const join2377 = async (by: string) =>
    lab.tryDocker('h3', 'swarm', 'join', '--token', by, `${await lab.address('h1')}:2377`);

  test('the client waits until every node has changed over; nothing else changes', async () => {
    const [before, oldToken] = [await trusted(), await token()];
    const printed = await lab.docker('h1', 'swarm', 'ca', '--rotate');
    const after = await trusted();
    expect(after).not.toBe(before);
    expect(printed.trim().endsWith(after)).toBe(true);
    expect(await inProgress()).toBe('false');
    expect(await tlsStatus()).toEqual(allReady);
    for (const host of Object.values(hosts)) {
      expect((await onDisk(host, 'swarm-root-ca.crt')).trim()).toBe(after);
      const certificate = new X509Certificate(await onDisk(host, 'swarm-node.crt'));
      expect(certificate.verify(new X509Certificate(after).publicKey)).toBe(true);
    }
    expect(await running()).toEqual(containers);
    await lab.docker('h1', 'service', 'update', '--detach', '--label-add', 'rotated=once', 'steady');

    const newToken = await token();
    expect(newToken).not.toBe(oldToken);
    const id = await lab.docker('h3', 'info', '--format', '{{.Swarm.NodeID}}');
    await lab.docker('h3', 'swarm', 'leave');
    await lab.docker('h1', 'node', 'rm', '--force', id);
    expect(await join2377(oldToken)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/remote CA does not match fingerprint/) as string,
    });
    expect(await join2377(newToken)).toMatchObject({ code: 0 });
    await lab.converged('steady', 3);
    containers = await running();
  });

  test('waits for a node that is away, and says which; it comes back with its old certificate', async () => {
    const before = await trusted();
    await hosts.h3.stop('droverd');
    await lab.docker('h1', 'swarm', 'ca', '--rotate', '--detach');
    await eventually('the others have renewed', async () => {
      const { h1, h2, h3 } = await tlsStatus();
      return h3?.endsWith(':Needs Rotation') && h1 === 'Ready:Ready' && h2 === 'Ready:Ready';
    });
    expect(await inProgress()).toBe('true');
    expect(await trusted()).toBe(before);
    expect(await running()).toEqual(containers);
    await hosts.h3.start('droverd');
    await converged();
    expect(await trusted()).not.toBe(before);
    expect(await running()).toEqual(containers);
  });

  test('a root of the user’s own; droverd killed in the middle goes on; what is wrong is refused', async () => {
    const before = await trusted();
    const [certificate, key] = [join(folder, 'ca.crt'), join(folder, 'ca.key')];
    const subject = ['-nodes', '-subj', '/CN=Our own root', '-days', '3650'];
    await succeed('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-keyout', key, '-out', certificate, ...subject]);
    await succeed('openssl', ['genrsa', '-out', join(folder, 'other.key'), '2048']);
    const rotate = (...args: string[]) => lab.tryDocker('h1', 'swarm', 'ca', '--rotate', ...args);
    const ours = ['--ca-cert', certificate];
    expect(await rotate(...ours, '--ca-key', join(folder, 'other.key'))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/certificate key mismatch/) as string,
    });
    expect(await rotate(...ours, '--external-ca', 'protocol=cfssl,url=https://192.0.2.1')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/external certificate authorities are not supported yet/) as string,
    });
    expect([await inProgress(), await trusted()]).toEqual(['false', before]);

    expect(await rotate(...ours, '--ca-key', key, '--detach')).toMatchObject({ code: 0 });
    await hosts.h1.stop('droverd', 'SIGKILL');
    await hosts.h1.start('droverd');
    await converged();
    expect(await trusted()).toBe((await readFile(certificate, 'utf8')).trim());
    expect(await running()).toEqual(containers);
    await lab.docker('h1', 'service', 'update', '--detach', '--label-add', 'rotated=thrice', 'steady');
  });
});
