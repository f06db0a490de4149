/**
 * Secrets and configs are payloads: bytes that a task finds as a file. What is the same for both kinds is said once, here.
 * Pure.
 */
import type { ServiceSpec, TaskSpec } from './specs.ts';

export const PAYLOAD_KINDS = ['secret', 'config'] as const;

export type PayloadKind = (typeof PAYLOAD_KINDS)[number];

/** The table of the store that holds a kind; in Docker's API, the first part of its paths. */
export const PAYLOAD_TABLES = { secret: 'secrets', config: 'configs' } as const satisfies Record<PayloadKind, string>;

/** `Name` is a path, relative to where the kind stands by default; `Mode` has the permission bits of Go's FileMode. */
export interface PayloadFile {
  Name: string;
  UID: string;
  GID: string;
  Mode: number;
}

/** A service's reference to a payload, of either kind. */
export interface PayloadReference {
  id: string;
  name: string;
  /** Absent: the task has no file of it, only its runtime reads it. */
  file?: PayloadFile;
}

/** What tasks of this spec use of a kind, in the order of the spec. */
export function payloadReferences(spec: TaskSpec, kind: PayloadKind): PayloadReference[] {
  const { Secrets = [], Configs = [] } = spec.ContainerSpec ?? {};
  if (kind === 'secret') return Secrets.map(({ SecretID: id, SecretName: name, File }) => reference(id, name, File));
  return Configs.map(({ ConfigID: id, ConfigName: name, File }) => reference(id, name, File));
}

function reference(id: string, name: string, file: PayloadFile | undefined): PayloadReference {
  return { id, name, ...(file === undefined ? {} : { file }) };
}

/** The ids of all payloads of a kind that tasks of this spec use. */
export function payloadIds(spec: TaskSpec, kind: PayloadKind): string[] {
  return payloadReferences(spec, kind).map(({ id }) => id);
}

/** `spec` with every reference to one of `from` made one to `to`; files keep their names, owners and modes. */
export function withPayload(
  spec: ServiceSpec,
  kind: PayloadKind,
  from: ReadonlySet<string>,
  to: { id: string; name: string },
): ServiceSpec {
  const container = spec.TaskTemplate.ContainerSpec;
  if (container === undefined) return spec;
  const changed =
    kind === 'secret'
      ? {
          Secrets: container.Secrets?.map((each) =>
            from.has(each.SecretID) ? { ...each, SecretID: to.id, SecretName: to.name } : each,
          ),
        }
      : {
          Configs: container.Configs?.map((each) =>
            from.has(each.ConfigID) ? { ...each, ConfigID: to.id, ConfigName: to.name } : each,
          ),
        };
  return { ...spec, TaskTemplate: { ...spec.TaskTemplate, ContainerSpec: { ...container, ...changed } } };
}
