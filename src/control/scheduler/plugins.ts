/** The engine plugins that a service's tasks cannot do without. Pure. Which ones: SwarmKit's rules. */
import type { Node } from '../../model/objects.ts';
import type { TaskSpec } from '../../model/specs.ts';

/** As engines list them: `type` is `Volume`, `Network` or `Log`. */
export interface Plugin {
  type: string;
  name: string;
}

/** The driver of the network with this id; undefined if there is no such network. */
export type DriverOf = (networkId: string) => string | undefined;

/** Overlays are ours, whatever the engine has. */
const OWN_NETWORK_DRIVERS = ['', 'overlay'];

export function pluginsOf(spec: TaskSpec, driverOf: DriverOf): Plugin[] {
  const volumes = (spec.ContainerSpec?.Mounts ?? [])
    .filter((mount) => mount.Type === 'volume')
    .map((mount) => mount.VolumeOptions?.DriverConfig?.Name ?? '')
    .filter((name) => name !== '' && name !== 'local');
  const networks = (spec.Networks ?? [])
    .map(({ Target }) => driverOf(Target) ?? '')
    .filter((name) => !OWN_NETWORK_DRIVERS.includes(name));
  const log = spec.LogDriver?.Name ?? '';
  const logs = log === '' || log === 'none' ? [] : [log];
  return [
    ...[...new Set(volumes)].map((name) => ({ type: 'Volume', name })),
    ...[...new Set(networks)].map((name) => ({ type: 'Network', name })),
    ...logs.map((name) => ({ type: 'Log', name })),
  ];
}

/** True if the node's engine has all of `wanted`. An engine too old to list log drivers is taken to have them. */
export function pluginsFit(wanted: readonly Plugin[], node: Node): boolean {
  if (wanted.length === 0) return true;
  const present = node.description?.engine.plugins ?? [];
  return wanted.every(({ type, name }) => {
    const ofType = present.filter((plugin) => plugin.type === type);
    if (ofType.length === 0 && type === 'Log') return true;
    return ofType.some((plugin) => untagged(plugin.name) === untagged(name));
  });
}

/** Managed plugins are listed with the tag that a spec may leave out. */
function untagged(name: string): string {
  return name.endsWith(':latest') ? name.slice(0, -':latest'.length) : name;
}
