/**
 * Keys of a ServiceSpec that Docker brought after the API version an engine here speaks: they are kept and echoed, but an
 * engine cannot act on them, and whoever sets one is told so in the `Warnings` of the answer. Pure.
 */
import { compareVersions } from '../../docker/client.ts';
import type { ServiceSpec } from '../../model/specs.ts';

/** Where a key stands (`*`: each entry of a list), and the API version that brought it to containers. */
const NEWER_KEYS: readonly (readonly [path: string, since: string])[] = [
  ['TaskTemplate.ContainerSpec.Healthcheck.StartInterval', '1.44'],
  ['TaskTemplate.ContainerSpec.Mounts.*.BindOptions.CreateMountpoint', '1.42'],
  ['TaskTemplate.ContainerSpec.Mounts.*.BindOptions.ReadOnlyNonRecursive', '1.44'],
  ['TaskTemplate.ContainerSpec.Mounts.*.BindOptions.ReadOnlyForceRecursive', '1.44'],
  ['TaskTemplate.ContainerSpec.Mounts.*.VolumeOptions.Subpath', '1.45'],
  ['TaskTemplate.ContainerSpec.Mounts.*.TmpfsOptions.Options', '1.46'],
  ['TaskTemplate.ContainerSpec.Mounts.*.ImageOptions', '1.48'],
  ['TaskTemplate.ContainerSpec.Mounts.*.ClusterOptions', '1.42'],
];

/** A sentence for each key of `spec` that an engine of `apiVersion` does not know; empty when there is none. */
export function newerKeyWarnings(spec: ServiceSpec, apiVersion: string): string[] {
  return NEWER_KEYS.flatMap(([path, since]) => {
    if (compareVersions(since, apiVersion) <= 0 || !isSet(spec, path.split('.'))) return [];
    const key = path.replaceAll('.*', '');
    return [
      `${key} needs an engine of API version ${since}; it is kept, but engines of API ${apiVersion} do not act on it`,
    ];
  });
}

/** True if something other than nothing, false, zero or an empty text or list stands at the path. */
function isSet(value: unknown, path: readonly string[]): boolean {
  const [key, ...rest] = path;
  if (key === undefined) return Array.isArray(value) ? value.length > 0 : Boolean(value);
  if (key === '*') return Array.isArray(value) && value.some((entry) => isSet(entry, rest));
  if (typeof value !== 'object' || value === null) return false;
  return isSet((value as Record<string, unknown>)[key], rest);
}
