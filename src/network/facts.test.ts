/** Properties: whatever the order of changes, taking in differences ends where taking in everything does. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AssignmentChange } from '../model/assignments.ts';
import { mergeBalance, removedBackends } from './balancing.ts';
import type { Balanced } from './balancing.ts';
import { Facts } from './facts.ts';
import { hostBalance, publishedPorts } from './host-rules.ts';
import { forwardingBatch } from './overlay.ts';
import { taskBalance, taskBalanced } from './task-rules.ts';
import { Work } from './work.ts';

const NETWORKS = ['a', 'b', 'ingress'];

const network = (id: string): AssignmentChange => ({
  kind: 'network',
  key: id,
  value: {
    id,
    name: id,
    environment: 'default',
    subnet: '10.1.0.0/16',
    gateway: '10.1.0.1',
    vni: 5000,
    dataPathPort: 4789,
    ingress: id === 'ingress',
    internal: false,
    labels: {},
    options: {},
  },
});

const networkId = fc.constantFrom(...NETWORKS);
const nodeId = fc.constantFrom('me', 'n2', 'n3');
const serviceId = fc.constantFrom('s1', 's2', 's3');

const change: fc.Arbitrary<AssignmentChange> = fc.oneof(
  fc
    .record({
      networkId,
      taskId: fc.integer({ min: 1, max: 6 }),
      serviceId,
      nodeId,
      serving: fc.boolean(),
      gone: fc.boolean(),
      octet: fc.integer({ min: 1, max: 8 }),
    })
    .map(({ networkId, taskId, serviceId, nodeId, serving, gone, octet }): AssignmentChange => ({
      kind: 'endpoint',
      key: `${networkId}/t${taskId}`,
      value: gone
        ? null
        : {
            networkId,
            taskId: `t${taskId}`,
            serviceId,
            slot: taskId,
            nodeId,
            address: `10.1.1.${octet}`,
            dataPathAddress: `192.168.0.${nodeId.length}${nodeId.at(-1) === '3' ? 3 : 2}`,
            serving,
            aliases: [],
          },
    })),
  fc
    .record({
      networkId,
      serviceId,
      vip: fc.option(fc.integer({ min: 1, max: 4 })),
      port: fc.option(fc.integer({ min: 80, max: 84 })),
      gone: fc.boolean(),
    })
    .map(({ networkId, serviceId, vip, port, gone }): AssignmentChange => ({
      kind: 'service',
      key: `${networkId}/${serviceId}`,
      value: gone
        ? null
        : {
            networkId,
            serviceId,
            environment: 'default',
            name: serviceId,
            aliases: [],
            ...(vip === null ? {} : { vip: `10.1.2.${vip}` }),
            ports:
              port === null ? [] : [{ protocol: 'tcp', targetPort: 80, publishedPort: port, publishMode: 'ingress' }],
          },
    })),
  fc.record({ networkId, nodeId, gone: fc.boolean() }).map(({ networkId, nodeId, gone }): AssignmentChange => ({
    kind: 'peer',
    key: `${networkId}/${nodeId}`,
    value: gone
      ? null
      : { networkId, nodeId, gateway: `10.1.0.${nodeId.charCodeAt(1) % 50}`, dataPathAddress: '192.168.0.9' },
  })),
);

/** The last fact of each key: what a manager would send whole. */
function lastOf(changes: readonly AssignmentChange[]): AssignmentChange[] {
  return [...new Map(changes.map((each) => [`${each.kind} ${each.key}`, each])).values()].filter(
    (each) => each.value !== null,
  );
}

/** What `bridge -batch` and `ip -batch` would make of the lines. */
function interpret(installed: Map<string, string>, lines: string[]): void {
  for (const line of lines) {
    const set = /^neigh replace (\S+) lladdr (\S+) dev v nud permanent$/.exec(line);
    const gone = /^neigh del (\S+) dev v$/.exec(line);
    const done =
      set?.[1] === undefined ? installed.delete(gone?.[1] ?? '') : installed.set(set[1], set[2] ?? '').size > 0;
    expect([line, done]).toEqual([line, true]);
  }
}

describe('differences', () => {
  test('end where the full state does: services and ports', () => {
    fc.assert(
      fc.property(fc.array(fc.array(change, { maxLength: 5 }), { maxLength: 12 }), (batches) => {
        const facts = new Facts('me');
        for (const id of NETWORKS) facts.apply(network(id));
        let task: ReadonlyMap<string, readonly Balanced[]> = taskBalance(facts, 'x', NETWORKS);
        let host: ReadonlyMap<string, readonly Balanced[]> = hostBalance(facts, 'ingress');
        for (const batch of batches) {
          const work = new Work();
          for (const each of batch) for (const touch of facts.apply(each)) work.add(touch);
          const touched = new Map(
            [...work.services].flatMap(([id, keys]) =>
              [...keys].map((key) => [key, taskBalanced(facts, 'x', id, key)] as const),
            ),
          );
          const backends = (balance: typeof task) =>
            [...balance].flatMap(([key, all]) => (touched.has(key) ? all : [])).flatMap((each) => each.backends);
          const before = backends(task);
          for (const gone of removedBackends(task, touched)) expect(before).toContain(gone);
          task = mergeBalance(task, touched);
          const ports = [...(work.services.get('ingress') ?? [])].map(
            (key) => [key, publishedPorts(facts, 'ingress', key)] as const,
          );
          host = mergeBalance(host, new Map(ports));
        }
        const whole = new Facts('me');
        whole.apply(network('ingress'));
        for (const each of lastOf(batches.flat())) whole.apply(each);
        expect(task).toEqual(taskBalance(whole, 'x', NETWORKS));
        expect(host).toEqual(hostBalance(whole, 'ingress'));
      }),
    );
  });

  test('end where the full state does: forwarding', () => {
    fc.assert(
      fc.property(fc.array(fc.array(change, { maxLength: 5 }), { maxLength: 12 }), (batches) => {
        const facts = new Facts('me');
        const installed = new Map<string, string>();
        const placed = new Map<string, string>();
        for (const batch of batches) {
          const work = new Work();
          for (const each of batch) for (const touch of facts.apply(each)) work.add(touch);
          const wanted = facts.network('a')?.remotes ?? new Map<string, string>();
          const addresses = work.addresses.get('a') ?? new Set<string>();
          const { bridge, neighbours } = forwardingBatch('v', placed, wanted, addresses);
          expect(bridge).toHaveLength(2 * neighbours.length);
          interpret(installed, neighbours);
          for (const address of addresses) {
            const remote = wanted.get(address);
            if (remote === undefined) placed.delete(address);
            else placed.set(address, remote);
          }
          expect(placed).toEqual(wanted);
        }
        expect(new Set(installed.keys())).toEqual(new Set(placed.keys()));
      }),
    );
  });

  test('`difference` leaves exactly what is given', () => {
    fc.assert(
      fc.property(fc.array(change), fc.array(change), (before, after) => {
        const facts = new Facts('me');
        for (const each of before) facts.apply(each);
        const wanted = lastOf(after);
        for (const each of facts.difference(wanted)) facts.apply(each);
        const whole = new Facts('me');
        for (const each of wanted) whole.apply(each);
        expect([...facts.networks()].map(([id]) => id).sort()).toEqual([...whole.networks()].map(([id]) => id).sort());
        for (const [id, known] of whole.networks()) {
          expect(Object.fromEntries(facts.network(id)?.endpoints ?? [])).toEqual(Object.fromEntries(known.endpoints));
          expect(Object.fromEntries(facts.network(id)?.services ?? [])).toEqual(Object.fromEntries(known.services));
        }
      }),
    );
  });
});

test('an address handed on keeps its new place when its old owner goes later', () => {
  const facts = new Facts('me');
  const at = (taskId: string, node: string): AssignmentChange => ({
    kind: 'endpoint',
    key: `a/${taskId}`,
    value: {
      networkId: 'a',
      taskId,
      serviceId: 's',
      slot: 1,
      nodeId: node,
      address: '10.1.1.1',
      dataPathAddress: node,
      serving: true,
      aliases: [],
    },
  });
  facts.apply(at('old', '192.168.0.2'));
  facts.apply(at('new', '192.168.0.3'));
  facts.apply({ kind: 'endpoint', key: 'a/old', value: null });
  expect(facts.network('a')?.remotes.get('10.1.1.1')).toBe('192.168.0.3');
});
