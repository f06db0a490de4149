/** Whether a node meets placement constraints. Pure. Reading expressions is `model/constraints.ts`, passed on here. */
import { parseIPv4, parseSubnet, subnetContains } from '../../model/addresses.ts';
import type { Constraint } from '../../model/constraints.ts';
import type { Node } from '../../model/objects.ts';
import { normalArchitecture } from './platform.ts';

export { ConstraintError, parseConstraints, type Constraint } from '../../model/constraints.ts';

/** True if the node meets every constraint. A key that means nothing is met by no node, whatever the operator. */
export function nodeMatches(constraints: readonly Constraint[], node: Node): boolean {
  return constraints.every((constraint) => meets(constraint, node));
}

function meets(constraint: Constraint, node: Node): boolean {
  const equal = equals(constraint, node);
  return equal === undefined ? false : equal === (constraint.operator === '==');
}

/** Whether the node has the constraint's value under its key; undefined if the key means nothing. */
function equals({ key, value }: Constraint, node: Node): boolean | undefined {
  switch (key.toLowerCase()) {
    case 'node.id':
      return same(node.id, value);
    case 'node.hostname':
      return same(node.description?.hostname, value);
    case 'node.ip':
      return addressIn(node.status.address, value);
    case 'node.role':
      return same(node.spec.Role, value);
    case 'node.platform.os':
      return same(node.description?.platform.OS, value);
    case 'node.platform.arch':
      return same(normalArchitecture(node.description?.platform.Architecture ?? ''), normalArchitecture(value));
  }
  const nodeLabel = labelOf(key, 'node.labels.');
  if (nodeLabel !== undefined) return same(node.spec.Labels[nodeLabel], value);
  const engineLabel = labelOf(key, 'engine.labels.');
  if (engineLabel !== undefined) return same(node.description?.engine.labels[engineLabel], value);
  return undefined;
}

/** The label a key names, its own case kept, if it begins with `prefix` and goes on. */
export function labelOf(key: string, prefix: string): string | undefined {
  return key.length > prefix.length && key.toLowerCase().startsWith(prefix) ? key.slice(prefix.length) : undefined;
}

/** Whole match without regard to case; what is missing counts as empty. */
function same(actual: string | undefined, wanted: string): boolean {
  return (actual ?? '').toLowerCase() === wanted.toLowerCase();
}

/** Undefined if `wanted` is neither an address nor a CIDR. */
function addressIn(actual: string, wanted: string): boolean | undefined {
  const subnet = parseSubnet(wanted.includes('/') ? wanted : `${wanted}/32`);
  if (subnet === undefined) return undefined;
  const address = parseIPv4(actual);
  return address !== undefined && subnetContains(subnet, address);
}
