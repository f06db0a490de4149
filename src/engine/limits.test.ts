import { expect, test } from 'vitest';
import type { GenericResource, ResourceRequirements } from '../model/specs.ts';
import { limitsBody, resourceEnvironment } from './limits.ts';

test.each<[string, ResourceRequirements, object]>([
  ['nothing', {}, {}],
  [
    'processors, memory, pids',
    { Limits: { NanoCPUs: 5e8, MemoryBytes: 10, Pids: 7 } },
    { NanoCpus: 5e8, Memory: 10, PidsLimit: 7 },
  ],
  ['no limit of pids', { Limits: { Pids: 0 } }, {}],
  ['a reservation', { Reservations: { MemoryBytes: 5, NanoCPUs: 1e8 } }, { MemoryReservation: 5 }],
  [
    'a reservation above the limit',
    { Limits: { MemoryBytes: 10 }, Reservations: { MemoryBytes: 20 } },
    { Memory: 10, MemoryReservation: 10 },
  ],
  ['swap comes on top of memory', { Limits: { MemoryBytes: 10 }, SwapBytes: 5 }, { Memory: 10, MemorySwap: 15 }],
  ['no swap', { Limits: { MemoryBytes: 10 }, SwapBytes: 0 }, { Memory: 10, MemorySwap: 10 }],
  ['all swap', { Limits: { MemoryBytes: 10 }, SwapBytes: -1 }, { Memory: 10, MemorySwap: -1 }],
  ['swappiness', { MemorySwappiness: 0 }, { MemorySwappiness: 0 }],
  ['swappiness as the host has it', { MemorySwappiness: -1, SwapBytes: null }, {}],
])('limits: %s', (_, resources, body) => {
  expect(limitsBody(resources)).toEqual(body);
});

test('swap without a limit of memory is refused', () => {
  expect(() => limitsBody({ SwapBytes: 1 })).toThrow('memory swap provided, but no memory-limit was set');
});

const named = (Kind: string, Value: string): GenericResource => ({ NamedResourceSpec: { Kind, Value } });
const amount = (Kind: string, Value: number): GenericResource => ({ DiscreteResourceSpec: { Kind, Value } });

test.each<[GenericResource[] | undefined, string[]]>([
  [undefined, []],
  [[amount('ssd', 3)], ['DOCKER_RESOURCE_SSD=3']],
  [
    [named('gpu', 'UUID1'), amount('licence', 1), named('gpu', 'UUID2')],
    ['DOCKER_RESOURCE_GPU=UUID1,UUID2', 'DOCKER_RESOURCE_LICENCE=1'],
  ],
])('generic resources as environment: %j', (resources, environment) => {
  expect(resourceEnvironment(resources)).toEqual(environment);
});
