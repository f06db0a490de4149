/**
 * Which keys of a compose file Drover knows, and what becomes of each: honoured, or warned of with the reason. A key that
 * is in no table is a slip, and refused. docs/stacks.md shows these tables.
 */
import type { Field } from './field.ts';

/** Read and carried out. */
export const HONOURED = true;

/** Key → honoured, or why it is not and what to do instead. */
export type Keys = Readonly<Record<string, typeof HONOURED | string>>;

/** Keys, with blanks between. */
function honoured(keys: string): Record<string, typeof HONOURED> {
  return Object.fromEntries(
    keys
      .trim()
      .split(/\s+/)
      .map((key) => [key, HONOURED]),
  );
}

const NOT_IN_A_CLUSTER = 'a task of a cluster has none of it';
const LIMITS = 'set deploy.resources instead';

export const ROOT: Keys = {
  ...honoured('services networks volumes secrets configs version name'),
  models: 'not supported',
};

export const SERVICE: Keys = {
  ...honoured(`
    cap_add cap_drop command configs cpus credential_spec depends_on deploy dns dns_opt dns_search
    entrypoint env_file environment extra_hosts group_add healthcheck hostname image init isolation
    labels logging mem_limit mem_reservation networks oom_score_adj pids_limit ports profiles read_only
    restart scale secrets security_opt stdin_open stop_grace_period stop_signal sysctls tmpfs tty
    ulimits user volumes working_dir
  `),
  annotations: 'not supported; use labels',
  attach: 'nothing attaches to a stack; see docker service logs',
  blkio_config: 'not supported',
  build: 'images are not built here: build and push the image beforehand',
  cgroup: NOT_IN_A_CLUSTER,
  cgroup_parent: NOT_IN_A_CLUSTER,
  container_name: 'containers are named after their tasks, such as app_web.1.<id>: a fixed name would allow one only',
  cpu_count: LIMITS,
  cpu_percent: LIMITS,
  cpu_period: LIMITS,
  cpu_quota: LIMITS,
  cpu_rt_period: LIMITS,
  cpu_rt_runtime: LIMITS,
  cpu_shares: LIMITS,
  cpuset: LIMITS,
  device_cgroup_rules: 'devices are not supported',
  devices: 'devices are not supported',
  develop: 'for docker compose watch only',
  domainname: 'not supported; write it into hostname',
  expose: 'not needed: services of a network reach each other on every port',
  external_links: 'use networks: services of a network find each other by name',
  gpus: 'devices are not supported; reserve deploy.resources.reservations.generic_resources',
  ipc: NOT_IN_A_CLUSTER,
  label_file: 'not supported; use labels',
  links: 'use networks: services of a network find each other by name, or give network aliases',
  mac_address: NOT_IN_A_CLUSTER,
  mem_swappiness: 'not supported',
  memswap_limit: 'not supported',
  models: 'not supported',
  network_mode: 'use networks; the network "host" can be used as an external one',
  oom_kill_disable: 'not supported',
  pid: NOT_IN_A_CLUSTER,
  platform: 'use deploy.placement.constraints with node.platform.arch',
  post_start: 'not supported',
  pre_stop: 'not supported',
  privileged: 'not supported; see cap_add',
  provider: 'not supported',
  pull_policy: 'a tag is pulled if its registry answers, a digest if it is not there',
  runtime: 'not supported',
  shm_size: 'not supported; mount a tmpfs volume at /dev/shm',
  storage_opt: 'not supported',
  use_api_socket: 'not supported; mount the socket as a volume',
  userns_mode: NOT_IN_A_CLUSTER,
  uts: NOT_IN_A_CLUSTER,
  volumes_from: 'define a volume at the top level and name it in both services',
};

export const DEPLOY: Keys = honoured(`
    mode replicas labels update_config rollback_config resources restart_policy placement endpoint_mode
  `);
export const UPDATE_CONFIG: Keys = honoured('parallelism delay failure_action monitor max_failure_ratio order');
export const RESOURCES: Keys = honoured('limits reservations');
export const LIMIT_KEYS: Keys = honoured('cpus memory pids');
export const RESERVATION_KEYS: Keys = {
  ...honoured('cpus memory generic_resources'),
  devices: 'devices are not supported; use generic_resources',
  pids: 'a number of processes cannot be reserved',
};
export const GENERIC_RESOURCE: Keys = honoured('discrete_resource_spec');
export const DISCRETE_RESOURCE: Keys = honoured('kind value');
export const RESTART_POLICY: Keys = honoured('condition delay max_attempts window');
export const PLACEMENT: Keys = honoured('constraints preferences max_replicas_per_node');
export const PREFERENCE: Keys = honoured('spread');
export const HEALTHCHECK: Keys = honoured('test interval timeout retries start_period start_interval disable');
export const LOGGING: Keys = honoured('driver options');
export const CREDENTIAL_SPEC: Keys = honoured('config file registry');
export const DEPENDS_ON: Keys = {
  ...honoured('condition required'),
  restart: 'a service does not restart because another one did',
};
export const ENV_FILE: Keys = honoured('path required format');
export const SERVICE_NETWORK: Keys = {
  ...honoured('aliases driver_opts'),
  gw_priority: 'not supported',
  interface_name: 'not supported',
  ipv4_address: 'a task gets its address from the cluster',
  ipv6_address: 'a task gets its address from the cluster',
  link_local_ips: NOT_IN_A_CLUSTER,
  mac_address: NOT_IN_A_CLUSTER,
  priority: 'not supported',
};
export const PORT: Keys = {
  ...honoured('target published protocol mode'),
  app_protocol: 'not used',
  host_ip: 'a published port listens on every address of the nodes',
  name: 'not used',
};
export const ULIMIT: Keys = honoured('soft hard');
export const FILE_REFERENCE: Keys = honoured('source target uid gid mode');
export const MOUNT: Keys = honoured('type source target read_only consistency bind volume tmpfs');
export const MOUNT_BIND: Keys = {
  ...honoured('propagation create_host_path recursive'),
  selinux: 'not supported',
};
export const MOUNT_VOLUME: Keys = {
  ...honoured('nocopy subpath'),
  labels: 'set labels of the volume at the top level',
};
export const MOUNT_TMPFS: Keys = honoured('size mode');
export const NETWORK: Keys = {
  ...honoured('name driver driver_opts ipam external internal attachable labels'),
  enable_ipv4: 'overlay networks are IPv4',
  enable_ipv6: 'overlay networks are IPv4',
};
export const IPAM: Keys = { ...honoured('driver config options') };
export const IPAM_CONFIG: Keys = {
  ...honoured('subnet ip_range gateway'),
  aux_addresses: 'not supported',
};
export const VOLUME: Keys = {
  ...honoured('name driver driver_opts external labels'),
};
export const FILE_OBJECT: Keys = honoured(
  'name file content environment external labels driver driver_opts template_driver',
);
export const EXTERNAL: Keys = honoured('name');

/** Warns of the keys of a mapping that are not honoured. @throws ComposeError for one that nobody knows */
export function checkKeys(field: Field, keys: Keys, warn: (text: string) => void): void {
  for (const [key, member] of field.members()) {
    if (key.startsWith('x-')) continue;
    const fate = Object.hasOwn(keys, key) ? keys[key] : undefined;
    if (fate === undefined) member.fail(`there is no such key${suggestion(key, Object.keys(keys))}`);
    if (fate !== HONOURED) warn(`${member.path} is ignored: ${fate}`);
  }
}

function suggestion(key: string, known: readonly string[]): string {
  const near = known.filter((candidate) => distance(key, candidate) <= 2 || candidate.startsWith(`${key}_`));
  return near.length === 0 ? `; known are ${[...known].sort().join(', ')}` : `: did you mean ${near.join(' or ')}?`;
}

/** How many letters must be added, taken away or changed. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 1; j <= b.length; j++) {
      const changed = (row[j - 1] ?? 0) + (a[i] === b[j - 1] ? 0 : 1);
      next.push(Math.min(changed, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
