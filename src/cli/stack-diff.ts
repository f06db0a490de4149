/** What a deploy would change, and what has changed since the last one: service by service, field by field. Pure. */
import { replicasOf } from '../model/defaults.ts';
import { specChanges } from '../model/spec-diff.ts';
import type { ServiceSpec } from '../model/specs.ts';
import { taggedImage } from './compose/images.ts';
import { IMAGE_LABEL } from './compose/project.ts';

export interface Comparison {
  /** From id to name. */
  networkName: (id: string) => string;
  /** Whether an image's digest counts: a file names none, and what it names had one the last time. */
  digests: boolean;
}

/** A spec for comparing: what users said of it, not the ids that stand for that, with the defaults that the API writes. */
export function comparable(spec: ServiceSpec, { networkName, digests }: Comparison): object {
  const { ContainerSpec: container, Networks = [], Placement = {} } = spec.TaskTemplate;
  const networks = Networks.map((network) => ({ ...network, Target: networkName(network.Target) }));
  const image = taggedImage(container?.Image ?? '');
  return {
    ...spec,
    ...(spec.Mode.Replicated === undefined ? {} : { Mode: { Replicated: { Replicas: replicasOf(spec) } } }),
    EndpointSpec: { Mode: 'vip', ...spec.EndpointSpec },
    TaskTemplate: {
      Runtime: 'container',
      ...spec.TaskTemplate,
      ForceUpdate: undefined,
      // Platforms come with the digest.
      Placement: { ...Placement, Platforms: undefined },
      Networks: Object.fromEntries(networks.map((network) => [network.Target, network])),
      ContainerSpec: {
        Isolation: 'default',
        ...container,
        Image: digests ? image : image.replace(/@.*$/, ''),
        Secrets: container?.Secrets?.map((secret) => ({ ...secret, SecretID: undefined })),
        Configs: container?.Configs?.map((config) => ({ ...config, ConfigID: undefined })),
      },
    },
  };
}

/** Lines of a diff of two sets of services, by name. Empty: no difference. */
export function diffLines(before: ReadonlyMap<string, object>, after: ReadonlyMap<string, object>): string[] {
  const names = [...new Set([...before.keys(), ...after.keys()])].sort();
  return names.flatMap((name) => {
    const old = before.get(name);
    const fresh = after.get(name);
    if (old === undefined) return [`+ service ${name}`];
    if (fresh === undefined) return [`- service ${name}`];
    const changes = specChanges(old, fresh).filter(({ path }) => path !== `Labels[${IMAGE_LABEL}]`);
    if (changes.length === 0) return [];
    return [
      `~ service ${name}`,
      ...changes.map(({ path, before: was, after: is }) => `    ${path}: ${change(was, is)}`),
    ];
  });
}

function change(was: string | undefined, is: string | undefined): string {
  if (was === undefined) return `+ ${is}`;
  return is === undefined ? `- ${was}` : `${was} -> ${is}`;
}
