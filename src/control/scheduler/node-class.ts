/**
 * Classes of nodes: nodes that no filter on labels, role, platform and plugins can tell apart are of one class, so
 * that such a filter runs once a class and not once a node (after Nomad's computed classes).
 */
import type { Constraint } from '../../model/constraints.ts';
import type { Node } from '../../model/objects.ts';

/** Compared by identity. */
export class NodeClass {
  readonly key: string;
  /** Nodes of this class. */
  users = 0;

  constructor(key: string) {
    this.key = key;
  }
}

export class NodeClasses {
  readonly #byKey = new Map<string, NodeClass>();

  /** The class of `node`, which counts as one more of it. */
  enter(node: Node): NodeClass {
    const key = keyOf(node);
    let found = this.#byKey.get(key);
    if (found === undefined) this.#byKey.set(key, (found = new NodeClass(key)));
    found.users += 1;
    return found;
  }

  leave(left: NodeClass): void {
    left.users -= 1;
    if (left.users === 0) this.#byKey.delete(left.key);
  }
}

const OF_ONE_NODE = ['node.id', 'node.hostname', 'node.ip'];

/** True if a constraint looks at what each node has for itself: then a class says nothing. */
export function tellsNodesApart(constraints: readonly Constraint[]): boolean {
  return constraints.some(({ key }) => OF_ONE_NODE.includes(key.toLowerCase()));
}

function keyOf({ spec, description }: Node): string {
  return JSON.stringify([
    spec.Role,
    spec.Labels,
    description && [description.platform, description.engine.labels, description.engine.plugins],
  ]);
}
