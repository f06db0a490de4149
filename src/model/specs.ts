/**
 * What users declare, in the very shape of Docker's API (names and units are Docker's: nanoseconds, bytes,
 * nanoCPUs), so that what is stored is what is echoed. Types only; defaults and validation stand beside this file.
 */

export type Labels = Record<string, string>;

export interface Annotations {
  Name: string;
  Labels: Labels;
}

export interface ServiceSpec extends Annotations {
  TaskTemplate: TaskSpec;
  Mode: ServiceMode;
  UpdateConfig?: UpdateConfig;
  RollbackConfig?: UpdateConfig;
  /** Older clients name networks here instead of in the TaskTemplate. */
  Networks?: NetworkAttachmentConfig[];
  EndpointSpec?: EndpointSpec;
}

export interface ServiceMode {
  Replicated?: { Replicas?: number };
  Global?: Record<string, never>;
  ReplicatedJob?: { MaxConcurrent?: number; TotalCompletions?: number };
  GlobalJob?: Record<string, never>;
}

export interface UpdateConfig {
  Parallelism?: number;
  /** Nanoseconds. */
  Delay?: number;
  FailureAction?: 'pause' | 'continue' | 'rollback';
  /** Nanoseconds. */
  Monitor?: number;
  MaxFailureRatio?: number;
  Order?: 'stop-first' | 'start-first';
}

export interface TaskSpec {
  ContainerSpec?: ContainerSpec;
  Resources?: ResourceRequirements;
  RestartPolicy?: RestartPolicy;
  Placement?: Placement;
  Networks?: NetworkAttachmentConfig[];
  LogDriver?: { Name?: string; Options?: Record<string, string> };
  ForceUpdate?: number;
  Runtime?: string;
}

export interface ContainerSpec {
  Image: string;
  Labels?: Labels;
  /** Replaces the image's entrypoint. */
  Command?: string[];
  /** Replaces the image's command. */
  Args?: string[];
  Hostname?: string;
  Env?: string[];
  Dir?: string;
  User?: string;
  Groups?: string[];
  Init?: boolean | null;
  StopSignal?: string;
  TTY?: boolean;
  OpenStdin?: boolean;
  ReadOnly?: boolean;
  Mounts?: Mount[];
  /** Nanoseconds. */
  StopGracePeriod?: number;
  Healthcheck?: HealthConfig;
  /** Lines of /etc/hosts: `IP name [alias…]`. */
  Hosts?: string[];
  DNSConfig?: { Nameservers?: string[]; Search?: string[]; Options?: string[] };
  Privileges?: Record<string, unknown> | null;
  Secrets?: SecretReference[];
  Configs?: ConfigReference[];
  Isolation?: string;
  OomScoreAdj?: number;
  Sysctls?: Record<string, string>;
  CapabilityAdd?: string[];
  CapabilityDrop?: string[];
  Ulimits?: { Name: string; Soft: number; Hard: number }[];
  /** `X-Registry-Auth` as it came with the service; kept for the agents, never shown by the API. */
  PullOptions?: { RegistryAuth: string };
}

export interface Mount {
  Type: 'bind' | 'volume' | 'tmpfs' | 'npipe' | 'cluster';
  Source?: string;
  Target: string;
  ReadOnly?: boolean;
  Consistency?: string;
  BindOptions?: {
    Propagation?: string;
    NonRecursive?: boolean;
    CreateMountpoint?: boolean;
    ReadOnlyNonRecursive?: boolean;
    ReadOnlyForceRecursive?: boolean;
  };
  VolumeOptions?: {
    NoCopy?: boolean;
    Labels?: Labels;
    Subpath?: string;
    DriverConfig?: { Name?: string; Options?: Record<string, string> };
  };
  TmpfsOptions?: { SizeBytes?: number; Mode?: number; Options?: string[][] };
}

export interface HealthConfig {
  /** [] inherit, ["NONE"] off, ["CMD", …], ["CMD-SHELL", line]. */
  Test?: string[];
  /** Nanoseconds, as the following three. */
  Interval?: number;
  Timeout?: number;
  StartPeriod?: number;
  StartInterval?: number;
  Retries?: number;
}

export interface SecretReference {
  SecretID: string;
  SecretName: string;
  File?: { Name: string; UID: string; GID: string; Mode: number };
}

export interface ConfigReference {
  ConfigID: string;
  ConfigName: string;
  File?: { Name: string; UID: string; GID: string; Mode: number };
  Runtime?: Record<string, never>;
}

/** A secret or a config. */
export interface PayloadSpec extends Annotations {
  /** Base64, with at least one byte. */
  Data: string;
  /** `golang`: every task gets it with its own values in the place of `{{…}}`. */
  Templating?: { Name: string; Options?: Record<string, string> };
}

/** One of the two: a countable amount of a kind, or one thing of a kind by its name. Services reserve amounts only. */
export interface GenericResource {
  DiscreteResourceSpec?: { Kind: string; Value: number };
  NamedResourceSpec?: { Kind: string; Value: string };
}

export interface Resources {
  NanoCPUs?: number;
  MemoryBytes?: number;
  Pids?: number;
  /** Read as GenericResource[]. */
  GenericResources?: unknown[];
}

export interface ResourceRequirements {
  Limits?: Resources;
  Reservations?: Resources;
  /** Swap beyond the memory limit; -1: as much as there is; absent: the engine's default, twice the memory limit. */
  SwapBytes?: number | null;
  /** 0 to 100; -1 or absent: as the host has it. */
  MemorySwappiness?: number | null;
}

export interface RestartPolicy {
  Condition?: 'none' | 'on-failure' | 'any';
  /** Nanoseconds. */
  Delay?: number;
  /** 0 or absent: no limit. */
  MaxAttempts?: number;
  /** Nanoseconds; 0 or absent: all of the past counts. */
  Window?: number;
}

export interface Placement {
  /** Such as `node.labels.segment==AA`. */
  Constraints?: string[];
  Preferences?: { Spread?: { SpreadDescriptor: string } }[];
  /** 0 or absent: no limit. */
  MaxReplicas?: number;
  Platforms?: Platform[];
}

export interface Platform {
  Architecture?: string;
  OS?: string;
}

export interface NetworkAttachmentConfig {
  /** A network's id or, from the client, its name; the API stores the id. */
  Target: string;
  Aliases?: string[];
  DriverOpts?: Record<string, string>;
}

export interface EndpointSpec {
  Mode?: 'vip' | 'dnsrr';
  Ports?: PortConfig[];
}

export type Protocol = 'tcp' | 'udp' | 'sctp';

export interface PortConfig {
  Name?: string;
  Protocol?: Protocol;
  TargetPort?: number;
  /** 0 or absent: the allocator (ingress) or the engine (host) chooses. */
  PublishedPort?: number;
  PublishMode?: 'ingress' | 'host';
}

export interface NodeSpec {
  Name?: string;
  Labels: Labels;
  Role: 'worker' | 'manager';
  Availability: 'active' | 'pause' | 'drain';
}

export interface NetworkSpec extends Annotations {
  Driver: string;
  Internal: boolean;
  Attachable: boolean;
  Ingress: boolean;
  EnableIPv6: boolean;
  Options: Record<string, string>;
  IPAM: {
    Driver: string;
    Options?: Record<string, string> | null;
    Config: { Subnet?: string; IPRange?: string; Gateway?: string }[];
  };
}

export interface SwarmSpec extends Annotations {
  Orchestration: { TaskHistoryRetentionLimit: number };
  Raft: {
    SnapshotInterval: number;
    KeepOldSnapshots: number;
    LogEntriesForSlowFollowers: number;
    ElectionTick: number;
    HeartbeatTick: number;
  };
  Dispatcher: { /** Nanoseconds. */ HeartbeatPeriod: number };
  CAConfig: { /** Nanoseconds. */ NodeCertExpiry: number; ForceRotate?: number; ExternalCAs?: unknown[] };
  TaskDefaults: { LogDriver?: { Name?: string; Options?: Record<string, string> } };
  EncryptionConfig: { AutoLockManagers: boolean };
}
