/**
 * What a task is in the words of the Engine API: a pure translation. Promises: a field the engine's API version does
 * not know is left out only where leaving it out is harmless; what cannot be done as asked is an error that says so.
 */
import { compareVersions } from '../docker/client.ts';
import type { ContainerCreateBody, EndpointBody, HealthcheckBody, HostConfigBody } from '../docker/types.ts';
import { macOf } from '../model/addresses.ts';
import type { TaskAssignment } from '../model/assignments.ts';
import { taskName } from '../model/objects.ts';
import type { ContainerSpec, HealthConfig } from '../model/specs.ts';
import type { Attachment, TaskPlace } from './engine.ts';
import { taskLabels } from './labels.ts';
import { limitsBody, resourceEnvironment } from './limits.ts';
import { fileBody, mountBody } from './mount-body.ts';
import { securityOptions } from './privileges.ts';
import { templateFor } from './template.ts';
import type { Expand } from './template.ts';
import { UnsupportedTask } from './unsupported.ts';

export { UnsupportedTask } from './unsupported.ts';

export interface CreatePlan {
  /** Container name: `web.1.<task id>`. */
  name: string;
  body: ContainerCreateBody;
  /** Networks to connect after the create, in this order. */
  connects: { engineNetwork: string; endpoint: EndpointBody }[];
}

/** Swarm's grace period when the spec has none. */
const DEFAULT_GRACE_SECONDS = 10;
const NANOSECONDS_PER_SECOND = 1e9;
/** From here on health checks have a start interval, and a create takes several networks and a MAC for each. */
const API_WITH_ENDPOINT_MACS = '1.44';
/** The engine's own networks, which a service may name instead of an overlay. */
const NODE_LOCAL_NETWORKS = new Set(['host', 'none', 'bridge']);

/**
 * The calls that make this task's container on an engine of that API version.
 * @throws TemplateError, UnsupportedTask
 */
export function createPlan(task: TaskAssignment, place: TaskPlace, apiVersion: string): CreatePlan {
  const spec = task.spec.ContainerSpec;
  if (spec === undefined) throw new UnsupportedTask(`runtime ${task.spec.Runtime ?? 'unknown'} is not supported`);
  const expand = templateFor(task, place.node);
  const endpointMacs = compareVersions(apiVersion, API_WITH_ENDPOINT_MACS) >= 0;
  // The engine takes the default route from the network whose name comes first, so that one is the first here too.
  const attachments = place.attachments.toSorted((a, b) => (a.engineNetwork < b.engineNetwork ? -1 : 1));
  const networks = networkPlan(task, attachments, endpointMacs);
  const body: ContainerCreateBody = {
    Image: spec.Image,
    // To the engine an empty entrypoint takes the image's away; in a service it means that none was said.
    Entrypoint: spec.Command?.length ? spec.Command : undefined,
    Cmd: spec.Args,
    Env: environment(task, spec, expand),
    User: spec.User,
    WorkingDir: spec.Dir,
    Hostname: spec.Hostname === undefined ? undefined : expand(spec.Hostname),
    Labels: { ...spec.Labels, ...taskLabels(task) },
    StopSignal: spec.StopSignal,
    StopTimeout: graceSeconds(spec),
    Tty: spec.TTY,
    OpenStdin: spec.OpenStdin,
    Healthcheck: healthcheck(spec.Healthcheck, endpointMacs),
    ExposedPorts: Object.fromEntries(task.hostPorts.map((port) => [`${port.targetPort}/${port.protocol}`, {}])),
    HostConfig: {
      ...hostConfig(task, spec, { ...place, attachments }, expand, apiVersion),
      NetworkMode: networks.mode,
    },
    ...networks.fields,
  };
  return { name: taskName(task), body, connects: networks.connects };
}

/** The spec's variables, and after them what tells the task which generic resources are its own. */
function environment(task: TaskAssignment, spec: ContainerSpec, expand: Expand): string[] | undefined {
  const own = resourceEnvironment(task.genericResources);
  return own.length === 0 ? spec.Env?.map(expand) : [...(spec.Env ?? []).map(expand), ...own];
}

/** Whole seconds the container has between its stop signal and SIGKILL. */
export function graceSeconds(spec: ContainerSpec): number {
  if (spec.StopGracePeriod === undefined) return DEFAULT_GRACE_SECONDS;
  return Math.ceil(spec.StopGracePeriod / NANOSECONDS_PER_SECOND);
}

function hostConfig(
  task: TaskAssignment,
  spec: ContainerSpec,
  { attachments, files = [] }: TaskPlace,
  expand: Expand,
  apiVersion: string,
): HostConfigBody {
  const log = task.spec.LogDriver;
  return {
    RestartPolicy: { Name: 'no' },
    Mounts: [...(spec.Mounts ?? []).map((mount) => mountBody(mount, expand, apiVersion)), ...files.map(fileBody)],
    PortBindings: portBindings(task),
    ...limitsBody(task.spec.Resources),
    // An isolation that is not the engine's it refuses in its own words.
    Isolation: spec.Isolation === 'default' ? undefined : spec.Isolation,
    OomScoreAdj: spec.OomScoreAdj,
    Init: spec.Init ?? undefined,
    ReadonlyRootfs: spec.ReadOnly,
    LogConfig: log?.Name === undefined ? undefined : { Type: log.Name, Config: log.Options ?? {} },
    ExtraHosts: spec.Hosts?.flatMap(extraHosts),
    ...dns(spec, attachments),
    GroupAdd: spec.Groups,
    CapAdd: spec.CapabilityAdd,
    CapDrop: spec.CapabilityDrop,
    Sysctls: spec.Sysctls,
    Ulimits: spec.Ulimits,
    SecurityOpt: securityOptions(spec.Privileges),
  };
}

/** Our resolver stands first, because only it knows the cluster's names; the user's servers come after it. */
function dns(spec: ContainerSpec, attachments: Attachment[]): Pick<HostConfigBody, 'Dns' | 'DnsSearch' | 'DnsOptions'> {
  const own = attachments.slice(0, 1).map((attachment) => attachment.gateway);
  const servers = [...own, ...(spec.DNSConfig?.Nameservers ?? [])];
  return {
    Dns: servers.length === 0 ? undefined : servers,
    DnsSearch: spec.DNSConfig?.Search,
    DnsOptions: spec.DNSConfig?.Options,
  };
}

function portBindings(task: TaskAssignment): HostConfigBody['PortBindings'] {
  const bindings: NonNullable<HostConfigBody['PortBindings']> = {};
  for (const port of task.hostPorts) {
    const binding = { HostPort: port.publishedPort === 0 ? '' : String(port.publishedPort) };
    (bindings[`${port.targetPort}/${port.protocol}`] ??= []).push(binding);
  }
  return bindings;
}

interface NetworkPlan {
  mode: string | undefined;
  fields: Pick<ContainerCreateBody, 'MacAddress' | 'NetworkingConfig'>;
  connects: CreatePlan['connects'];
}

/** Older engines create with one network only (decisions-and-traps.md, trap 1); the others are connected after it. */
function networkPlan(task: TaskAssignment, attachments: Attachment[], endpointMacs: boolean): NetworkPlan {
  const local = task.spec.Networks?.find((network) => NODE_LOCAL_NETWORKS.has(network.Target))?.Target;
  const [first, ...others] = attachments;
  if (first === undefined) return { mode: local, fields: {}, connects: [] };
  if (local !== undefined) throw new UnsupportedTask(`network ${local} cannot be combined with other networks`);
  const endpoint = (attachment: Attachment): EndpointBody => ({
    IPAMConfig: { IPv4Address: attachment.address },
    ...(endpointMacs ? { MacAddress: macOf(attachment.address) } : {}),
  });
  const together = endpointMacs ? attachments : [first];
  const EndpointsConfig = Object.fromEntries(together.map((each) => [each.engineNetwork, endpoint(each)]));
  return {
    mode: first.engineNetwork,
    // Further networks of an older engine get 02:42 and their address from the engine itself.
    fields: { NetworkingConfig: { EndpointsConfig }, ...(endpointMacs ? {} : { MacAddress: macOf(first.address) }) },
    connects: endpointMacs
      ? []
      : others.map((each) => ({ engineNetwork: each.engineNetwork, endpoint: endpoint(each) })),
  };
}

function healthcheck(check: HealthConfig | undefined, startInterval: boolean): HealthcheckBody | undefined {
  if (check === undefined) return undefined;
  const { StartInterval, ...known } = check;
  return startInterval && StartInterval !== undefined ? { ...known, StartInterval } : known;
}

/** `IP name alias` of a service is `name:IP`, `alias:IP` of a container. */
function extraHosts(line: string): string[] {
  const [address, ...names] = line.trim().split(/\s+/);
  return names.map((name) => `${name}:${address}`);
}
