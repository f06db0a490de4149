/**
 * Published ports in the host's own namespace, as text: whatever asks this node at a published port is passed to a
 * serving task, on this node or another, and the task sees the client's own address.
 */
import { macOf } from '../model/addresses.ts';
import type { NetworkAssignment } from '../model/assignments.ts';
import type { Balanced, TableShape } from './balancing.ts';
import type { Facts } from './facts.ts';

/**
 * Before Docker's own publishing (priority −100), so that the cluster's port wins over a container's. Source
 * addresses are kept, but for two cases whose answers would not come back this way: what this host sends itself,
 * and tasks that reach the ingress network through their node.
 *
 * What only passes the bridge, from another node to a task here or back, is none of this host's connections: with
 * `br_netfilter` it would be tracked among them, and taken for one of them where a client calls two nodes from one port.
 * What is for an address of this host is its own whatever its MAC: the answer to a task that was turned round in the bridge.
 */
export function hostTable(name: string, ingress: NetworkAssignment, bridge: string): TableShape {
  return {
    name,
    keyType: 'inet_proto . inet_service',
    chains: `chain bridged {
      type filter hook prerouting priority -300
      iifname "${bridge}" ether daddr != ${macOf(ingress.gateway)} fib daddr type != local notrack
    }
    chain prerouting {
      type nat hook prerouting priority -110
      iifname "drb*" th dport 53 return comment "questions to our resolver, even if somebody publishes port 53"
      fib daddr type local meta l4proto . th dport vmap @targets
    }
    chain output {
      type nat hook output priority -110
      fib daddr type local meta l4proto . th dport vmap @targets
    }
    chain postrouting {
      type nat hook postrouting priority 90
      oifname "${bridge}" ct status dnat fib saddr type local masquerade
      oifname "${bridge}" ct status dnat ip saddr ${ingress.subnet} masquerade
    }`,
  };
}

/** What this node publishes, by service. */
export function hostBalance(facts: Facts, networkId: string): Map<string, Balanced[]> {
  const balance = new Map<string, Balanced[]>();
  for (const key of facts.network(networkId)?.services.keys() ?? []) {
    const ports = publishedPorts(facts, networkId, key);
    if (ports.length > 0) balance.set(key, ports);
  }
  return balance;
}

/** What this node publishes for one service of the ingress network. */
export function publishedPorts(facts: Facts, networkId: string, serviceKey: string): Balanced[] {
  const service = facts.network(networkId)?.services.get(serviceKey);
  if (service === undefined) return [];
  const serving = facts.serving(networkId, service.serviceId);
  return service.ports
    .filter((port) => port.publishMode === 'ingress' && port.publishedPort > 0)
    .map((port) => ({
      key: `${port.protocol} . ${port.publishedPort}`,
      protocol: port.protocol,
      backends: serving.map((address) => `${address} . ${port.targetPort}`),
    }));
}
