/** The shapes of the Engine API that we read and write, in the engine's own words; only the fields we use. */

export interface HealthcheckBody {
  Test?: string[];
  /** Nanoseconds, as the following three. */
  Interval?: number;
  Timeout?: number;
  StartPeriod?: number;
  StartInterval?: number;
  Retries?: number;
}

export interface MountBody {
  Type: string;
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
    Labels?: Record<string, string>;
    Subpath?: string;
    DriverConfig?: { Name?: string; Options?: Record<string, string> };
  };
  TmpfsOptions?: { SizeBytes?: number; Mode?: number; Options?: string[][] };
}

export interface EndpointBody {
  IPAMConfig?: { IPv4Address?: string };
  MacAddress?: string;
}

export interface PortBinding {
  HostIp?: string;
  HostPort: string;
}

export interface HostConfigBody {
  NetworkMode?: string;
  RestartPolicy?: { Name: string };
  Mounts?: MountBody[];
  PortBindings?: Record<string, PortBinding[]>;
  /** 1e9 is one processor. */
  NanoCpus?: number;
  /** Bytes. */
  Memory?: number;
  MemoryReservation?: number;
  /** Memory and swap together, bytes; -1: no limit. */
  MemorySwap?: number;
  MemorySwappiness?: number;
  OomScoreAdj?: number;
  Isolation?: string;
  PidsLimit?: number;
  Init?: boolean;
  ReadonlyRootfs?: boolean;
  LogConfig?: { Type: string; Config: Record<string, string> };
  /** `name:IP` */
  ExtraHosts?: string[];
  Dns?: string[];
  DnsSearch?: string[];
  DnsOptions?: string[];
  GroupAdd?: string[];
  CapAdd?: string[];
  CapDrop?: string[];
  Sysctls?: Record<string, string>;
  Ulimits?: { Name: string; Soft: number; Hard: number }[];
  SecurityOpt?: string[];
}

export interface ContainerCreateBody {
  Image: string;
  Entrypoint?: string[];
  Cmd?: string[];
  Env?: string[];
  User?: string;
  WorkingDir?: string;
  Hostname?: string;
  Labels?: Record<string, string>;
  StopSignal?: string;
  /** Seconds. */
  StopTimeout?: number;
  Tty?: boolean;
  OpenStdin?: boolean;
  Healthcheck?: HealthcheckBody;
  ExposedPorts?: Record<string, Record<string, never>>;
  MacAddress?: string;
  HostConfig: HostConfigBody;
  NetworkingConfig?: { EndpointsConfig: Record<string, EndpointBody> };
}

export interface ContainerInspect {
  Id: string;
  Name: string;
  State: {
    Status: string;
    Running: boolean;
    Pid: number;
    ExitCode: number;
    OOMKilled: boolean;
    Error: string;
    /** RFC 3339; the year 1 if it never ran. */
    StartedAt: string;
    /** The last five checks, the newest last. */
    Health?: { Status: string; Log?: { Output: string }[] | null };
  };
  /** StopTimeout: seconds; absent if it was created without. */
  Config: { Labels: Record<string, string> | null; StopTimeout?: number };
  NetworkSettings: {
    Ports?: Record<string, PortBinding[] | null> | null;
    Networks?: Record<string, { IPAddress?: string } | null> | null;
  };
}

export interface ContainerListItem {
  Id: string;
  State: string;
  Labels: Record<string, string> | null;
}

/** One of the two is there. */
export interface GenericResourceBody {
  DiscreteResourceSpec?: { Kind: string; Value: number };
  NamedResourceSpec?: { Kind: string; Value: string };
}

export interface SystemInfo {
  Name: string;
  OSType: string;
  Architecture: string;
  NCPU: number;
  /** Bytes. */
  MemTotal: number;
  ServerVersion: string;
  /** `name=value` */
  Labels: string[] | null;
  /** Absent if the engine was given none. */
  GenericResources?: GenericResourceBody[] | null;
  Plugins: Record<string, string[] | null>;
}

export interface EventMessage {
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> | null };
}

/** One line of a pull's progress. */
export interface PullProgress {
  status?: string;
  error?: string;
}

export interface NetworkCreateBody {
  Name: string;
  Driver: string;
  Internal: boolean;
  CheckDuplicate: boolean;
  IPAM: { Driver: string; Config: { Subnet: string; Gateway: string }[] };
  Options: Record<string, string>;
  Labels: Record<string, string>;
}

export interface NetworkInspect {
  Id: string;
  Name: string;
  Driver: string;
  Internal: boolean;
  Labels: Record<string, string> | null;
  Options: Record<string, string> | null;
  IPAM: { Config: { Subnet?: string; Gateway?: string }[] | null };
  /** By container id; endpoints without a container have an id such as `ep-…`. */
  Containers?: Record<string, { Name: string }>;
}
