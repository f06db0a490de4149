import { createServer } from 'node:net';
import { connect } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { randomBytes, X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CLUSTER_ROW } from '../model/objects.ts';
import { createCertificateRequest } from '../pki/authority.ts';
import type { NodeRole } from '../pki/identity.ts';
import { createJoinToken } from '../pki/token.ts';
import { exchange, RequestError } from './http.ts';
import { requestCertificate } from './request-certificate.ts';
import { newManager, realClock, type Manager } from './testbed.fixture.ts';

const checkRole = async (role: NodeRole) => {
  if (role === 'manager') throw new RequestError(503, 'no room for a manager');
};

let m: Manager;
let other: Manager;
beforeAll(async () => {
  [m, other] = await Promise.all([newManager(), newManager({ checkRole })]);
});
afterAll(() => Promise.all([m.close(), other.close()]));

const ask = (token: string, more: object = {}) =>
  requestCertificate({ address: m.address, token, availability: 'active', clock: realClock, ...more });
const nodes = (of: Manager) => of.store.view((view) => [...view.nodes.all()]);
/** Rows themselves may move: who has ended a session is taken for lost after a while. */
const ids = (of: Manager) => nodes(of).map(({ id }) => id);

describe('joining', () => {
  test.each(['worker', 'manager'] as const)(
    'by the %s token gives a certificate and a row, and the node can begin its session',
    async (role) => {
      const before = nodes(m).length;
      const identity = await ask(m.cluster.joinTokens[role], { availability: 'drain', advertiseAddress: '10.77.0.2' });
      expect(identity).toMatchObject({ role, clusterId: m.cluster.clusterId, rootCertificate: m.root.certificate });
      const row = nodes(m).find((node) => node.id === identity.nodeId)!;
      expect(row).toMatchObject({
        spec: { Role: role, Availability: 'drain', Labels: {} },
        status: { state: 'unknown', address: '10.77.0.2' },
      });
      expect(nodes(m)).toHaveLength(before + 1);
      const { session, memory } = m.agent(identity);
      await expect.poll(() => memory.replaced).toBe(1);
      await session.close();
    },
  );

  test('without an advertised address, the one seen counts', async () => {
    const { nodeId } = await ask(m.cluster.joinTokens.worker);
    expect(nodes(m).find((node) => node.id === nodeId)?.status.address).toBe('127.0.0.1');
  });

  test('bad tokens are told apart, and leave no trace', async () => {
    const before = ids(m);
    await expect(ask('SWMTKN-1-abc')).rejects.toThrow('invalid join token: it should look like');
    await expect(ask(createJoinToken(m.root.certificate, randomBytes))).rejects.toMatchObject({
      message: 'A valid join token is necessary to join this cluster',
      status: 403,
    });
    await expect(ask(other.cluster.joinTokens.worker)).rejects.toThrow(
      /^remote CA does not match fingerprint\. Expected: [0-9a-f]{64}$/,
    );
    expect(ids(m)).toEqual(before);
  });

  test('a token that was rotated is no longer good', async () => {
    const old = m.cluster.joinTokens.worker;
    const fresh = createJoinToken(m.root.certificate, randomBytes);
    await m.store.update((tx) => {
      const cluster = tx.clusters.get(CLUSTER_ROW)!;
      tx.clusters.update({ ...cluster, joinTokens: { ...cluster.joinTokens, worker: fresh } });
    });
    await expect(ask(old)).rejects.toThrow('A valid join token is necessary to join this cluster');
    expect((await ask(fresh)).role).toBe('worker');
    await m.store.update((tx) => tx.clusters.update(m.cluster));
  });

  test('a role that nobody can take now is refused in words, and leaves no trace', async () => {
    const { address, cluster } = other;
    const before = nodes(other);
    await expect(ask(cluster.joinTokens.manager, { address })).rejects.toMatchObject({
      status: 503,
      message: 'no room for a manager',
    });
    expect(nodes(other)).toEqual(before);
    expect((await ask(cluster.joinTokens.worker, { address })).role).toBe('worker');
  });

  test('nobody there, nothing that answers, and something else there', async () => {
    const token = m.cluster.joinTokens.worker;
    await expect(ask(token, { address: '127.0.0.1:1' })).rejects.toThrow(
      /^cannot reach a manager at 127\.0\.0\.1:1: .*ECONNREFUSED/,
    );
    const mute = createServer();
    const rude = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    const port = async (server: typeof mute) => {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      return (server.address() as AddressInfo).port;
    };
    await expect(ask(token, { address: `127.0.0.1:${await port(mute)}`, timeoutMs: 200 })).rejects.toThrow(
      /did not answer within 0\.2 s$/,
    );
    await expect(ask(token, { address: `127.0.0.1:${await port(rude)}` })).rejects.toThrow(/^cannot reach a manager/);
    await expect(ask(token, { address: 'no such://place' })).rejects.toThrow(
      'not the address of a manager: no such://place',
    );
    mute.close();
    rude.close();
  });

  test('a node of the cluster that asks again is refused', async () => {
    const identity = await ask(m.cluster.joinTokens.worker);
    const connection = connect(`https://${m.address}`, {
      rejectUnauthorized: false,
      cert: identity.certificate,
      key: identity.key,
    });
    const { csr } = await createCertificateRequest();
    const body = { token: m.cluster.joinTokens.worker, csr };
    await expect(exchange(connection, 'POST', '/v1/certificate', body)).rejects.toMatchObject({
      status: 409,
      message: `this node is already part of this cluster, as node ${identity.nodeId}`,
    });
    connection.destroy();
  });

  test('what is not understood, too long, or not there has its status', async () => {
    const connection = connect(`https://${m.address}`, { rejectUnauthorized: false });
    const post = (body: object) => exchange(connection, 'POST', '/v1/certificate', body);
    const token = m.cluster.joinTokens.worker;
    await expect(post({})).rejects.toMatchObject({ status: 400, message: expect.stringMatching(/token/) as string });
    await expect(post({ token, csr: 'nonsense' })).rejects.toMatchObject({
      status: 400,
      message: expect.stringMatching(/certificate request/) as string,
    });
    await expect(post({ token, csr: 'x'.repeat(1_000_000) })).rejects.toMatchObject({ status: 413 });
    await expect(exchange(connection, 'GET', '/nothing')).rejects.toMatchObject({
      status: 404,
      message: 'page not found',
    });
    await expect(exchange(connection, 'GET', '/v1/session')).rejects.toMatchObject({ status: 404 });
    const { certificate } = (await exchange(connection, 'GET', '/v1/ca')) as { certificate: string };
    expect(new X509Certificate(certificate).subject).toBe('CN=swarm-ca');
    connection.destroy();
  });
});
