/** What a service's spec asks of a node, read once per spec version and shared by all its tasks. Pure. */
import { ConstraintError, parseConstraints, type Constraint } from '../../model/constraints.ts';
import type { GenericResource, Platform, ServiceSpec } from '../../model/specs.ts';
import { demandsOf, type Demand } from './generic.ts';
import { pluginsOf, type DriverOf, type Plugin } from './plugins.ts';
import { spreadsOf, type Spread } from './preferences.ts';

export interface Requirements {
  nanoCpus: number;
  memoryBytes: number;
  generic: readonly Demand[];
  plugins: readonly Plugin[];
  constraints: readonly Constraint[];
  platforms: readonly Platform[];
  /** `protocol/port`, each once. */
  hostPorts: readonly string[];
  /** 0: no limit. */
  maxReplicas: number;
  /** Not asked, but preferred. */
  spreads: readonly Spread[];
}

export function requirementsOf(spec: ServiceSpec, driverOf: DriverOf): Requirements {
  const { Resources, Placement } = spec.TaskTemplate;
  const hostPorts = (spec.EndpointSpec?.Ports ?? [])
    .filter((port) => port.PublishMode === 'host' && (port.PublishedPort ?? 0) > 0)
    .map((port) => `${port.Protocol ?? 'tcp'}/${port.PublishedPort}`);
  return {
    nanoCpus: Resources?.Reservations?.NanoCPUs ?? 0,
    memoryBytes: Resources?.Reservations?.MemoryBytes ?? 0,
    generic: demandsOf((Resources?.Reservations?.GenericResources ?? []) as GenericResource[]),
    plugins: pluginsOf(spec.TaskTemplate, driverOf),
    constraints: readConstraints(Placement?.Constraints ?? []),
    platforms: Placement?.Platforms ?? [],
    hostPorts: [...new Set(hostPorts)],
    maxReplicas: Placement?.MaxReplicas ?? 0,
    spreads: spreadsOf(Placement),
  };
}

/** The API refuses nonsense; should some be stored all the same, no node meets it, and the task says so. */
function readConstraints(expressions: readonly string[]): Constraint[] {
  try {
    return parseConstraints(expressions);
  } catch (error) {
    if (!(error instanceof ConstraintError)) throw error;
    return [{ key: '', operator: '==', value: '' }];
  }
}
