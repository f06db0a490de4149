/** Placement preferences: by which labels tasks are to be spread before nodes are compared. Pure. Rules: SwarmKit's. */
import type { Node } from '../../model/objects.ts';
import type { Placement } from '../../model/specs.ts';
import { labelOf } from './constraints.ts';

/** A label of the node (as its managers gave it) or of its engine. */
export interface Spread {
  of: 'node' | 'engine';
  label: string;
}

/** The spreads in order. A descriptor that names no label is left out, as Swarm does: it tells no two nodes apart. */
export function spreadsOf(placement: Placement = {}): Spread[] {
  return (placement.Preferences ?? []).flatMap(({ Spread }): Spread[] => {
    const descriptor = Spread?.SpreadDescriptor ?? '';
    const ofNode = labelOf(descriptor, 'node.labels.');
    if (ofNode !== undefined) return [{ of: 'node', label: ofNode }];
    const ofEngine = labelOf(descriptor, 'engine.labels.');
    return ofEngine === undefined ? [] : [{ of: 'engine', label: ofEngine }];
  });
}

/** The node's branch at each spread. Nodes without the label share one branch, that of the empty value. */
export function branchesOf(node: Node, spreads: readonly Spread[]): string[] {
  return spreads.map(({ of, label }) => {
    const labels = of === 'node' ? node.spec.Labels : node.description?.engine.labels;
    return labels?.[label] ?? '';
  });
}
