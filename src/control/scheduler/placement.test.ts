import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MemoryJournal } from '../../journal/memory.ts';
import type { Node, Task } from '../../model/objects.ts';
import type { Placement } from '../../model/specs.ts';
import { TaskState } from '../../model/states.ts';
import { Store } from '../../store/store.ts';
import { ChangeLog } from './change-log.ts';
import { NodeSet, type NodeInfo } from './node-set.ts';
import { spread } from './placement.ts';
import { branchesOf, spreadsOf } from './preferences.ts';
import { Rankings } from './ranking.ts';
import { nodeRow, serviceRow, serviceSpec, specRow, taskRow } from './rows.fixture.ts';

const prefer = (...descriptors: string[]): Placement => ({
  Preferences: descriptors.map((SpreadDescriptor) => ({ Spread: { SpreadDescriptor } })),
});

test.each<[string, string[], string[]]>([
  ['no preference', [], []],
  ['labels of node and engine', ['node.labels.zone', 'ENGINE.labels.disk'], ['east', 'ssd']],
  ['a missing label is a branch of its own', ['node.labels.rack', 'node.labels.zone'], ['', 'east']],
  ['what names no label is passed over', ['node.hostname', 'node.labels.', 'node.labels.zone'], ['east']],
])('branches: %s', (_, descriptors, branches) => {
  const node = nodeRow('a', {
    spec: { Labels: { zone: 'east' } },
    description: { engine: { version: '', labels: { disk: 'ssd' }, plugins: [] } },
  });
  expect(branchesOf(node, spreadsOf(prefer(...descriptors)))).toEqual(branches);
});

test('the log names each slot that changed since a moment once, newest first', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(6), { maxLength: 40 }), fc.nat(40), (touches, after) => {
      const log = new ChangeLog();
      const known = new Set<number>();
      const slots = touches.map((slot) => (slot <= known.size ? slot : known.size));
      const moments = slots.map((slot) => {
        log.touch(slot);
        known.add(slot);
        return log.now;
      });
      const since = slots.slice(after);
      expect(log.since(moments[after - 1] ?? (after === 0 ? 0 : log.now))).toEqual([...new Set(since.reverse())]);
    }),
  );
});

const nodeShape = fc.record({
  zone: fc.constantFrom('a', 'b', 'c'),
  rack: fc.constantFrom(undefined, '1', '2'),
  drained: fc.boolean(),
  /** How many tasks of 1 GB fit in all. */
  room: fc.integer({ min: 0, max: 6 }),
  /** Tasks it begins with: of the service, and of another one. */
  own: fc.nat(2),
  other: fc.nat(3),
  failures: fc.constantFrom(0, 0, 0, 5, 7),
});
const preferences = fc.constantFrom<string[]>([], ['node.labels.zone'], ['node.labels.zone', 'node.labels.rack']);

describe('spread', () => {
  test('each task goes where the rules say, for one task after another and for many at once', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(nodeShape, { minLength: 1, maxLength: 8 }),
        preferences,
        fc.constantFrom(0, 0, 3),
        fc.array(fc.record({ count: fc.integer({ min: 1, max: 9 }), goes: fc.nat(9) }), { minLength: 1, maxLength: 5 }),
        fc.boolean(),
        async (shapes, descriptors, maxReplicas, batches, alone) => {
          const reserved = { Resources: { Reservations: { MemoryBytes: 1e9 } } };
          const placement = { ...prefer(...descriptors), MaxReplicas: maxReplicas };
          const web = serviceRow('web', serviceSpec('web', { TaskTemplate: { ...reserved, Placement: placement } }));
          const other = serviceRow('other', serviceSpec('other'));
          const store = await Store.open(new MemoryJournal());
          await store.update((tx) => {
            for (const service of [web, other]) tx.serviceSpecs.create(specRow(service));
            for (const [i, shape] of shapes.entries()) {
              const { zone, rack, room } = shape;
              tx.nodes.create(
                nodeRow(`n${i}`, {
                  spec: {
                    Labels: { zone, ...(rack === undefined ? {} : { rack }) },
                    Availability: shape.drained ? 'drain' : 'active',
                  },
                  description: { resources: { nanoCpus: 0, memoryBytes: room * 1e9 } },
                }),
              );
              const place = { nodeId: `n${i}`, state: TaskState.RUNNING };
              for (let k = 0; k < shape.own; k++) tx.tasks.create(taskRow(`w${i}-${k}`, web, place));
              for (let k = 0; k < shape.other; k++) tx.tasks.create(taskRow(`o${i}-${k}`, other, place));
            }
          });
          const nodes = new NodeSet();
          store.view((view) => nodes.rebuild(view));
          const rankings = new Rankings(nodes);
          const rows = shapes.map((_, i) => nodes.get(`n${i}`)!);
          const failures = new Map(shapes.map(({ failures: count }, i) => [`n${i}`, count]));
          const failing = new Map([...failures].filter(([, count]) => count >= 5));
          const replicas = (info: NodeInfo) => nodes.replicas('web').get(info.slot) ?? 0;
          const fits = (info: NodeInfo) =>
            info.node.spec.Availability === 'active' &&
            info.memoryBytes + 1e9 <= info.node.description!.resources.memoryBytes &&
            (maxReplicas === 0 || replicas(info) < maxReplicas);

          /** The nodes any of which the rules allow now. */
          const best = (): NodeInfo[] => {
            let left = rows.filter(fits);
            for (const descriptor of descriptors) {
              const label = ({ spec }: Node) => spec.Labels[descriptor.slice('node.labels.'.length)] ?? '';
              // Branches are compared within the one chosen before; among equal ones any may be.
              const within = new Set(left.map(({ node }) => outer(node, descriptor)));
              const all = rows.filter(({ node }) => within.has(outer(node, descriptor)));
              left = leastBy(
                left,
                (info) => {
                  const same = all.filter(
                    ({ node }) =>
                      label(node) === label(info.node) && outer(node, descriptor) === outer(info.node, descriptor),
                  );
                  return same.reduce((sum, each) => sum + replicas(each), 0);
                },
                ({ node }) => outer(node, descriptor),
              );
            }
            const byBranch = (info: NodeInfo) =>
              JSON.stringify(branchesOf(info.node, spreadsOf(prefer(...descriptors))));
            left = leastBy(left, ({ node }) => failing.get(node.id) ?? 0, byBranch);
            left = leastBy(left, replicas, byBranch);
            return leastBy(left, ({ tasks }) => tasks, byBranch);
          };
          const outer = (node: Node, descriptor: string) => {
            const at = descriptors.indexOf(descriptor);
            return JSON.stringify(branchesOf(node, spreadsOf(prefer(...descriptors.slice(0, at)))));
          };

          const pending = taskRow('pending', web, { state: TaskState.PENDING });
          store.view((view) => nodes.applyTask(undefined, pending, view));
          const needs = nodes.needs.of(pending);
          const there: Task[] = [];
          let next = 0;
          for (const { count, goes } of batches) {
            const ranking = rankings.get(needs, alone);
            let placed = 0;
            const batch = { serviceId: 'web', spreads: needs.wanted.spreads, maxReplicas, ranking, failing, count };
            spread(
              batch,
              nodes,
              () => 0.5,
              (info) => {
                expect(best().map(({ node }) => node.id)).toContain(info.node.id);
                const task = taskRow(`p${next++}`, web);
                nodes.assume(task, info);
                there.push(task);
                placed += 1;
              },
            );
            if (placed < count) expect(rows.filter(fits)).toEqual([]);
            for (const task of there.splice(0, goes)) expect(nodes.retract(task)).toBe(true);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});

/** Within each group, the items with the least figure. */
function leastBy<T>(items: readonly T[], figure: (item: T) => number, groupOf: (item: T) => string): T[] {
  return [...Map.groupBy(items, groupOf).values()].flatMap((group) => {
    const least = Math.min(...group.map(figure));
    return group.filter((item) => figure(item) === least);
  });
}
