/**
 * Start order: the service label `drover.depends-on` says what must have come before the first tasks of a new service
 * start. Its value is a list such as `db:service_healthy,migrate:service_completed_successfully,cache`; a name is that of
 * a service of the same stack, or a full one. Pure.
 */
import type { Service } from './objects.ts';
import type { ServiceSpec } from './specs.ts';

export const DEPENDS_ON_LABEL = 'drover.depends-on';
/** Docker's label of what belongs to a stack. */
export const STACK_LABEL = 'com.docker.stack.namespace';

/** Compose's names. Without one, `service_started` is meant. */
export const DEPENDENCY_CONDITIONS = ['service_started', 'service_healthy', 'service_completed_successfully'] as const;

export type DependencyCondition = (typeof DEPENDENCY_CONDITIONS)[number];

export interface Dependency {
  /** As the user wrote it: `serviceNames` says what it may mean. */
  name: string;
  condition: DependencyCondition;
}

/** The label's value cannot be read; the message says what is wrong with it and what would be right. */
export class DependsOnError extends Error {
  override readonly name = 'DependsOnError';
}

/** What a service's labels ask for. @throws DependsOnError */
export function dependenciesOf({ Labels }: Pick<ServiceSpec, 'Labels'>): Dependency[] {
  const value = Labels[DEPENDS_ON_LABEL] ?? '';
  const entries = value.split(',').map((entry) => entry.trim());
  return entries.filter((entry) => entry !== '').map(dependency);
}

function dependency(entry: string): Dependency {
  const [name = '', condition = 'service_started', ...more] = entry.split(':').map((part) => part.trim());
  const known = DEPENDENCY_CONDITIONS.find((candidate) => candidate === condition);
  if (name === '' || more.length > 0 || known === undefined) {
    throw new DependsOnError(
      `invalid label ${DEPENDS_ON_LABEL}: "${entry}" is not NAME or NAME:CONDITION, where CONDITION is one of ${DEPENDENCY_CONDITIONS.join(', ')}`,
    );
  }
  return { name, condition: known };
}

/** The label's value for these dependencies. */
export function dependsOnLabel(dependencies: readonly Dependency[]): string {
  return dependencies.map(({ name, condition }) => `${name}:${condition}`).join(',');
}

/** Full names that a dependency's name may mean to a service, the first that exists counts: its own stack's before others. */
export function serviceNames({ Labels }: Pick<ServiceSpec, 'Labels'>, name: string): string[] {
  const stack = Labels[STACK_LABEL] ?? '';
  return stack === '' ? [name] : [`${stack}_${name}`, name];
}

/** True while no task of the service may start, because what it was created to wait for has not come yet. */
export function isHeldBack(service: Pick<Service, 'startsInOrder' | 'startOrder'>): boolean {
  return service.startsInOrder === true && service.startOrder?.metAt === undefined;
}
