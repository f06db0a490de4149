/** What a service says of its tasks as a crowd: mode, updates, restarts, placement, resources. */
import type {
  ResourceRequirements,
  RestartPolicy,
  ServiceMode,
  ServiceSpec,
  TaskSpec,
  UpdateConfig,
} from '../../model/specs.ts';
import type { Field } from './field.ts';
import {
  checkKeys,
  DEPLOY,
  DISCRETE_RESOURCE,
  GENERIC_RESOURCE,
  LIMIT_KEYS,
  PLACEMENT,
  PREFERENCE,
  RESERVATION_KEYS,
  RESOURCES,
  RESTART_POLICY,
  UPDATE_CONFIG,
} from './keys.ts';
import { said } from './project.ts';

type Warn = (text: string) => void;

export function deployOf(
  service: Field,
  warn: Warn,
): Pick<ServiceSpec, 'Mode' | 'UpdateConfig' | 'RollbackConfig'> & {
  template: Pick<TaskSpec, 'Resources' | 'RestartPolicy' | 'Placement'>;
} {
  const deploy = service.get('deploy');
  if (deploy !== undefined) checkKeys(deploy, DEPLOY, warn);
  const restart = restartPolicy(service, deploy?.get('restart_policy'), warn);
  return {
    Mode: mode(service, deploy),
    ...updateConfig('UpdateConfig', deploy?.get('update_config'), warn),
    ...updateConfig('RollbackConfig', deploy?.get('rollback_config'), warn),
    template: {
      Resources: resources(service, deploy?.get('resources'), warn),
      ...(restart === undefined ? {} : { RestartPolicy: restart }),
      Placement: placement(deploy?.get('placement'), warn),
    },
  };
}

function mode(service: Field, deploy: Field | undefined): ServiceMode {
  const replicas = deploy?.get('replicas') ?? service.get('scale');
  const count = replicas?.integer();
  const wanted = deploy?.get('mode')?.oneOf('replicated', 'global', 'replicated-job', 'global-job') ?? 'replicated';
  if (wanted.startsWith('global') && replicas !== undefined)
    replicas.fail('replicas can only be used with replicated or replicated-job mode');
  if (wanted === 'global') return { Global: {} };
  if (wanted === 'global-job') return { GlobalJob: {} };
  if (wanted === 'replicated') return { Replicated: count === undefined ? {} : { Replicas: count } };
  return { ReplicatedJob: count === undefined ? {} : { MaxConcurrent: count, TotalCompletions: count } };
}

function updateConfig<K extends 'UpdateConfig' | 'RollbackConfig'>(
  key: K,
  field: Field | undefined,
  warn: Warn,
): Partial<Record<K, UpdateConfig>> {
  if (field === undefined) return {};
  checkKeys(field, UPDATE_CONFIG, warn);
  const ratio = field.get('max_failure_ratio');
  const value = ratio?.number() ?? 0;
  if (value < 0 || value > 1) ratio?.fail('a number from 0 to 1 is needed');
  const config: UpdateConfig = {
    Parallelism: field.get('parallelism')?.integer() ?? 1,
    ...said({
      Delay: field.get('delay')?.durationNs(),
      FailureAction: field.get('failure_action')?.oneOf('pause', 'continue', 'rollback'),
      Monitor: field.get('monitor')?.durationNs(),
    }),
    MaxFailureRatio: value,
    ...said({ Order: field.get('order')?.oneOf('stop-first', 'start-first') }),
  };
  return { [key]: config } as Partial<Record<K, UpdateConfig>>;
}

/** `deploy.restart_policy`; without it, what `restart` says. */
function restartPolicy(service: Field, field: Field | undefined, warn: Warn): RestartPolicy | undefined {
  const restart = service.get('restart');
  if (field !== undefined) {
    if (restart !== undefined) warn(`${restart.path} is ignored: deploy.restart_policy is there`);
    checkKeys(field, RESTART_POLICY, warn);
    const delay = field.get('delay')?.durationNs();
    const window = field.get('window')?.durationNs();
    const attempts = field.get('max_attempts')?.integer();
    return {
      ...said({ Condition: field.get('condition')?.oneOf('none', 'on-failure', 'any') }),
      ...(delay === undefined ? {} : { Delay: delay }),
      ...(attempts === undefined ? {} : { MaxAttempts: attempts }),
      ...(window === undefined ? {} : { Window: window }),
    };
  }
  if (
    restart === undefined ||
    (!restart.isMap && restart.node.kind === 'scalar' && /^(no|false|)$/.test(restart.node.text))
  )
    return undefined;
  const [, name = '', attempts] = /^(always|unless-stopped|on-failure)(?::(\d+))?$/.exec(restart.text()) ?? [];
  if (name === '' || (attempts !== undefined && name !== 'on-failure'))
    return restart.fail(`"${restart.text()}" is none of no, always, unless-stopped, on-failure, on-failure:TIMES`);
  return { Condition: name === 'on-failure' ? 'on-failure' : 'any', ...said({ MaxAttempts: Number(attempts ?? 0) }) };
}

function placement(field: Field | undefined, warn: Warn): NonNullable<TaskSpec['Placement']> {
  if (field === undefined) return {};
  checkKeys(field, PLACEMENT, warn);
  return said({
    Constraints: field.get('constraints')?.texts(),
    Preferences: field
      .get('preferences')
      ?.items()
      .map((preference) => {
        checkKeys(preference, PREFERENCE, warn);
        const spread =
          preference.get('spread') ?? preference.fail('"spread" is needed, such as spread: node.labels.zone');
        return { Spread: { SpreadDescriptor: spread.text() } };
      }),
    MaxReplicas: field.get('max_replicas_per_node')?.integer(),
  });
}

/** `deploy.resources`; where it says nothing, the service's own older keys. */
function resources(service: Field, field: Field | undefined, warn: Warn): ResourceRequirements {
  if (field !== undefined) checkKeys(field, RESOURCES, warn);
  const limits = field?.get('limits');
  const reservations = field?.get('reservations');
  if (limits !== undefined) checkKeys(limits, LIMIT_KEYS, warn);
  if (reservations !== undefined) checkKeys(reservations, RESERVATION_KEYS, warn);
  const limit = said({
    NanoCPUs: (limits?.get('cpus') ?? service.get('cpus'))?.nanoCpus(),
    MemoryBytes: (limits?.get('memory') ?? service.get('mem_limit'))?.bytes(),
    Pids: (limits?.get('pids') ?? service.get('pids_limit'))?.integer(-1),
  });
  const reservation = said({
    NanoCPUs: reservations?.get('cpus')?.nanoCpus(),
    MemoryBytes: (reservations?.get('memory') ?? service.get('mem_reservation'))?.bytes(),
    GenericResources: reservations
      ?.get('generic_resources')
      ?.items()
      .map((resource) => generic(resource, warn)),
  });
  return {
    ...(limits === undefined && Object.keys(limit).length === 0 ? {} : { Limits: limit }),
    ...(reservations === undefined && Object.keys(reservation).length === 0 ? {} : { Reservations: reservation }),
  };
}

function generic(field: Field, warn: Warn): object {
  checkKeys(field, GENERIC_RESOURCE, warn);
  const discrete = field.get('discrete_resource_spec') ?? field.fail('"discrete_resource_spec" is needed');
  checkKeys(discrete, DISCRETE_RESOURCE, warn);
  return {
    DiscreteResourceSpec: {
      Kind: discrete.get('kind')?.text() ?? discrete.fail('"kind" is needed'),
      Value: discrete.get('value')?.integer() ?? discrete.fail('"value" is needed'),
    },
  };
}
