/**
 * The rules a ServiceSpec must keep beyond its shape, with the sentences Docker's users know (docker-api.md 1.2, 1.3).
 * Pure. What Drover cannot do yet is refused with 501 and a sentence, never half done (decisions-and-traps.md 2).
 */
import { ConstraintError, parseConstraints } from '../../model/constraints.ts';
import type {
  ContainerSpec,
  EndpointSpec,
  GenericResource,
  HealthConfig,
  Mount,
  ResourceRequirements,
  Resources,
  ServiceSpec,
  TaskSpec,
  UpdateConfig,
} from '../../model/specs.ts';
import { templateFault } from '../../model/placeholders.ts';
import { badRequest, notBuilt } from '../errors.ts';
import { checkDroverLabels } from './drover-labels.ts';
import { isImageReference } from './image-reference.ts';
import { checkName } from './names.ts';
import { checkPayloadReferences } from './payload-references.ts';

/** More tasks than any cluster here was measured with: a slip of the hand must not take the manager's memory. */
const MAX_REPLICAS = 1_000_000;
const MS_NS = 1e6;
/** 0.001 CPU. */
const MIN_NANO_CPUS = 1e6;
/** 4 MiB. */
const MIN_MEMORY_BYTES = 4 * 1024 * 1024;

/** @throws ApiError 400 or 501 at the first rule that `spec` breaks */
export function checkServiceSpec(spec: ServiceSpec): void {
  checkName(spec.Name);
  checkDroverLabels(spec.Labels);
  checkMode(spec);
  checkTask(spec.TaskTemplate);
  checkUpdateConfig(spec.UpdateConfig);
  checkUpdateConfig(spec.RollbackConfig);
  checkEndpoint(spec.EndpointSpec ?? {});
}

function checkMode(spec: ServiceSpec): void {
  const modes = Object.keys(spec.Mode).filter((mode) =>
    ['Replicated', 'Global', 'ReplicatedJob', 'GlobalJob'].includes(mode),
  );
  if (modes.length > 1) throw badRequest('must specify only one service mode');
  if (modes.length === 0) throw badRequest('service mode must be Replicated or Global');
  if (modes[0]?.endsWith('Job') === true) checkJob(spec);
  const replicas = spec.Mode.Replicated?.Replicas ?? 0;
  if (replicas < 0) throw badRequest('Number of replicas must be non-negative');
  if (replicas > MAX_REPLICAS) throw badRequest(`Number of replicas must be at most ${MAX_REPLICAS}`);
}

/** A job is replaced by its next run, never updated a few tasks at a time. */
function checkJob(spec: ServiceSpec): void {
  const { MaxConcurrent = 0, TotalCompletions = 0 } = spec.Mode.ReplicatedJob ?? {};
  if (MaxConcurrent < 0) throw badRequest('Maximum concurrent jobs must not be negative');
  if (TotalCompletions < 0) throw badRequest('Total completed jobs must not be negative');
  const most = Math.max(MaxConcurrent, TotalCompletions);
  if (most > MAX_REPLICAS)
    throw badRequest(`Completions of a job and its concurrent tasks must be at most ${MAX_REPLICAS}`);
  if (spec.UpdateConfig !== undefined) throw badRequest('Jobs may not have an update config');
}

function checkTask(task: TaskSpec): void {
  const runtime = task.Runtime ?? '';
  if (['plugin', 'attachment'].includes(runtime)) throw notBuilt(`services of runtime ${runtime} are not supported`);
  if (runtime !== '' && runtime !== 'container') throw badRequest('unsupported runtime');
  if (task.ContainerSpec === undefined) throw badRequest('mismatched Runtime and *Spec fields');
  checkContainer(task.ContainerSpec);
  for (const resources of [task.Resources?.Limits, task.Resources?.Reservations]) checkResources(resources ?? {});
  checkSwap(task.Resources ?? {});
  if ((task.RestartPolicy?.Delay ?? 0) < 0) throw badRequest('TaskSpec: restart-delay cannot be negative');
  if ((task.RestartPolicy?.Window ?? 0) < 0) throw badRequest('TaskSpec: restart-window cannot be negative');
  try {
    parseConstraints(task.Placement?.Constraints ?? []);
  } catch (error) {
    throw error instanceof ConstraintError ? badRequest(error.message) : error;
  }
}

function checkContainer(container: ContainerSpec): void {
  const image = container.Image ?? '';
  if (image === '') throw badRequest('ContainerSpec: image reference must be provided');
  if (!isImageReference(image)) throw badRequest(`ContainerSpec: "${image}" is not a valid repository/tag`);
  checkPayloadReferences(container);
  if ((container.StopGracePeriod ?? 0) < 0) throw badRequest('ContainerSpec: stop-grace-period cannot be negative');
  checkHealth(container.Healthcheck ?? {});
  checkOomScore(container.OomScoreAdj ?? 0);
  checkTemplates(container);
  checkCredentialSpec(container.Privileges?.['CredentialSpec']);
  const targets = new Set<string>();
  for (const mount of container.Mounts ?? []) {
    checkMount(mount);
    if (targets.has(mount.Target)) throw badRequest(`ContainerSpec: duplicate mount point: ${mount.Target}`);
    targets.add(mount.Target);
  }
}

function checkHealth(health: HealthConfig): void {
  for (const name of ['Interval', 'Timeout', 'StartPeriod'] as const) {
    const duration = health[name] ?? 0;
    if (duration !== 0 && duration < MS_NS)
      throw badRequest(`ContainerSpec: ${name} in HealthConfig cannot be less than 1ms`);
  }
  if ((health.Retries ?? 0) < 0) throw badRequest('ContainerSpec: Retries in HealthConfig cannot be negative');
}

/** Placeholders that no task could fill in. */
function checkTemplates(container: ContainerSpec): void {
  const check = (what: string, template: string): void => {
    const fault = templateFault(template);
    if (fault !== undefined)
      throw badRequest(`expanding ${what} failed: template ${JSON.stringify(template)}: ${fault}`);
  };
  check('hostname', container.Hostname ?? '');
  for (const entry of container.Env ?? []) check('env', entry);
  for (const mount of container.Mounts ?? []) {
    const { Labels: labels = {}, DriverConfig: driver = {} } = mount.VolumeOptions ?? {};
    const texts = [mount.Source ?? '', mount.Target, ...Object.values(labels), ...Object.values(driver.Options ?? {})];
    for (const text of texts) check('mounts', text);
  }
}

function checkCredentialSpec(credentials: unknown): void {
  if (typeof credentials !== 'object' || credentials === null) return;
  const sources = Object.entries(credentials).flatMap(([key, value]) => (value ? [`"${key.toLowerCase()}"`] : []));
  if (sources.length === 0)
    throw badRequest('invalid CredentialSpec: must either provide "file", "registry", or "config" for credential spec');
  if (sources.length > 1)
    throw badRequest(`invalid CredentialSpec: cannot specify both ${sources.join(' and ')} credential specs`);
}

function checkMount(mount: Mount): void {
  if (mount.Type === undefined) throw badRequest('invalid MountType: ""');
  const source = mount.Source ?? '';
  if (mount.Type === 'cluster') throw notBuilt('cluster volumes are not supported yet');
  if (mount.Type === 'npipe') throw badRequest('invalid mount config for type "npipe": only Windows has named pipes');
  const invalid = (why: string) => badRequest(`invalid mount config for type "${mount.Type}": ${why}`);
  if ((mount.Target ?? '') === '') throw invalid('field Target must not be empty');
  if (!mount.Target.startsWith('/')) throw invalid(`invalid mount path: '${mount.Target}' mount path must be absolute`);
  if (mount.Type === 'bind' && source === '') throw invalid('field Source must not be empty');
  if (mount.Type === 'bind' && !source.startsWith('/'))
    throw invalid(`invalid mount path: '${source}' mount path must be absolute`);
  if (mount.Type === 'tmpfs' && source !== '') throw invalid('field Source must not be specified');
  if (mount.Type === 'volume' && source.includes('/'))
    throw invalid(`invalid mount path: '${source}' must be the name of a volume`);
}

function checkResources(resources: Resources): void {
  const { NanoCPUs: cpus = 0, MemoryBytes: memory = 0, GenericResources: generic = [] } = resources;
  if (cpus !== 0 && cpus < MIN_NANO_CPUS)
    throw badRequest(`invalid cpu value ${asGo(cpus / 1e9)}: Must be at least ${asGo(MIN_NANO_CPUS / 1e9)}`);
  if (memory !== 0 && memory < MIN_MEMORY_BYTES)
    throw badRequest(`invalid memory value ${memory}: Must be at least 4MiB`);
  for (const { DiscreteResourceSpec: amount, NamedResourceSpec: named } of generic as GenericResource[]) {
    // Nobody reserves one thing by its name: any of its kind will do.
    if (amount === undefined) throw badRequest(`invalid argument for resource ${named?.Kind ?? ''}`);
  }
}

/** What an engine would refuse, told before it is asked; -1 is Docker's word for "no limit" and "as the host has it". */
function checkSwap({ Limits, SwapBytes: swap, MemorySwappiness: swappiness }: ResourceRequirements): void {
  if (typeof swap === 'number' && swap < -1) throw badRequest(`invalid swap value ${swap}: Must be -1 or more`);
  if (typeof swap === 'number' && !Limits?.MemoryBytes)
    throw badRequest('memory swap provided, but no memory-limit was set');
  if (typeof swappiness === 'number' && (swappiness < -1 || swappiness > 100))
    throw badRequest(`invalid value: ${swappiness}, valid memory swappiness range is 0-100`);
}

function checkOomScore(score: number): void {
  if (Math.abs(score) > 1000) throw badRequest(`invalid value ${score}, range for oom score adj is [-1000, 1000]`);
}

/** A small number as Go prints it: `1e-06`. */
function asGo(value: number): string {
  return Math.abs(value) < 1e-4 ? value.toExponential().replace(/e-(\d)$/, 'e-0$1') : String(value);
}

function checkUpdateConfig(config: UpdateConfig = {}): void {
  const { Delay: delay = 0, Monitor: monitor = 0, MaxFailureRatio: ratio = 0 } = config;
  if (delay < 0) throw badRequest('TaskSpec: update-delay cannot be negative');
  if (monitor < 0) throw badRequest('TaskSpec: update-monitor cannot be negative');
  if (ratio < 0 || ratio > 1)
    throw badRequest('TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1');
}

function checkEndpoint(endpoint: EndpointSpec): void {
  const published = new Set<string>();
  for (const port of endpoint.Ports ?? []) {
    const { PublishMode: mode = 'ingress', Protocol: protocol = 'tcp', PublishedPort: number = 0 } = port;
    if (endpoint.Mode === 'dnsrr' && mode === 'ingress') {
      throw badRequest("EndpointSpec: port published with ingress mode can't be used with dnsrr mode");
    }
    if ((port.TargetPort ?? 0) === 0)
      throw badRequest('EndpointSpec: a published port needs a target port from 1 to 65535');
    if (number === 0) continue;
    const key = `${number}/${protocol}`;
    if (published.has(key)) throw badRequest('EndpointSpec: duplicate published ports provided');
    published.add(key);
  }
}
