import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { initRequest, initShape } from '../api/validate/swarm-requests.ts';
import { freePorts } from '../journal/free-ports.fixture.ts';
import { silentLog, type Log } from '../model/clock.ts';
import { newId } from '../model/ids.ts';
import { createCertificateRequest, createRootCa, issueNodeCertificate } from '../pki/authority.ts';
import { identityOf } from '../pki/identity.ts';
import { createJoinToken } from '../pki/token.ts';
import { FakeClock } from '../sim/fake-clock.ts';
import { Manager } from './manager.ts';
import type { Membership } from './membership.ts';
import { createCluster } from './new-cluster.ts';
import { keyFileOf, openState } from './state-files.ts';

let dataDir: string;
beforeEach(() => (dataDir = mkdtempSync(join(tmpdir(), 'drover-manager-'))));
afterEach(() => rmSync(dataDir, { recursive: true }));

const ids = { nodeId: newId(Math.random), clusterId: newId(Math.random) };

/** The state of a new cluster in the data directory, and what its manager is opened with. */
async function newCluster(clock: FakeClock) {
  const rootCa = await createRootCa(clock.now());
  const { key, csr } = await createCertificateRequest();
  const certificate = await issueNodeCertificate(rootCa, csr, { ...ids, role: 'manager' }, clock.now(), 86_400_000);
  const identity = identityOf({ certificate, key, rootCertificate: rootCa.certificate }, clock.now());
  const [port] = await freePorts(1);
  const listenAddress = `127.0.0.1:${port}`;
  const token = createJoinToken(rootCa.certificate, randomBytes);
  const state = await openState(dataDir);
  await state.store.update((tx) =>
    createCluster(tx, {
      ...initRequest(initShape.parse({})),
      ...ids,
      ingressId: 'ingress1',
      rootCa,
      joinTokens: { worker: token, manager: token },
      managerAddress: listenAddress,
      now: '',
    }),
  );
  await state.close();
  const membership: Membership = {
    ...ids,
    role: 'manager',
    listenAddress,
    advertiseAddress: '127.0.0.1',
    dataPathAddress: '127.0.0.1',
    managers: [listenAddress],
  };
  return { membership, identity };
}

test('a manager whose loops cannot start leaves nothing open: it can be opened again at once', async () => {
  const clock = new FakeClock(Date.now());
  const { membership, identity } = await newCluster(clock);
  const around = {
    dataDir,
    keyFile: keyFileOf(dataDir),
    clock,
    random: Math.random,
    log: silentLog,
    serveApi: () => {},
    managers: () => membership.managers,
    remember: () => {},
  };
  const noControl: Log = {
    ...silentLog,
    child(fields) {
      if ('room' in fields && fields.room === 'control') throw new Error('the loops cannot start');
      return silentLog;
    },
  };
  await expect(Manager.open(membership, identity, { ...around, log: noControl })).rejects.toThrow('cannot start');
  const manager = await Manager.open(membership, identity, around);
  expect(manager.store.view((view) => view.nodes.size)).toBe(1);
  await manager.close();
});
