/**
 * The shape of a ServiceSpec as clients send it, in Docker's own names. Keys that are not listed are kept and echoed.
 * An empty string where a word is expected means "none said": Go clients send it for fields they leave out.
 */
import { z } from 'zod';
import { struct } from '../body.ts';
import type { ContainerSpec, EndpointSpec, PortConfig, ServiceMode, ServiceSpec, TaskSpec } from '../../model/specs.ts';
import { badRequest } from '../errors.ts';

const labels = z.record(z.string(), z.string());
const strings = z.array(z.string());
const count = z.int().min(0, 'must not be negative');
/** Nanoseconds; a negative one gets Docker's sentence in service-rules.ts. */
const duration = z.int();
const port = z.int().min(0, 'a port is a number up to 65535').max(65535, 'a port is a number up to 65535');

/** One of `words`; `sentence` is Docker's for another one. */
function word<const W extends readonly string[]>(sentence: (value: string) => string, ...words: W) {
  return z
    .string()
    .optional()
    .transform((value): W[number] | undefined => {
      if (value === undefined || value === '') return undefined;
      if (!words.includes(value)) throw badRequest(sentence(value));
      return value;
    });
}

const updateConfig = struct({
  Parallelism: count.optional(),
  Delay: duration.optional(),
  FailureAction: word((value) => `unrecognized update failure action ${value}`, 'pause', 'continue', 'rollback'),
  Monitor: duration.optional(),
  MaxFailureRatio: z.number().optional(),
  Order: word((value) => `unrecognized update order ${value}`, 'stop-first', 'start-first'),
});

const networks = z.array(
  struct({
    Target: z.string().min(1, 'a network must be named'),
    Aliases: strings.optional(),
    DriverOpts: labels.optional(),
  }),
);

const resources = struct({
  NanoCPUs: z.int().optional(),
  MemoryBytes: z.int().optional(),
  Pids: z.int().optional(),
  GenericResources: z
    .array(
      struct({
        DiscreteResourceSpec: struct({ Kind: z.string(), Value: count }).optional(),
        NamedResourceSpec: struct({ Kind: z.string(), Value: z.string() }).optional(),
      }),
    )
    .optional(),
});

const driver = struct({ Name: z.string().optional(), Options: labels.optional() });

const propagation = word(
  (value) => `invalid MountPropagation: "${value}"`,
  'private',
  'rprivate',
  'shared',
  'rshared',
  'slave',
  'rslave',
);

const mount = struct({
  Type: word((value) => `invalid MountType: "${value}"`, 'bind', 'volume', 'tmpfs', 'npipe', 'cluster'),
  Source: z.string().optional(),
  Target: z.string().default(''),
  ReadOnly: z.boolean().optional(),
  BindOptions: struct({ Propagation: propagation, NonRecursive: z.boolean().optional() }).optional(),
  VolumeOptions: struct({
    NoCopy: z.boolean().optional(),
    Labels: labels.optional(),
    DriverConfig: driver.optional(),
  }).optional(),
  TmpfsOptions: struct({ SizeBytes: count.optional(), Mode: count.optional() }).optional(),
});

/** What is left empty gets Docker's sentence in payload-references.ts. */
const stated = z.string().default('');
const payloadFile = struct({
  Name: z.string().default(''),
  UID: z.string().default('0'),
  GID: z.string().default('0'),
  Mode: count.max(0xffff_ffff).default(0o444),
});

const containerSpec = struct({
  Image: z.string().default(''),
  Labels: labels.optional(),
  Command: strings.optional(),
  Args: strings.optional(),
  Hostname: z.string().optional(),
  Env: strings.optional(),
  Dir: z.string().optional(),
  User: z.string().optional(),
  Groups: strings.optional(),
  Init: z.boolean().optional(),
  StopSignal: z.string().optional(),
  TTY: z.boolean().optional(),
  OpenStdin: z.boolean().optional(),
  ReadOnly: z.boolean().optional(),
  Mounts: z.array(mount).optional(),
  StopGracePeriod: duration.optional(),
  Healthcheck: struct({
    Test: strings.optional(),
    Interval: duration.optional(),
    Timeout: duration.optional(),
    StartPeriod: duration.optional(),
    Retries: z.int().optional(),
  }).optional(),
  Hosts: strings.optional(),
  DNSConfig: struct({
    Nameservers: strings.optional(),
    Search: strings.optional(),
    Options: strings.optional(),
  }).optional(),
  Privileges: struct({ CredentialSpec: z.record(z.string(), z.unknown()).optional() }).optional(),
  Isolation: z.string().optional(),
  Secrets: z.array(struct({ SecretID: stated, SecretName: stated, File: payloadFile.optional() })).optional(),
  Configs: z
    .array(
      struct({
        ConfigID: stated,
        ConfigName: stated,
        File: payloadFile.optional(),
        Runtime: struct({}).optional(),
      }),
    )
    .optional(),
  Sysctls: labels.optional(),
  CapabilityAdd: strings.optional(),
  CapabilityDrop: strings.optional(),
  Ulimits: z.array(struct({ Name: z.string(), Soft: z.int(), Hard: z.int() })).optional(),
  OomScoreAdj: z.int().optional(),
});

const taskSpec = struct({
  ContainerSpec: containerSpec.optional(),
  Resources: struct({
    Limits: resources.optional(),
    Reservations: resources.optional(),
    SwapBytes: z.int().optional(),
    MemorySwappiness: z.int().optional(),
  }).optional(),
  RestartPolicy: struct({
    Condition: word((value) => `invalid RestartCondition: "${value}"`, 'none', 'on-failure', 'any'),
    Delay: duration.optional(),
    MaxAttempts: count.optional(),
    Window: duration.optional(),
  }).optional(),
  Placement: struct({
    Constraints: strings.optional(),
    Preferences: z.array(struct({ Spread: struct({ SpreadDescriptor: z.string() }).optional() })).optional(),
    MaxReplicas: count.optional(),
    Platforms: z.array(struct({ Architecture: z.string().optional(), OS: z.string().optional() })).optional(),
  }).optional(),
  Networks: networks.optional(),
  LogDriver: driver.optional(),
  ForceUpdate: count.optional(),
  Runtime: z.string().optional(),
});

const empty = z.record(z.string(), z.never());

const shape = struct({
  Name: z.string().default(''),
  Labels: labels.default({}),
  TaskTemplate: taskSpec.default({}),
  Mode: struct({
    Replicated: struct({ Replicas: z.int().optional() }).optional(),
    Global: empty.optional(),
    ReplicatedJob: struct({ MaxConcurrent: z.int().optional(), TotalCompletions: z.int().optional() }).optional(),
    GlobalJob: empty.optional(),
  }).default({}),
  UpdateConfig: updateConfig.optional(),
  RollbackConfig: updateConfig.optional(),
  Networks: networks.optional(),
  EndpointSpec: struct({
    Mode: word((value) => `invalid resolution mode: "${value}"`, 'vip', 'dnsrr'),
    Ports: z
      .array(
        struct({
          Name: z.string().optional(),
          Protocol: word((value) => `invalid protocol: "${value}": must be tcp, udp or sctp`, 'tcp', 'udp', 'sctp'),
          TargetPort: port.optional(),
          PublishedPort: port.optional(),
          PublishMode: word((value) => `invalid publish mode: "${value}": must be ingress or host`, 'ingress', 'host'),
        }),
      )
      .optional(),
  }).optional(),
});

/**
 * A spec of the right shape, with what Docker puts in when it is not said: one replica, one completion at a time, and
 * what its API always shows.
 * What is left to check by rule is in service-rules.ts.
 */
export const serviceSpecShape = shape.transform((spec): ServiceSpec => {
  return {
    ...spec,
    Mode: normalMode(spec.Mode),
    TaskTemplate: normalTask(spec.TaskTemplate as TaskSpec),
    ...(spec.EndpointSpec === undefined ? {} : { EndpointSpec: normalEndpoint(spec.EndpointSpec) }),
  };
});

function normalMode(mode: ServiceMode): ServiceMode {
  if (mode.ReplicatedJob !== undefined) {
    const { MaxConcurrent = 1 } = mode.ReplicatedJob;
    return { ...mode, ReplicatedJob: { TotalCompletions: MaxConcurrent, ...mode.ReplicatedJob, MaxConcurrent } };
  }
  const none = Object.keys(mode).length === 0;
  return none || mode.Replicated !== undefined ? { ...mode, Replicated: { Replicas: 1, ...mode.Replicated } } : mode;
}

function normalTask(task: TaskSpec): TaskSpec {
  const { ContainerSpec: container } = task;
  return {
    ...task,
    ...(container === undefined ? {} : { ContainerSpec: normalContainer(container) }),
    ForceUpdate: task.ForceUpdate ?? 0,
    Runtime: task.Runtime || 'container',
  };
}

function normalContainer(container: ContainerSpec): ContainerSpec {
  return { ...container, Isolation: container.Isolation || 'default' };
}

function normalEndpoint(endpoint: EndpointSpec): EndpointSpec {
  const normalPort = (each: PortConfig): PortConfig => ({
    ...each,
    Protocol: each.Protocol ?? 'tcp',
    PublishMode: each.PublishMode ?? 'ingress',
  });
  return {
    ...endpoint,
    Mode: endpoint.Mode ?? 'vip',
    ...(endpoint.Ports === undefined ? {} : { Ports: endpoint.Ports.map(normalPort) }),
  };
}
