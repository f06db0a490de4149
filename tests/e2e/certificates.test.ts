/**
 * Certificates over time, on real hosts with the real client: what the files say, renewal after a start with certificates
 * that are about to end or have ended, rotated tokens, removed nodes, and joining again.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openJournal } from '../../src/daemon/state-files.ts';
import { CLUSTER_ROW, type Cluster } from '../../src/model/objects.ts';
import { createCertificateRequest, issueNodeCertificate } from '../../src/pki/authority.ts';
import { loadIdentity, saveIdentity } from '../../src/pki/files.ts';
import { identityAtAnyTime } from '../../src/pki/identity.ts';
import { Host } from './host.ts';
import { eventually, Lab } from './lab.ts';

const HOUR = 3_600_000;
const MINUTE = 60_000;

describe('certificates', () => {
  let lab: Lab;
  let hosts: Record<'h1' | 'h2' | 'h3', Host>;

  beforeAll(async () => {
    lab = await Lab.up('certificates', { bare: true, images: false });
    const [h1, h2, h3] = await Promise.all([Host.open(lab, 'h1'), Host.open(lab, 'h2'), Host.open(lab, 'h3')]);
    hosts = { h1, h2, h3 };
    await lab.docker('h1', 'swarm', 'init', '--cert-expiry', '1h');
    await Promise.all((['h2', 'h3'] as const).map(async (host) => joinSwarm(host, await token())));
  });
  afterAll(async () => {
    await lab?.down();
  });

  const token = () => lab.docker('h1', 'swarm', 'join-token', '-q', 'worker');
  const joinSwarm = async (host: string, by: string) =>
    lab.docker(host, 'swarm', 'join', '--token', by, `${await lab.address('h1')}:2377`);
  const info = (host: string, field: string) => lab.docker(host, 'info', '--format', `{{${field}}}`);
  const nodeId = (host: string) => info(host, '.Swarm.NodeID');
  const file = (host: Host, name: string) => join(host.dataDir, 'certificates', name);
  const certificateOf = async (host: Host) => new X509Certificate(await readFile(file(host, 'swarm-node.crt')));
  const leftMs = (certificate: X509Certificate) => certificate.validToDate.getTime() - Date.now();
  const ready = (host: string) =>
    eventually(`${host} is ready`, async () => {
      const id = await nodeId(host);
      return (await lab.docker('h1', 'node', 'inspect', '--format', '{{.Status.State}}', id)) === 'ready';
    });

  /** Gives a host whose droverd is away a certificate that was issued `ageMs` ago for `lifeMs`. */
  async function age(host: Host, ageMs: number, lifeMs: number): Promise<void> {
    const journal = openJournal(hosts.h1.dataDir);
    const { rootCa } = JSON.parse((await journal.load()).get(`clusters/${CLUSTER_ROW}`)!) as Cluster;
    await journal.close();
    const { nodeId: id, role, clusterId } = identityAtAnyTime((await loadIdentity(host.dataDir))!);
    const { key, csr } = await createCertificateRequest();
    const certificate = await issueNodeCertificate(
      rootCa,
      csr,
      { nodeId: id, role, clusterId },
      Date.now() - ageMs,
      lifeMs,
    );
    await saveIdentity(host.dataDir, { certificate, key, rootCertificate: rootCa.certificate });
  }

  const renewed = (host: Host, was: X509Certificate) =>
    eventually(`${host.name} has renewed its certificate`, async () => {
      const now = await certificateOf(host);
      return now.serialNumber !== was.serialNumber && now;
    });

  test('carry node, role and cluster, for as long as was asked; the key is for root only', async () => {
    const clusterId = await lab.docker('h1', 'info', '--format', '{{.Swarm.Cluster.ID}}');
    for (const [name, role] of [
      ['h1', 'manager'],
      ['h2', 'worker'],
    ] as const) {
      const certificate = await certificateOf(hosts[name]);
      expect(certificate.subject.split('\n')).toEqual([
        `O=${clusterId}`,
        `OU=swarm-${role}`,
        `CN=${await nodeId(name)}`,
      ]);
      expect(Math.abs(leftMs(certificate) - HOUR)).toBeLessThan(5 * MINUTE);
      expect(certificate.checkPrivateKey(createPrivateKey(await readFile(file(hosts[name], 'swarm-node.key'))))).toBe(
        true,
      );
      expect((await stat(file(hosts[name], 'swarm-node.key'))).mode & 0o777).toBe(0o600);
    }
  });

  test('are renewed by a worker near their end, for the time that the cluster says by now', async () => {
    await lab.docker('h1', 'swarm', 'update', '--cert-expiry', '3h');
    await hosts.h2.stop('droverd');
    await hosts.h1.stop('droverd');
    await age(hosts.h2, 9 * MINUTE, 10 * MINUTE);
    const old = await certificateOf(hosts.h2);
    await hosts.h1.start('droverd');
    await hosts.h2.start('droverd');
    const next = await renewed(hosts.h2, old);
    expect(next.subject).toBe(old.subject);
    expect(Math.abs(leftMs(next) - 3 * HOUR)).toBeLessThan(MINUTE);
    expect(next.publicKey.equals(old.publicKey)).toBe(false);
    await ready('h2');
  });

  test('that have expired: a manager renews its own, a worker says what to do', async () => {
    await Promise.all([hosts.h1.stop('droverd'), hosts.h3.stop('droverd')]);
    await Promise.all([age(hosts.h1, 2 * HOUR, HOUR), age(hosts.h3, 2 * HOUR, HOUR)]);
    const old = await certificateOf(hosts.h1);
    const id = identityAtAnyTime((await loadIdentity(hosts.h3.dataDir))!).nodeId;
    await Promise.all([hosts.h1.start('droverd'), hosts.h3.start('droverd')]);
    expect(leftMs(await renewed(hosts.h1, old))).toBeGreaterThan(2 * HOUR);
    await Promise.all([ready('h1'), ready('h2')]);
    expect(await info('h1', '.Swarm.LocalNodeState')).toBe('active');
    expect(await info('h3', '.Swarm.LocalNodeState')).toBe('error');
    expect(await info('h3', '.Swarm.Error')).toMatch(
      new RegExp(
        `^this node cannot take part in its swarm: the certificate has expired: it held until \\S+Z, and the clock here says \\S+Z\\. .*` +
          `"docker node rm --force ${id}" on a manager, and join again\\.$`,
      ),
    );
    // What it says to do is done.
    await lab.docker('h3', 'swarm', 'leave');
    await lab.docker('h1', 'node', 'rm', '--force', id);
    await joinSwarm('h3', await token());
    await ready('h3');
  });

  test('a removed node is out at once, knows it, and comes in again by the token of the day only', async () => {
    const [old, id] = await Promise.all([token(), nodeId('h3')]);
    await lab.docker('h1', 'node', 'rm', '--force', id);
    await eventually('h3 knows', async () => (await info('h3', '.Swarm.LocalNodeState')) === 'error');
    // Its certificate still holds, and helps it no more.
    expect(leftMs(await certificateOf(hosts.h3))).toBeGreaterThan(HOUR);
    await lab.docker('h3', 'swarm', 'leave');
    const fresh = await lab.docker('h1', 'swarm', 'join-token', '--rotate', '-q', 'worker');
    expect(fresh).not.toBe(old);
    const refused = await lab.tryDocker('h3', 'swarm', 'join', '--token', old, `${await lab.address('h1')}:2377`);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/A valid join token is necessary/) as string,
    });
    await joinSwarm('h3', fresh);
    await ready('h3');
    expect(await nodeId('h3')).not.toBe(id);
    expect((await lab.docker('h1', 'node', 'ls', '-q')).split('\n')).toHaveLength(3);
    await ready('h2');
  });
});
