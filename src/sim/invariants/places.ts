/** What must hold of the state at any moment: no node over what it has, nothing given to two. Pure; undefined: all is well. */
import { serviceSpecId, type Node, type Task } from '../../model/objects.ts';
import { isTerminal, TaskState } from '../../model/states.ts';
import { portKey } from '../../store/schema.ts';
import type { View } from '../../store/store.ts';

/** The tasks that use this node reserve no more than it has. */
export function overReserved(view: View, node: Node): string | undefined {
  if (node.description === undefined) return undefined;
  const { nanoCpus, memoryBytes } = node.description.resources;
  let cpus = 0;
  let memory = 0;
  for (const task of view.tasks.by('node', node.id)) {
    if (!isPlaced(task)) continue;
    const { NanoCPUs = 0, MemoryBytes = 0 } = reservationsOf(view, task);
    cpus += NanoCPUs;
    memory += MemoryBytes;
  }
  if (cpus <= nanoCpus && memory <= memoryBytes) return undefined;
  return `node ${node.id} is over its reservations: ${cpus / 1e9} of ${nanoCpus / 1e9} CPUs, ${memory} of ${memoryBytes} bytes`;
}

/** What a task reserved when it was made. */
export function reservationsOf(view: View, task: Task): { NanoCPUs?: number; MemoryBytes?: number } {
  const made = view.serviceSpecs.get(serviceSpecId(task.serviceId, task.specVersion));
  return made?.spec.TaskTemplate.Resources?.Reservations ?? {};
}

/** True while a task uses its node. */
export function isPlaced(task: Task): boolean {
  return task.nodeId !== '' && task.status.state >= TaskState.ASSIGNED && !isTerminal(task.status.state);
}

/** Within one network an address belongs to one task, service or node. */
export function addressTwice(view: View): string | undefined {
  const holders = new Map<string, string>();
  const take = (networkId: string, address: string, holder: string): string | undefined => {
    const key = `${address} of network ${networkId}`;
    const other = holders.get(key);
    if (other !== undefined && other !== holder) return `${key} was given to ${other} and to ${holder}`;
    holders.set(key, holder);
    return undefined;
  };
  for (const service of view.services.all()) {
    for (const { networkId, address } of service.endpoint?.virtualIps ?? []) {
      const wrong = take(networkId, address, `service ${service.spec.Name}`);
      if (wrong !== undefined) return wrong;
    }
  }
  for (const node of view.nodes.all()) {
    for (const [networkId, address] of Object.entries(node.gateways)) {
      const wrong = take(networkId, address, `node ${node.id}`);
      if (wrong !== undefined) return wrong;
    }
  }
  for (const task of view.tasks.all()) {
    // What has ended has given its addresses back.
    if (isTerminal(task.status.state)) continue;
    for (const { networkId, address } of task.networks) {
      const wrong = take(networkId, address, `task ${task.id}`);
      if (wrong !== undefined) return wrong;
    }
  }
  return undefined;
}

/** A published port belongs to one service, and a name to one of its kind. */
export function portOrNameTwice(view: View): string | undefined {
  const holders = new Map<string, string>();
  const take = (key: string, holder: string): string | undefined => {
    const other = holders.get(key);
    if (other !== undefined && other !== holder) return `${key} belongs to ${other} and to ${holder}`;
    holders.set(key, holder);
    return undefined;
  };
  for (const service of view.services.all()) {
    const wrong = take(`the service name ${service.spec.Name}`, service.id);
    if (wrong !== undefined) return wrong;
    for (const { protocol, publishedPort, publishMode } of service.endpoint?.ports ?? []) {
      if (publishMode !== 'ingress' || publishedPort === 0) continue;
      const twice = take(`port ${portKey(protocol, publishedPort)}`, service.spec.Name);
      if (twice !== undefined) return twice;
    }
  }
  for (const network of view.networks.all()) {
    if (network.removing === true) continue;
    const wrong = take(`the network name ${network.spec.Name}`, network.id);
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}
