import * as fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { MemoryJournal } from '../journal/memory.ts';
import { awaitedIssuer, hasIssuer } from '../model/ca-rotation.ts';
import { silentLog } from '../model/clock.ts';
import { CLUSTER_ROW, type CertificateIssuer, type Cluster, type ClusterRootCa, type Node } from '../model/objects.ts';
import type { SwarmSpec } from '../model/specs.ts';
import { FakeClock, settle } from '../sim/fake-clock.ts';
import { Store } from '../store/store.ts';
import { caRotationLoop, withoutOldRoots } from './ca-rotation.ts';

const START = Date.UTC(2026, 0, 1);
const meta = { version: 3, createdAt: '', updatedAt: '' };
const issuer = (name: string): CertificateIssuer => ({ subject: 'same for all', publicKey: name });
const OLD = { certificate: 'old', key: 'old key', issuer: issuer('old') };
const NEW = { certificate: 'new', key: 'new key', issuer: issuer('new'), crossSigned: 'new by old' };
const ROTATING: ClusterRootCa = {
  ...OLD,
  crossSigned: 'old by older',
  givenUp: ['tried'],
  rotation: { ...NEW, joinTokens: { worker: 'new w', manager: 'new m' } },
};

const aCluster = (rootCa: ClusterRootCa): Cluster => ({
  id: CLUSTER_ROW,
  clusterId: 'c',
  meta,
  spec: { Name: 'default' } as SwarmSpec,
  rootCa,
  joinTokens: { worker: 'w', manager: 'm' },
  defaultAddressPool: [],
  subnetSize: 20,
  dataPathPort: 4789,
});

function aNode(id: string, by?: string): Node {
  const { subject, publicKey } = issuer(by ?? '');
  const tls = { trustRoot: '', certIssuerSubject: subject, certIssuerPublicKey: publicKey };
  return {
    id,
    meta,
    spec: { Labels: {}, Role: 'worker', Availability: 'active' },
    status: { state: 'down', message: '', address: '', since: '' },
    gateways: {},
    ...(by === undefined ? {} : { description: { tls } as Node['description'] & object }),
  };
}

test('a rotation ends with the new root alone, its tokens, and what leads to it from the old one', () => {
  expect(withoutOldRoots(aCluster(ROTATING), 'now')).toEqual({
    ...aCluster(NEW),
    joinTokens: { worker: 'new w', manager: 'new m' },
    meta: { ...meta, updatedAt: 'now' },
  });
});

test('one that was given up ends with the present root, as it was', () => {
  const { rotation: _, ...back } = ROTATING;
  const { givenUp: __, ...after } = back;
  expect(withoutOldRoots(aCluster(back), 'now')).toEqual({ ...aCluster(after), meta: { ...meta, updatedAt: 'now' } });
  expect(awaitedIssuer({ rootCa: back })).toEqual(OLD.issuer);
  expect(awaitedIssuer({ rootCa: ROTATING })).toEqual(NEW.issuer);
  expect(awaitedIssuer({ rootCa: after })).toBeUndefined();
});

test('name and key of the issuer both have to be the same; who never came has none', () => {
  expect(hasIssuer(aNode('a', 'new'), NEW.issuer)).toBe(true);
  expect(hasIssuer(aNode('a', 'old'), NEW.issuer)).toBe(false);
  expect(hasIssuer(aNode('a', 'new'), { ...NEW.issuer, subject: 'another' })).toBe(false);
  expect(hasIssuer(aNode('a'), NEW.issuer)).toBe(false);
});

describe('the loop', () => {
  let store: Store;
  let clock: FakeClock;
  beforeEach(async () => {
    store = await Store.open(new MemoryJournal());
    clock = new FakeClock(START);
  });
  const rootCa = () => store.view((view) => view.clusters.get(CLUSTER_ROW)!.rootCa);
  const start = () => {
    const loop = caRotationLoop({ store, clock, log: silentLog });
    loop.start();
    return loop;
  };
  const pass = async () => {
    await clock.advance(1);
    await settle();
  };
  const write = async (...nodes: Node[]) => {
    await store.update((tx) => {
      for (const node of nodes)
        if (tx.nodes.get(node.id) === undefined) tx.nodes.create(node);
        else tx.nodes.update(node);
    });
    await pass();
  };

  test('waits for the last node, the ones that are down and never came too', async () => {
    await store.update((tx) => tx.clusters.create(aCluster(ROTATING)));
    await write(aNode('a', 'old'), aNode('b', 'old'), aNode('c'));
    const loop = start();
    for (const node of [aNode('a', 'new'), aNode('c', 'new')]) {
      await write(node);
      expect(rootCa()).toEqual(ROTATING);
    }
    await store.update((tx) => tx.nodes.remove('b'));
    await pass();
    expect(rootCa()).toEqual(NEW);
    await loop.stop();
  });

  test('begins with what it finds: a manager that takes over ends what is ready to end', async () => {
    await store.update((tx) => tx.clusters.create(aCluster(ROTATING)));
    await write(aNode('a', 'new'));
    const loop = start();
    await pass();
    expect(rootCa()).toEqual(NEW);
    await loop.stop();
  });

  test('a node that joins in the very moment holds the end up', async () => {
    await store.update((tx) => tx.clusters.create(aCluster(ROTATING)));
    await write(aNode('a', 'old'));
    const loop = start();
    await pass();
    await store.update((tx) => {
      tx.nodes.update(aNode('a', 'new'));
      tx.nodes.create(aNode('b'));
    });
    await pass();
    expect(rootCa()).toEqual(ROTATING);
    await write(aNode('b', 'new'));
    expect(rootCa()).toEqual(NEW);
    await loop.stop();
  });

  test('whatever nodes and users do, it ends when, and only when, every node has the issuer that is awaited', async () => {
    const roots: ClusterRootCa[] = [
      OLD,
      ROTATING,
      { ...OLD, rotation: { ...ROTATING.rotation!, certificate: 'newer', issuer: issuer('newer') }, givenUp: ['new'] },
      { ...OLD, givenUp: ['new'] },
    ];
    const step = fc.oneof(
      fc.record({ node: fc.constantFrom('a', 'b', 'c'), by: fc.constantFrom('old', 'new', 'newer', 'gone') }),
      fc.record({ root: fc.constantFrom(...roots) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        store = await Store.open(new MemoryJournal());
        clock = new FakeClock(START);
        await store.update((tx) => tx.clusters.create(aCluster(OLD)));
        const loop = start();
        for (const one of steps) {
          await store.update((tx) => {
            if ('root' in one) tx.clusters.update({ ...tx.clusters.get(CLUSTER_ROW)!, rootCa: one.root });
            else if (tx.nodes.get(one.node) === undefined) tx.nodes.create(aNode(one.node, one.by));
            else if (one.by === 'gone') tx.nodes.remove(one.node);
            else tx.nodes.update(aNode(one.node, one.by));
          });
          const before = rootCa();
          const awaited = awaitedIssuer({ rootCa: before });
          const nodes = store.view((view) => [...view.nodes.all()]);
          await pass();
          const ends = awaited !== undefined && nodes.every((node) => hasIssuer(node, awaited));
          expect(awaitedIssuer({ rootCa: rootCa() })).toEqual(ends ? undefined : awaited);
          if (!ends) expect(rootCa()).toBe(before);
        }
        await loop.stop();
      }),
      { numRuns: 200 },
    );
  });
});
