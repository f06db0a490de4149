/**
 * Whether a node can take a task, and why not. Pure. The order of the filters and the words are SwarmKit's, but for
 * resources, where the one that lacks is named.
 */
import type { Node } from '../../model/objects.ts';
import { nodeMatches } from './constraints.ts';
import { hasEnough, type GenericUsage } from './generic.ts';
import { platformFits } from './platform.ts';
import { pluginsFit } from './plugins.ts';
import type { Requirements } from './requirements.ts';

/** What is in use on a node by the tasks it has. */
export interface Usage {
  nanoCpus: number;
  memoryBytes: number;
  /** `protocol/port` → how many tasks have it. */
  hostPorts: ReadonlyMap<string, number>;
  generic: GenericUsage;
}

export const Verdict = {
  /** There is no such node. */
  ABSENT: 0,
  FITS: 1,
  UNAVAILABLE: 2,
  CPU: 3,
  MEMORY: 4,
  GENERIC: 5,
  PLUGIN: 6,
  CONSTRAINT: 7,
  PLATFORM: 8,
  HOST_PORT: 9,
  MAX_REPLICAS: 10,
} as const;

export type Verdict = (typeof Verdict)[keyof typeof Verdict];

const VERDICTS = Object.values(Verdict);

/**
 * `replicas`: tasks of the same service that the node has and that are wanted. `kind`: what `judgeKind` says, if the
 * caller knows.
 */
export function judge(
  wanted: Requirements,
  node: Node,
  usage: Usage,
  replicas: number,
  kind: () => Verdict = () => judgeKind(wanted, node),
): Verdict {
  if (!isAvailable(node)) return Verdict.UNAVAILABLE;
  const total = node.description?.resources;
  if (wanted.nanoCpus > 0 && usage.nanoCpus + wanted.nanoCpus > (total?.nanoCpus ?? 0)) return Verdict.CPU;
  if (wanted.memoryBytes > 0 && usage.memoryBytes + wanted.memoryBytes > (total?.memoryBytes ?? 0))
    return Verdict.MEMORY;
  if (wanted.generic.length > 0 && !hasEnough(wanted.generic, total?.generic ?? [], usage.generic))
    return Verdict.GENERIC;
  const byKind = kind();
  if (byKind !== Verdict.FITS) return byKind;
  if (wanted.hostPorts.length > 0 && wanted.hostPorts.some((port) => usage.hostPorts.has(port)))
    return Verdict.HOST_PORT;
  if (wanted.maxReplicas > 0 && replicas >= wanted.maxReplicas) return Verdict.MAX_REPLICAS;
  return Verdict.FITS;
}

/** The filters that look at what kind of node it is, and not at what it is doing. */
export function judgeKind(wanted: Requirements, node: Node): Verdict {
  if (!pluginsFit(wanted.plugins, node)) return Verdict.PLUGIN;
  if (!nodeMatches(wanted.constraints, node)) return Verdict.CONSTRAINT;
  if (!platformFits(wanted.platforms, node.description?.platform)) return Verdict.PLATFORM;
  return Verdict.FITS;
}

/** True if the node takes new tasks at all. */
export function isAvailable(node: Node): boolean {
  return node.status.state === 'ready' && node.spec.Availability === 'active';
}

/** Why no node fits, from how many nodes got each verdict: most frequent first, else in the filters' order. */
export function explain(counts: readonly number[]): string {
  const reasons = VERDICTS.filter((verdict) => verdict > Verdict.FITS && (counts[verdict] ?? 0) > 0)
    .sort((a, b) => counts[b]! - counts[a]!)
    .map((verdict) => reason(verdict, counts[verdict]!));
  return reasons.length === 0 ? 'no suitable node' : `no suitable node (${reasons.join('; ')})`;
}

function reason(verdict: Verdict, count: number): string {
  const nodes = count === 1 ? '1 node' : `${count} nodes`;
  switch (verdict) {
    case Verdict.UNAVAILABLE:
      return `${nodes} not available for new tasks`;
    case Verdict.CPU:
      return `insufficient CPU on ${nodes}`;
    case Verdict.MEMORY:
      return `insufficient memory on ${nodes}`;
    case Verdict.GENERIC:
      return `insufficient generic resources on ${nodes}`;
    case Verdict.PLUGIN:
      return `missing plugin on ${nodes}`;
    case Verdict.CONSTRAINT:
      return `scheduling constraints not satisfied on ${nodes}`;
    case Verdict.PLATFORM:
      return `unsupported platform on ${nodes}`;
    case Verdict.HOST_PORT:
      return `host-mode port already in use on ${nodes}`;
    case Verdict.MAX_REPLICAS:
      return 'max replicas per node limit exceed';
    default:
      throw new RangeError(`verdict ${verdict} is no reason`);
  }
}
