/** The root CA through the API: what is asked for, what is shown, and what is refused without a change. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CLUSTER_ROW } from '../../model/objects.ts';
import { createRootCa, issuerOf } from '../../pki/authority.ts';
import { aNode, startApi, type TestApi } from '../api.fixture.ts';
import { updateWithRoot } from '../root-ca.ts';

let api: TestApi;
beforeEach(async () => {
  api = await startApi((_request, response) => response.writeHead(404).end());
});
afterEach(() => api.close());

const swarm = async () => (await api.call('GET', '/swarm')).json;
const row = () => api.store.view((view) => view.clusters.get(CLUSTER_ROW)!);

/** As the client does it: the spec as it was inspected, with this in its CAConfig. */
async function update(caConfig: object, query = ''): Promise<{ status: number; json: unknown }> {
  const { Spec, Version } = await swarm();
  const body = { ...Spec, CAConfig: { ...Spec.CAConfig, ...caConfig } };
  return api.call('POST', `/swarm/update?version=${Version.Index}${query}`, body);
}

describe('a rotation that is asked for by its counter', () => {
  test('begins, shows who is to issue and that the old root is trusted still, and keeps the tokens', async () => {
    const before = await swarm();
    expect(before.RootRotationInProgress).toBe(false);
    expect((await update({ ForceRotate: 1 })).status).toBe(200);
    const after = await swarm();
    const { rotation } = row().rootCa;
    const { subject, publicKey } = issuerOf(rotation!.certificate);
    expect(after).toMatchObject({
      RootRotationInProgress: true,
      TLSInfo: {
        TrustRoot: before.TLSInfo.TrustRoot,
        CertIssuerSubject: subject,
        CertIssuerPublicKey: publicKey,
      },
      JoinTokens: before.JoinTokens,
    });
    expect(publicKey).not.toBe(before.TLSInfo.CertIssuerPublicKey);
    expect(after.Spec.CAConfig.ForceRotate).toBe(1);
    const { Swarm, Warnings } = (await api.call('GET', '/info')).json;
    expect(Swarm.Cluster.RootRotationInProgress).toBe(true);
    expect(JSON.stringify(Warnings ?? [])).not.toMatch(/rotation/);
    // Keys are for managers' journals.
    expect(JSON.stringify(after)).not.toMatch(/PRIVATE KEY|joinTokens/);
  });

  test('another number is another one, the same or none is none', async () => {
    await update({ ForceRotate: 1 });
    const first = row().rootCa.rotation!.certificate;
    await update({ ForceRotate: 1, NodeCertExpiry: 2 * 3600e9 });
    await update({ ForceRotate: undefined });
    expect(row().rootCa.rotation!.certificate).toBe(first);
    expect(row().spec.CAConfig).toMatchObject({ ForceRotate: 1, NodeCertExpiry: 2 * 3600e9 });
    await update({ ForceRotate: 2 });
    expect(row().rootCa.rotation!.certificate).not.toBe(first);
    expect(row().rootCa.givenUp).toEqual([first]);
  });

  test('two at once: one is out of sequence', async () => {
    const answers = await Promise.all([update({ ForceRotate: 1 }), update({ ForceRotate: 1 })]);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 500]));
  });

  test('starts anew when a rotation ends while the root is being made', async () => {
    await update({ ForceRotate: 1 });
    const { rotation } = row().rootCa;
    const wanted = { forceRotate: 2, certificate: '', key: '' };
    let roots = 0;
    const asked = updateWithRoot(api, wanted, (tx, old, rootCa) => {
      roots += 1;
      tx.clusters.update({ ...old, rootCa });
    });
    const { joinTokens: _, ...ended } = rotation!;
    await api.store.update((tx) => tx.clusters.update({ ...row(), rootCa: ended }));
    await asked;
    expect(roots).toBe(1);
    expect(row().rootCa.certificate).toBe(ended.certificate);
    expect(row().rootCa.rotation!.certificate).not.toBe(ended.certificate);
  });

  test('a token that is rotated meanwhile names the root that is trusted', async () => {
    await update({ ForceRotate: 1 });
    const { worker } = row().joinTokens;
    expect((await update({}, '&rotateWorkerToken=true')).status).toBe(200);
    expect(row().joinTokens.worker).not.toBe(worker);
    expect(row().joinTokens.worker.split('-')[2]).not.toBe(row().rootCa.rotation!.joinTokens.worker.split('-')[2]);
  });
});

test('docker info says which nodes a rotation waits for', async () => {
  const { description } = aNode('x');
  await api.store.update((tx) => {
    tx.nodes.create(aNode('a'));
    tx.nodes.create({ ...aNode('b'), status: { state: 'down', message: '', address: '', since: '' } });
  });
  const said = async () => ((await api.call('GET', '/info')).json.Warnings ?? []) as string[];
  expect(await said()).not.toContainEqual(expect.stringMatching(/rotation/));
  await update({ ForceRotate: 1 });
  expect(await said()).toContain(
    'WARNING: the rotation of the root CA waits for 2 nodes: host-a, host-b (down); ' +
      'who does not come back has to be removed (docker node rm --force)',
  );
  const { subject, publicKey } = row().rootCa.rotation!.issuer;
  const tls = { trustRoot: '', certIssuerSubject: subject, certIssuerPublicKey: publicKey };
  await api.store.update((tx) => tx.nodes.update({ ...aNode('a'), description: { ...description!, tls } }));
  expect(await said()).toContainEqual(expect.stringMatching(/waits for 1 node: host-b \(down\);/));
});

describe('a root of the user’s own', () => {
  test('is taken, kept out of the spec, and given up by the present one', async () => {
    const present = row().rootCa;
    const { certificate, key } = await createRootCa(api.clock.now());
    expect((await update({ SigningCACert: certificate, SigningCAKey: key })).status).toBe(200);
    expect(row().rootCa.rotation).toMatchObject({ certificate, key });
    const { Spec } = await swarm();
    expect(Object.keys(Spec.CAConfig)).not.toContain('SigningCACert');
    expect(JSON.stringify(row().spec)).not.toMatch(/PRIVATE KEY|CERTIFICATE/);
    expect((await update({ SigningCACert: present.certificate, SigningCAKey: present.key })).status).toBe(200);
    expect(row().rootCa).toMatchObject({ certificate: present.certificate, givenUp: [certificate] });
    expect((await swarm()).RootRotationInProgress).toBe(false);
  });

  test.each<[string, () => Promise<object>, number, string | RegExp]>([
    [
      'a key alone',
      async () => ({ SigningCAKey: 'k' }),
      400,
      'if a signing CA key is provided, the signing CA cert must also be provided',
    ],
    [
      'what is no PEM',
      async () => ({ SigningCACert: 'c', SigningCAKey: 'k' }),
      400,
      'invalid root certificates: not a PEM certificate',
    ],
    [
      'a key of another',
      async () => ({
        SigningCACert: (await createRootCa(api.clock.now())).certificate,
        SigningCAKey: (await createRootCa(api.clock.now())).key,
      }),
      400,
      'certificate key mismatch',
    ],
    [
      'one that has expired',
      async () => {
        const { certificate, key } = await createRootCa(api.clock.now() - 21 * 365 * 86_400_000);
        return { SigningCACert: certificate, SigningCAKey: key };
      },
      400,
      /^error while validating Root CA Certificate: it has expired or is not yet valid/,
    ],
    [
      'an external authority',
      async () => ({ ExternalCAs: [{ Protocol: 'cfssl', URL: 'https://192.0.2.1' }], ForceRotate: 1 }),
      501,
      'external certificate authorities are not supported yet',
    ],
    [
      'a life that is too short',
      async () => ({ NodeCertExpiry: 1e9, ForceRotate: 1 }),
      400,
      'minimum certificate expiry time is: 1h0m0s',
    ],
  ])('%s is refused, and nothing changes', async (_, caConfig, status, message) => {
    const before = row();
    expect(await update(await caConfig())).toMatchObject({
      status,
      json: { message: typeof message === 'string' ? message : (expect.stringMatching(message) as string) },
    });
    expect(row()).toBe(before);
  });

  test('is for a swarm that is there: one that is made has its own', async () => {
    api.cluster.current = { ...api.cluster.current, localNodeState: 'inactive', manager: false };
    const { certificate, key } = await createRootCa(api.clock.now());
    const Spec = { CAConfig: { SigningCACert: certificate, SigningCAKey: key } };
    expect(await api.call('POST', '/swarm/init', { ListenAddr: '0.0.0.0', Spec })).toMatchObject({ status: 501 });
  });
});

test('certificates live as long as was said last', async () => {
  await update({ NodeCertExpiry: 3 * 3600e9 });
  await update({ NodeCertExpiry: 0 });
  expect(row().spec.CAConfig.NodeCertExpiry).toBe(3 * 3600e9);
});
