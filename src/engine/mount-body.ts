/**
 * A service's mounts in the words of the Engine API. Promises: an option that the engine's API version does not know is
 * refused where leaving it out would mount something else than was asked for.
 */
import { compareVersions } from '../docker/client.ts';
import type { MountBody } from '../docker/types.ts';
import type { Mount } from '../model/specs.ts';
import type { FileMount } from './engine.ts';
import type { Expand } from './template.ts';
import { UnsupportedTask } from './unsupported.ts';

/** Older engines would, without a word, leave sub-mounts writable … */
const API_WITH_FORCED_READ_ONLY = '1.44';
/** … mount the whole volume … */
const API_WITH_SUBPATH = '1.45';
/** … and mount a tmpfs with their own options. */
const API_WITH_TMPFS_OPTIONS = '1.46';

/**
 * One mount with its placeholders filled in. Volume drivers and their options go to the engine as they are, so that
 * NFS is its local driver's business.
 * @throws TemplateError, UnsupportedTask
 */
export function mountBody(mount: Mount, expand: Expand, apiVersion: string): MountBody {
  if (mount.Type === 'npipe' || mount.Type === 'cluster') {
    throw new UnsupportedTask(`mounts of type ${mount.Type} are not supported`);
  }
  const { BindOptions: bind, VolumeOptions: volume, TmpfsOptions: tmpfs } = mount;
  const needs = (asked: boolean, option: string, version: string): void => {
    if (!asked || compareVersions(apiVersion, version) >= 0) return;
    throw new UnsupportedTask(`${option} needs an engine with API ${version}, this one has ${apiVersion}`);
  };
  needs(bind?.ReadOnlyForceRecursive === true, 'bind-recursive=readonly', API_WITH_FORCED_READ_ONLY);
  needs(Boolean(volume?.Subpath), 'volume-subpath', API_WITH_SUBPATH);
  needs((tmpfs?.Options ?? []).length > 0, 'tmpfs-options', API_WITH_TMPFS_OPTIONS);
  const driver = volume?.DriverConfig;
  return {
    ...mount,
    Source: mount.Source === undefined ? undefined : expand(mount.Source),
    Target: expand(mount.Target),
    VolumeOptions: volume && {
      ...volume,
      Labels: volume.Labels && expandValues(volume.Labels, expand),
      DriverConfig: driver && { ...driver, Options: driver.Options && expandValues(driver.Options, expand) },
    },
  };
}

/** A file of the host, for reading only. */
export function fileBody({ source, target }: FileMount): MountBody {
  return {
    Type: 'bind',
    Source: source,
    Target: target,
    ReadOnly: true,
    BindOptions: { Propagation: 'rprivate' },
  };
}

function expandValues(values: Record<string, string>, expand: Expand): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, expand(value)]));
}
