/**
 * Placement constraints such as `node.labels.zone==a`: reading them. Whether a node meets them is the scheduler's
 * business. The grammar and the sentences of its errors are Docker's.
 */

export interface Constraint {
  /** As written, such as `node.labels.zone`; keywords in it are matched without regard to case. */
  key: string;
  operator: '==' | '!=';
  /** A whole value; there are no patterns. */
  value: string;
}

/** An expression that is no constraint. The message is Docker's and meant for users. */
export class ConstraintError extends Error {
  override readonly name = 'ConstraintError';
}

const KEY = /^[a-z_][a-z0-9\-_.]+$/i;
const VALUE = /^[a-z0-9:\-_\s.*()?+[\]\\^$|/]+$/i;

/** Reads constraint expressions. Throws ConstraintError at the first that is none. Unknown keys are taken: no node meets them. */
export function parseConstraints(expressions: readonly string[]): Constraint[] {
  return expressions.map(parseConstraint);
}

function parseConstraint(expression: string): Constraint {
  // An expression has one operator: the first of `==` in it, or, when there is none, of `!=`.
  for (const operator of ['==', '!='] as const) {
    const at = expression.indexOf(operator);
    if (at < 0) continue;
    const key = expression.slice(0, at).trim();
    if (!KEY.test(key)) throw new ConstraintError(`key '${key}' is invalid`);
    const value = expression.slice(at + operator.length).trim();
    if (!VALUE.test(value)) throw new ConstraintError(`value '${value}' is invalid`);
    return { key, operator, value };
  }
  throw new ConstraintError('constraint expected one operator from ==, !=');
}
