import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import type { AssignmentChange, TaskAssignment } from '../model/assignments.ts';
import { TaskState } from '../model/states.ts';
import { factText } from './fact-text.ts';

const labels = fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 });
const task = fc.record<TaskAssignment>(
  {
    id: fc.string(),
    environment: fc.string(),
    serviceId: fc.string(),
    serviceName: fc.string({ unit: 'grapheme' }),
    serviceLabels: labels,
    slot: fc.nat(),
    jobIteration: fc.nat(),
    nodeId: fc.string(),
    desiredState: fc.constantFrom(TaskState.RUNNING, TaskState.SHUTDOWN),
    balanced: fc.constant(true),
    drainMs: fc.nat(),
    spec: fc.record({ ContainerSpec: fc.record({ Image: fc.string({ unit: 'binary' }), Env: fc.array(fc.string()) }) }),
    networks: fc.array(fc.record({ networkId: fc.string(), address: fc.string(), aliases: fc.array(fc.string()) })),
    hostPorts: fc.constant([]),
    status: fc.record({ timestamp: fc.string(), state: fc.constant(TaskState.RUNNING), message: fc.string() }),
  },
  {
    requiredKeys: [
      'id',
      'environment',
      'serviceId',
      'serviceName',
      'serviceLabels',
      'slot',
      'nodeId',
      'desiredState',
      'spec',
      'networks',
      'hostPorts',
      'status',
    ],
  },
);
const change = (value: TaskAssignment | null, key = 'k'): AssignmentChange => ({ kind: 'task', key, value });
const heard = (text: string): unknown => JSON.parse(text);

test('a task says what JSON.stringify says of it, the first time and with what is remembered', () => {
  fc.assert(
    fc.property(task, fc.string(), (value, key) => {
      const plain = heard(JSON.stringify(change(value, key)));
      expect(heard(factText(change(value, key)))).toEqual(plain);
      expect(heard(factText(change({ ...value }, key)))).toEqual(plain);
    }),
  );
});

test('what is taken away, and every other kind, is the text of JSON.stringify', () => {
  const peer: AssignmentChange = {
    kind: 'peer',
    key: 'n/m',
    value: { networkId: 'n', nodeId: 'm', gateway: '10.0.0.2', dataPathAddress: '10.1.0.2' },
  };
  for (const one of [change(null), peer]) expect(factText(one)).toBe(JSON.stringify(one));
});

test('a spec is written out once for all its tasks, and another spec is another text', () => {
  const [first, second] = fc.sample(task, 2) as [TaskAssignment, TaskAssignment];
  const spec = { ContainerSpec: { Image: 'only-here' } };
  const stringify = vi.spyOn(JSON, 'stringify');
  try {
    const texts = [first, second].map((one) => factText(change({ ...one, spec })));
    expect(stringify.mock.calls.filter(([value]) => value === spec)).toHaveLength(1);
    for (const text of texts) expect(heard(text)).toMatchObject({ value: { spec } });
    const moved = { ContainerSpec: { Image: 'moved' } };
    expect(heard(factText(change({ ...first, spec: moved })))).toMatchObject({ value: { spec: moved } });
  } finally {
    stringify.mockRestore();
  }
});
