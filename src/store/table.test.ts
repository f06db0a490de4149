import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Task } from '../model/objects.ts';
import { TaskState } from '../model/states.ts';
import { INDEXES, type IndexName } from './schema.ts';
import { Table } from './table.ts';

const id = fc.constantFrom('a', 'b', 'c');
const row = fc.record({
  id,
  serviceId: fc.constantFrom('s1', 's2'),
  specVersion: fc.nat(1),
  slot: fc.nat(2),
  nodeId: fc.constantFrom('', 'n1', 'n2'),
  networks: fc.uniqueArray(fc.constantFrom('x', 'y')),
  state: fc.constantFrom(TaskState.PENDING, TaskState.RUNNING),
});
const step = fc.oneof(
  { weight: 4, arbitrary: row.map((put) => ({ put })) },
  { weight: 1, arbitrary: id.map((gone) => ({ gone })) },
  // As most writes are: of the row that is there, one field.
  { weight: 3, arbitrary: fc.tuple(id, fc.constantFrom('n1', 'n2')).map(([moved, nodeId]) => ({ moved, nodeId })) },
);

test('every index finds what its keys say of the rows, whatever was put, put again, and taken away', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const table = new Table('tasks');
      const model = new Map<string, Task>();
      const put = (task: Task) => {
        table.put(task);
        model.set(task.id, task);
      };
      for (const each of steps) {
        if ('gone' in each) {
          table.delete(each.gone);
          model.delete(each.gone);
        } else if ('put' in each) {
          const networks = each.put.networks.map((networkId) => ({ networkId, address: '', aliases: [] }));
          put({ ...each.put, networks } as unknown as Task);
        } else {
          const old = model.get(each.moved);
          if (old !== undefined) put({ ...old, nodeId: each.nodeId });
        }
      }
      expect(new Set(table.values())).toEqual(new Set(model.values()));
      for (const [name, index] of Object.entries(INDEXES.tasks) as [
        IndexName<'tasks'>,
        (typeof INDEXES.tasks)['slot'],
      ][]) {
        const byKey = Map.groupBy(
          [...model.values()].flatMap((task) => [index.keys(task) ?? []].flat().map((key) => ({ key, task }))),
          ({ key }) => key,
        );
        expect(new Set(table.keysOf(name))).toEqual(new Set(byKey.keys()));
        for (const key of [...byKey.keys(), 's1', 's2', 'n1', 'n2', 'x', 'y', 's1/1', 's2/n2', 's1@0']) {
          const found = (byKey.get(key) ?? []).map(({ task }) => task);
          expect(new Set(table.under(name, key))).toEqual(new Set(found));
          expect(table.countUnder(name, key)).toBe(found.length);
        }
      }
    }),
  );
});
