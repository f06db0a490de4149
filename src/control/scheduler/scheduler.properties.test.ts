import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { serviceSpecId, type Service, type Task } from '../../model/objects.ts';
import type { GenericResource } from '../../model/specs.ts';
import { TaskState, isTerminal } from '../../model/states.ts';
import type { View } from '../../store/store.ts';
import { usageOf } from './generic.ts';
import { NodeSet } from './node-set.ts';
import { requirementsOf } from './requirements.ts';
import { nodeRow, serviceSpec, taskRow } from './rows.fixture.ts';
import { ids, setUp } from './scheduler.fixture.ts';

describe('properties', () => {
  test('where all nodes fit, no node has two tasks more of a service than another, however they come', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 9 }),
        fc.array(fc.integer({ min: 1, max: 20 }), { maxLength: 5 }),
        async (nodes, batches) => {
          const { addService, addTasks, run, store } = await setUp(ids(nodes, 'n').map((id) => nodeRow(id)));
          const services = [await addService(serviceSpec('a')), await addService(serviceSpec('b'))];
          for (const [i, count] of batches.entries()) {
            await addTasks(services[i % 2]!, ids(count, `b${i}-`));
            await run();
            for (const service of services) {
              const counts = ids(nodes, 'n').map((id) =>
                store.view((view) => view.tasks.by('node', id).filter((t) => t.serviceId === service.id).length),
              );
              expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
            }
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  const shape = fc.record({
    cpu: fc.constantFrom(0, 1e9, 3e9),
    memory: fc.constantFrom(0, 2e9, 5e9),
    port: fc.constantFrom(0, 80, 443),
    maxReplicas: fc.constantFrom(0, 1, 2),
    zone: fc.constantFrom('', 'a', 'b'),
    gpus: fc.constantFrom(0, 0, 1, 2),
    licences: fc.constantFrom(0, 0, 1),
    spread: fc.boolean(),
  });
  const step = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant('tasks' as const),
        service: fc.nat(3),
        count: fc.integer({ min: 1, max: 4 }),
      }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('end' as const), pick: fc.nat(99) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('remove' as const), pick: fc.nat(99) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('unwant' as const), pick: fc.nat(99) }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('node' as const),
        node: fc.nat(3),
        drain: fc.boolean(),
        zone: fc.constantFrom('a', 'b'),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('nodeGone' as const), node: fc.nat(3) }) },
  );

  test('figures equal a slow count, no node is overfull, and nothing waits that would fit', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(shape, { minLength: 4, maxLength: 4 }),
        fc.array(step, { maxLength: 30 }),
        async (shapes, steps) => {
          const { addService, run, store, scheduler } = await setUp();
          const services: Service[] = [];
          for (const [i, s] of shapes.entries()) {
            services.push(
              await addService(
                serviceSpec(`s${i}`, {
                  TaskTemplate: {
                    Resources: {
                      Reservations: {
                        NanoCPUs: s.cpu,
                        MemoryBytes: s.memory,
                        GenericResources: [
                          { DiscreteResourceSpec: { Kind: 'gpu', Value: s.gpus } },
                          { DiscreteResourceSpec: { Kind: 'licence', Value: s.licences } },
                        ],
                      },
                    },
                    Placement: {
                      MaxReplicas: s.maxReplicas,
                      Constraints: s.zone ? [`node.labels.zone==${s.zone}`] : [],
                      Preferences: s.spread ? [{ Spread: { SpreadDescriptor: 'node.labels.zone' } }] : [],
                    },
                  },
                  EndpointSpec: {
                    Ports: s.port ? [{ TargetPort: 1, PublishedPort: s.port, PublishMode: 'host' }] : [],
                  },
                }),
              ),
            );
          }
          let next = 0;
          for (const [at, s] of steps.entries()) {
            await store.update((tx) => {
              const tasks = [...tx.tasks.all()];
              const picked: Task | undefined = 'pick' in s ? tasks[s.pick % Math.max(1, tasks.length)] : undefined;
              if (s.kind === 'tasks') {
                for (let i = 0; i < s.count; i++)
                  tx.tasks.create(taskRow(`t${next++}`, services[s.service]!, { state: TaskState.PENDING }));
              } else if (s.kind === 'node') {
                const row = nodeRow(`n${s.node}`, {
                  spec: { Availability: s.drain ? 'drain' : 'active', Labels: { zone: s.zone } },
                  description: { resources: { nanoCpus: 4e9, memoryBytes: 8e9, generic: OFFERED } },
                });
                if (tx.nodes.get(row.id) === undefined) tx.nodes.create(row);
                else tx.nodes.update(row);
              } else if (s.kind === 'nodeGone') {
                // As `node rm` does: the tasks of the node end with it.
                if (tx.nodes.get(`n${s.node}`) !== undefined) tx.nodes.remove(`n${s.node}`);
                for (const task of tx.tasks.by('node', `n${s.node}`)) {
                  tx.tasks.update({ ...task, status: { ...task.status, state: TaskState.ORPHANED } });
                }
              } else if (picked !== undefined && s.kind === 'remove') tx.tasks.remove(picked.id);
              else if (picked !== undefined && s.kind === 'unwant')
                tx.tasks.update({ ...picked, desiredState: TaskState.SHUTDOWN });
              else if (picked !== undefined && picked.nodeId !== '' && s.kind === 'end') {
                tx.tasks.update({ ...picked, status: { ...picked.status, state: TaskState.FAILED } });
              }
            });
            // Not after each step: some meet the scheduler in one batch.
            if (at % 3 !== 0) await run();
          }
          await run();
          store.view((view) => {
            expect(scheduler.nodes.contents().nodes).toEqual(countSlowly(view));
            const fresh = new NodeSet();
            fresh.rebuild(view);
            expect(scheduler.nodes.contents()).toEqual(fresh.contents());
            expectSound(view);
          });
        },
      ),
      { numRuns: 150 },
    );
  });
});

/** What each node of the property below offers. */
const OFFERED: GenericResource[] = [
  { NamedResourceSpec: { Kind: 'gpu', Value: 'a' } },
  { NamedResourceSpec: { Kind: 'gpu', Value: 'b' } },
  { DiscreteResourceSpec: { Kind: 'licence', Value: 2 } },
];

function requirements(view: View, task: Task) {
  return requirementsOf(view.serviceSpecs.get(serviceSpecId(task.serviceId, task.specVersion))!.spec, () => undefined);
}

const uses = (task: Task) => task.status.state >= TaskState.ASSIGNED && !isTerminal(task.status.state);
const wants = (task: Task) => task.desiredState <= TaskState.RUNNING;

/** The oracle: what `NodeSet.contents` is to say, counted from the rows. */
function countSlowly(view: View) {
  const nodes = [...view.nodes.all()].sort((a, b) => (a.id < b.id ? -1 : 1));
  return nodes.map((node) => {
    const tasks = [...view.tasks.all()].filter((task) => task.nodeId === node.id && uses(task));
    const tally = (keys: string[]) =>
      [...new Set(keys)].sort().map((key) => [key, keys.filter((other) => other === key).length]);
    const sum = (of: (task: Task) => number) => tasks.reduce((total, task) => total + of(task), 0);
    const generic = new Map<string, number>();
    for (const [key, amount] of tasks.flatMap((task) => usageOf(task.genericResources ?? []))) {
      generic.set(key, (generic.get(key) ?? 0) + amount);
    }
    return {
      id: node.id,
      nanoCpus: sum((task) => requirements(view, task).nanoCpus),
      memoryBytes: sum((task) => requirements(view, task).memoryBytes),
      tasks: tasks.filter(wants).length,
      hostPorts: tally(tasks.flatMap((task) => [...requirements(view, task).hostPorts])),
      generic: [...generic].sort(([a], [b]) => (a < b ? -1 : 1)),
      services: tally(tasks.filter(wants).map((task) => task.serviceId)),
    };
  });
}

/** Each node has two of each kind; of what has a name the things count, not the kind. */
function usedOf(generic: [string, number][], kind: string): number {
  return generic.filter(([key]) => key.split('=')[0] === kind).reduce((sum, [, amount]) => sum + amount, 0);
}

function expectSound(view: View): void {
  const state = new Map(countSlowly(view).map((figures) => [figures.id, figures]));
  for (const figures of state.values()) {
    expect(figures.nanoCpus).toBeLessThanOrEqual(4e9);
    expect(figures.memoryBytes).toBeLessThanOrEqual(8e9);
    for (const [, count] of figures.hostPorts) expect(count).toBe(1);
    for (const [key, amount] of figures.generic) expect(amount).toBeLessThanOrEqual(key === 'licence' ? 2 : 1);
  }
  for (const task of view.tasks.all()) {
    if (uses(task)) {
      const { generic } = requirements(view, task);
      const given = new Map<string, number>();
      for (const [key, amount] of usageOf(task.genericResources ?? [])) {
        const [kind = ''] = key.split('=');
        given.set(kind, (given.get(kind) ?? 0) + amount);
      }
      expect([...given]).toEqual(generic.map(({ kind, amount }) => [kind, amount]));
    }
    if (task.status.state !== TaskState.PENDING || !wants(task)) continue;
    expect(task.status.error).toMatch(/^no suitable node/);
    const wanted = requirements(view, task);
    const fitting = [...view.nodes.all()].filter((node) => {
      const figures = state.get(node.id)!;
      const replicas = Number(figures.services.find(([id]) => id === task.serviceId)?.[1] ?? 0);
      return (
        node.spec.Availability === 'active' &&
        figures.nanoCpus + wanted.nanoCpus <= 4e9 &&
        figures.memoryBytes + wanted.memoryBytes <= 8e9 &&
        wanted.generic.every(({ kind, amount }) => amount <= 2 - usedOf(figures.generic, kind)) &&
        wanted.constraints.every(({ value }) => node.spec.Labels['zone'] === value) &&
        wanted.hostPorts.every((port) => !figures.hostPorts.some(([used]) => used === port)) &&
        (wanted.maxReplicas === 0 || replicas < wanted.maxReplicas)
      );
    });
    expect(fitting.map((node) => node.id)).toEqual([]);
  }
}
