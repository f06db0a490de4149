/** Users of the simulator, who ask for whatever comes to their minds, by the API's own writes. */
import { removeNetwork } from '../api/network-rules.ts';
import { createService, rollBackService, updateService } from '../api/service-writes.ts';
import { createCluster } from '../daemon/new-cluster.ts';
import { addNode } from '../dispatch/node-writes.ts';
import { timestamp } from '../model/clock.ts';
import { newId } from '../model/ids.ts';
import { DEFAULT_ENVIRONMENT, type Network, type Node, type Service } from '../model/objects.ts';
import type { ServiceSpec, SwarmSpec, UpdateConfig } from '../model/specs.ts';
import { isTerminal, TaskState } from '../model/states.ts';
import type { Transaction, View } from '../store/store.ts';
import { WRITE_LABEL } from './invariants/acknowledged.ts';
import type { Request, Users } from './requests.ts';
import type { Chance } from './seeded.ts';

const NOW_MS = Date.UTC(2026, 0, 1);
const AT = timestamp(NOW_MS);
const MOST_SERVICES = 6;
const SECOND_NS = 1e9;

/** Kinds of requests and how often each. */
const KINDS = {
  create: 12,
  update: 10,
  scale: 10,
  rollback: 4,
  remove: 5,
  availability: 8,
  label: 3,
  'create network': 3,
  'remove network': 2,
  'remove node': 1,
};
type Kind = keyof typeof KINDS;

export const users: Users = {
  begin(tx, nodes) {
    createCluster(tx, {
      clusterId: 'sim',
      nodeId: 'first',
      ingressId: 'ingress',
      spec: { Orchestration: { TaskHistoryRetentionLimit: 3 }, TaskDefaults: {} } as SwarmSpec,
      rootCa: { certificate: '', key: '' },
      joinTokens: { worker: '', manager: '' },
      availability: 'active',
      managerAddress: '10.77.0.1:2377',
      defaultAddressPool: ['10.0.0.0/12'],
      subnetSize: 24,
      dataPathPort: 4789,
      now: AT,
    });
    // The managers of the simulator have no agents.
    tx.nodes.remove('first');
    for (const { id, address } of nodes) addNode(tx, { id, role: 'worker', availability: 'active', address }, NOW_MS);
  },

  next(view, chance, write) {
    for (let tries = 0; tries < 4; tries++) {
      const request = REQUESTS[pickKind(chance)](view, chance, write);
      if (request !== undefined) return request;
    }
    return undefined;
  },
};

const REQUESTS: Record<Kind, (view: View, chance: Chance, write: number) => Request | undefined> = {
  create(view, chance, write) {
    if (view.services.size >= MOST_SERVICES) return undefined;
    const id = newId(chance.random);
    const name = `s${chance.whole(1, 9)}`;
    const spec = newSpec(view, chance, name, write);
    return {
      what: `create ${name} ${textOf(spec)}`,
      subject: { table: 'services', id },
      removes: false,
      write: (tx) => {
        createService(tx, { environment: DEFAULT_ENVIRONMENT, id, spec, auth: undefined, at: AT });
      },
    };
  },
  update: (view, chance, write) => changed(view, chance, write, (spec) => newVersion(chance, spec)),
  scale: (view, chance, write) =>
    changed(view, chance, write, (spec) =>
      spec.Mode.Replicated === undefined
        ? undefined
        : { ...spec, Mode: { Replicated: { Replicas: chance.whole(0, 7) } } },
    ),
  rollback(view, chance) {
    const service = some(view.services.all(), chance);
    if (service?.previousSpec === undefined) return undefined;
    return {
      what: `roll back ${service.spec.Name}`,
      subject: { table: 'services', id: service.id },
      removes: false,
      label: Number(service.previousSpec.Labels[WRITE_LABEL]),
      write: (tx) => rollBackService(tx, referenceTo(service)),
    };
  },
  remove(view, chance) {
    const service = some(view.services.all(), chance);
    return (
      service && {
        what: `remove ${service.spec.Name}`,
        subject: { table: 'services', id: service.id },
        removes: true,
        write: (tx) => tx.services.remove(service.id),
      }
    );
  },
  availability(view, chance, write) {
    const Availability = chance.pick(['active', 'active', 'drain', 'pause'] as const);
    return nodeRequest(view, chance, write, (spec) => ({ ...spec, Availability }));
  },
  label: (view, chance, write) =>
    nodeRequest(view, chance, write, (spec) => ({
      ...spec,
      Labels: { ...spec.Labels, zone: chance.pick(['a', 'b']) },
    })),
  'create network'(view, chance, write) {
    if (view.networks.size > 3) return undefined;
    const id = newId(chance.random);
    const name = `n${chance.whole(1, 5)}`;
    return {
      what: `create network ${name}`,
      subject: { table: 'networks', id },
      removes: false,
      write: (tx) => addNetwork(tx, id, name, write),
    };
  },
  'remove network'(view, chance) {
    const network = some(view.networks.all(), chance);
    if (network === undefined || network.spec.Ingress) return undefined;
    return {
      what: `remove network ${network.spec.Name}`,
      subject: { table: 'networks', id: network.id },
      removes: true,
      write: (tx) => {
        if (tx.networks.get(network.id) === undefined) throw new Error('there is no such network');
        removeNetwork(tx, network.id);
      },
    };
  },
  'remove node'(view, chance) {
    const node = some(view.nodes.all(), chance);
    if (node === undefined || node.status.state !== 'down' || view.nodes.size < 3) return undefined;
    return {
      what: `remove node ${node.id}`,
      subject: { table: 'nodes', id: node.id },
      removes: true,
      write: (tx) => removeNode(tx, node.id),
    };
  },
};

function pickKind(chance: Chance): Kind {
  const all = Object.entries(KINDS) as [Kind, number][];
  let at = chance.random() * all.reduce((sum, [, weight]) => sum + weight, 0);
  return all.find(([, weight]) => (at -= weight) < 0)![0];
}

function some<T>(all: Iterable<T>, chance: Chance): T | undefined {
  const list = [...all];
  return list.length === 0 ? undefined : chance.pick(list);
}

function newSpec(view: View, chance: Chance, name: string, write: number): ServiceSpec {
  const networks = [...view.networks.all()].filter(({ spec, removing }) => !spec.Ingress && removing !== true);
  const network = networks.length > 0 && chance.happens(0.6) ? [{ Target: chance.pick(networks).id }] : [];
  const isGlobal = chance.happens(0.2);
  const spec: ServiceSpec = {
    Name: name,
    Labels: { [WRITE_LABEL]: String(write) },
    Mode: isGlobal ? { Global: {} } : { Replicated: { Replicas: chance.whole(1, 6) } },
    TaskTemplate: {
      ContainerSpec: { Image: image(chance), StopGracePeriod: chance.whole(1, 10) * SECOND_NS },
      RestartPolicy: { Condition: 'any', Delay: chance.pick([0.1, 1, 5]) * SECOND_NS },
      ...(chance.happens(0.6)
        ? { Resources: { Reservations: { NanoCPUs: chance.pick([0.5, 1, 2, 3]) * 1e9, MemoryBytes: 1e9 } } }
        : {}),
      ...(chance.happens(0.2) ? { Placement: { Constraints: ['node.labels.zone==a'] } } : {}),
      ...(network.length > 0 ? { Networks: network } : {}),
    },
    UpdateConfig: updateConfig(chance),
    RollbackConfig: updateConfig(chance),
  };
  if (!chance.happens(0.3)) return spec;
  const PublishedPort = chance.pick([0, 8000, 8001, 8002]);
  return {
    ...spec,
    EndpointSpec: { Ports: [{ Protocol: 'tcp', TargetPort: 80, PublishedPort, PublishMode: 'ingress' }] },
  };
}

function image(chance: Chance): string {
  const kind = chance.pick(['app', 'app', 'app', 'app', 'app', 'slow', 'slow', 'checked', 'bad', 'missing']);
  return `${kind}:${chance.whole(1, 99)}`;
}

function updateConfig(chance: Chance): UpdateConfig {
  return {
    Parallelism: chance.whole(0, 3),
    Delay: chance.pick([0, 0, 1]) * SECOND_NS,
    Monitor: chance.pick([0.5, 2]) * SECOND_NS,
    FailureAction: chance.pick(['pause', 'continue', 'rollback'] as const),
    MaxFailureRatio: chance.pick([0, 0, 0.5]),
    Order: chance.pick(['stop-first', 'start-first'] as const),
  };
}

function newVersion(chance: Chance, spec: ServiceSpec): ServiceSpec {
  const { TaskTemplate } = spec;
  const UpdateConfig = updateConfig(chance);
  const ContainerSpec = { ...TaskTemplate.ContainerSpec, Image: image(chance) };
  return { ...spec, UpdateConfig, TaskTemplate: { ...TaskTemplate, ContainerSpec } };
}

/** A new spec of some service; undefined if the change does not fit it. */
function changed(
  view: View,
  chance: Chance,
  write: number,
  change: (spec: ServiceSpec) => ServiceSpec | undefined,
): Request | undefined {
  const service = some(view.services.all(), chance);
  const next = service && change(service.spec);
  if (next === undefined) return undefined;
  const spec = { ...next, Labels: { ...next.Labels, [WRITE_LABEL]: String(write) } };
  return {
    what: `update ${service!.spec.Name} to ${textOf(spec)}`,
    subject: { table: 'services', id: service!.id },
    removes: false,
    write: (tx) => updateService(tx, { ...referenceTo(service!), spec, auth: undefined, authFrom: 'spec' }),
  };
}

function referenceTo({ id, meta }: Service): { environment: string; reference: string; version: number; at: string } {
  return { environment: DEFAULT_ENVIRONMENT, reference: id, version: meta.version, at: AT };
}

function nodeRequest(
  view: View,
  chance: Chance,
  write: number,
  change: (spec: Node['spec']) => Node['spec'],
): Request | undefined {
  const node = some(view.nodes.all(), chance);
  if (node === undefined) return undefined;
  const spec = change(node.spec);
  return {
    what: `set node ${node.id} to ${spec.Availability} ${spec.Labels.zone ?? ''}`,
    subject: { table: 'nodes', id: node.id },
    removes: false,
    write: (tx) => {
      const now = tx.nodes.get(node.id);
      if (now === undefined || now.meta.version !== node.meta.version) throw new Error('update out of sequence');
      const Labels = { ...spec.Labels, [WRITE_LABEL]: String(write) };
      tx.nodes.update({ ...now, spec: { ...spec, Labels }, meta: { ...now.meta, version: tx.index } });
    },
  };
}

function addNetwork(tx: Transaction, id: string, name: string, write: number): void {
  if ([...tx.networks.all()].some(({ spec, removing }) => spec.Name === name && removing !== true))
    throw new Error(`network with name ${name} already exists`);
  const network: Network = {
    id,
    environment: DEFAULT_ENVIRONMENT,
    meta: { version: tx.index, createdAt: AT, updatedAt: AT },
    spec: {
      Name: name,
      Labels: { [WRITE_LABEL]: String(write) },
      Driver: 'overlay',
      Internal: false,
      Attachable: false,
      Ingress: false,
      EnableIPv6: false,
      Options: {},
      IPAM: { Driver: 'default', Options: null, Config: [] },
    },
  };
  tx.networks.create(network);
}

/** As the API does. */
function removeNode(tx: Transaction, id: string): void {
  const node = tx.nodes.get(id);
  if (node === undefined || node.status.state !== 'down')
    throw new Error(`node ${id} is not down and can't be removed`);
  tx.nodes.remove(id);
  for (const task of tx.tasks.by('node', id)) {
    if (isTerminal(task.status.state)) continue;
    const status = { ...task.status, state: TaskState.ORPHANED, message: 'Task was orphaned: its node was removed' };
    tx.tasks.update({ ...task, status });
  }
}

function textOf({ Mode, TaskTemplate, UpdateConfig }: ServiceSpec): string {
  const mode = Mode.Global === undefined ? `${Mode.Replicated?.Replicas} ×` : 'global';
  return `${mode} ${TaskTemplate.ContainerSpec?.Image} ${UpdateConfig?.Order}`;
}
