import { expect, test } from 'vitest';
import { isTaskDirty } from './dirty.ts';
import type { ServiceSpec } from './specs.ts';

const BASE: ServiceSpec = {
  Name: 'web',
  Labels: {},
  Mode: { Replicated: { Replicas: 2 } },
  TaskTemplate: {
    ContainerSpec: { Image: 'v1', Env: ['A=1', 'B=2'] },
    Placement: { Constraints: ['node.role==worker'] },
  },
  EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 8080 }] },
};
const template = (change: ServiceSpec['TaskTemplate']): ServiceSpec => ({
  ...BASE,
  TaskTemplate: { ...BASE.TaskTemplate, ...change },
});
const container = (change: object): ServiceSpec =>
  template({ ContainerSpec: { ...BASE.TaskTemplate.ContainerSpec!, ...change } });

function dirty(after: ServiceSpec, fits = false, version = 2): boolean {
  return isTaskDirty({ specVersion: 1 }, BASE, { spec: after, specVersion: version }, () => fits);
}

test.each<[string, ServiceSpec]>([
  ['the same in another order', Object.fromEntries(Object.entries(BASE).reverse()) as unknown as ServiceSpec],
  ['name and labels', { ...BASE, Name: 'other', Labels: { a: '' } }],
  ['replicas', { ...BASE, Mode: { Replicated: { Replicas: 9 } } }],
  ['how to update', { ...BASE, UpdateConfig: { Parallelism: 3 } }],
  [
    'defaults said',
    template({ RestartPolicy: { Condition: 'any', Delay: 5e9, MaxAttempts: 0 }, ForceUpdate: 0, Runtime: 'container' }),
  ],
  ['nothing said in other words', template({ Resources: { Limits: {}, Reservations: {} }, Networks: [] })],
  ['nothing said of the container', container({ Labels: {}, Init: null, StopGracePeriod: 10e9, Isolation: 'default' })],
  ['how the image is fetched', container({ PullOptions: { RegistryAuth: 'x' } })],
  [
    'port defaults said',
    {
      ...BASE,
      EndpointSpec: {
        Mode: 'vip',
        Ports: [{ Protocol: 'tcp', TargetPort: 80, PublishedPort: 8080, PublishMode: 'ingress' }],
      },
    },
  ],
])('not dirty: %s', (_, after) => expect(dirty(after)).toBe(false));

test.each<[string, ServiceSpec]>([
  ['image', container({ Image: 'v2' })],
  ['order of the environment', container({ Env: ['B=2', 'A=1'] })],
  ['a label with no value', container({ Labels: { a: '' } })],
  ['init off', container({ Init: false })],
  ['force', template({ ForceUpdate: 1 })],
  ['restart policy', template({ RestartPolicy: { Condition: 'none' } })],
  ['grace', container({ StopGracePeriod: 0 })],
  ['networks', template({ Networks: [{ Target: 'n' }] })],
  ['endpoint mode', { ...BASE, EndpointSpec: { ...BASE.EndpointSpec, Mode: 'dnsrr' } }],
  ['ports', { ...BASE, EndpointSpec: {} }],
])('dirty: %s', (_, after) => expect(dirty(after, true)).toBe(true));

test('a placement alone counts only if the node does not fit it, and nothing counts within one version', () => {
  const moved = template({ Placement: { Constraints: ['node.role==manager'] } });
  expect([dirty(moved, true), dirty(moved, false), dirty(moved, false, 1)]).toEqual([false, true, false]);
});
