/** A start order that could never come to its end is refused: services that wait for each other in a circle. Pure. */
import { dependenciesOf, DEPENDS_ON_LABEL, DependsOnError, serviceNames } from '../../model/depends-on.ts';
import type { Labels, ServiceSpec } from '../../model/specs.ts';
import { nameKey } from '../../store/schema.ts';
import type { View } from '../../store/store.ts';
import { badRequest } from '../errors.ts';

/** @throws ApiError 400 if the label `drover.depends-on` cannot be read */
export function checkDependsOn(Labels: Labels): void {
  try {
    dependenciesOf({ Labels });
  } catch (error) {
    throw error instanceof DependsOnError ? badRequest(error.message) : error;
  }
}

/**
 * A service that does not exist yet is waited for, not refused: whoever closes the circle is.
 * @throws ApiError 400 that names the circle
 */
export function checkStartOrder(view: View, environment: string, spec: ServiceSpec): void {
  const circle = circleFrom(view, environment, spec, [spec.Name], new Set());
  if (circle === undefined) return;
  const words = circle.slice(1).map((name, at) => `${circle[at]} waits for ${name}`);
  throw badRequest(`label ${DEPENDS_ON_LABEL}: these would never start: ${words.join(', ')}`);
}

/** The way back to the first of `path`, or undefined. */
function circleFrom(
  view: View,
  environment: string,
  spec: ServiceSpec,
  path: readonly string[],
  seen: Set<string>,
): string[] | undefined {
  const [start = ''] = path;
  for (const { name } of dependenciesOf(spec)) {
    const names = serviceNames(spec, name);
    const found = names.find((full) => full === start || view.services.countBy('name', nameKey(environment, full)) > 0);
    if (found === start) return [...path, start];
    if (found === undefined || seen.has(found)) continue;
    seen.add(found);
    const [next] = view.services.by('name', nameKey(environment, found));
    const circle = next && circleFrom(view, environment, next.spec, [...path, found], seen);
    if (circle !== undefined) return circle;
  }
  return undefined;
}
