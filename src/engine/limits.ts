/** What a task may use of its host, in the words of the Engine API. Reservations bind the scheduler, not the engine. */
import type { HostConfigBody } from '../docker/types.ts';
import type { GenericResource, ResourceRequirements } from '../model/specs.ts';
import { UnsupportedTask } from './unsupported.ts';

type LimitsBody = Pick<
  HostConfigBody,
  'NanoCpus' | 'Memory' | 'MemoryReservation' | 'MemorySwap' | 'MemorySwappiness' | 'PidsLimit'
>;

/** Docker's word for "as the host has it", and for "as much as there is". */
const NONE_SET = -1;

/** @throws UnsupportedTask */
export function limitsBody(resources: ResourceRequirements = {}): LimitsBody {
  const { Limits: limits, Reservations: reservations, MemorySwappiness: swappiness } = resources;
  return {
    NanoCpus: limits?.NanoCPUs,
    Memory: limits?.MemoryBytes,
    MemoryReservation: softMemoryLimit(limits?.MemoryBytes, reservations?.MemoryBytes),
    MemorySwap: memoryAndSwap(limits?.MemoryBytes, resources.SwapBytes),
    MemorySwappiness: swappiness === null || swappiness === NONE_SET ? undefined : swappiness,
    PidsLimit: (limits?.Pids ?? 0) > 0 ? limits?.Pids : undefined,
  };
}

/** What is reserved, but no more than the limit: engines refuse that, and Swarm's users may have declared it. */
function softMemoryLimit(limit: number | undefined, reserved: number | undefined): number | undefined {
  return limit && reserved ? Math.min(limit, reserved) : reserved;
}

/** Services say how much swap, the engine wants memory and swap together, bytes; -1 is no limit to either. */
function memoryAndSwap(memory: number | undefined, swap: number | null | undefined): number | undefined {
  if (swap === undefined || swap === null) return undefined;
  if (!memory) throw new UnsupportedTask('memory swap provided, but no memory-limit was set');
  return swap === NONE_SET ? NONE_SET : memory + swap;
}

/** `DOCKER_RESOURCE_<KIND>=<id>,<id>` (or an amount) for each kind of what the task was given, as in Swarm. */
export function resourceEnvironment(resources: readonly GenericResource[] = []): string[] {
  const byKind = new Map<string, string[]>();
  for (const { NamedResourceSpec: named, DiscreteResourceSpec: discrete } of resources) {
    const one = named ?? discrete;
    if (one === undefined) continue;
    const kind = one.Kind.toUpperCase();
    byKind.set(kind, [...(byKind.get(kind) ?? []), String(one.Value)]);
  }
  return [...byKind].map(([kind, values]) => `DOCKER_RESOURCE_${kind}=${values.join(',')}`);
}
