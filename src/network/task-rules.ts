/**
 * The rules inside a task's own network namespace, as text: VIPs of its networks, and the way back to published
 * ports. Their number depends on the services the task can see, never on the size of the cluster (decision 7).
 */
import type { Balanced, TableShape } from './balancing.ts';
import { removeTable, rotated } from './balancing.ts';
import type { Facts } from './facts.ts';

/**
 * VIPs are turned before Docker's own 127.0.0.11 rules (priority −100) see a packet; those match nothing of ours.
 * A VIP that nobody serves is refused at once: what is still addressed to it after translation had no backend.
 * A task that reaches itself through a VIP gets masqueraded, or it would answer itself under the wrong name.
 */
export const VIP_TABLE: TableShape = {
  name: 'drover',
  keyType: 'ipv4_addr',
  chains: `chain output {
    type nat hook output priority -110
    ip daddr vmap @targets
  }
  chain refuse {
    type filter hook output priority 0
    ip daddr @idle meta l4proto tcp reject with tcp reset
    ip daddr @idle reject with icmp type port-unreachable
  }
  chain postrouting {
    type nat hook postrouting priority 100
    ct status dnat oifname "lo" ip daddr != 127.0.0.0/8 masquerade
  }`,
};

/** The VIPs of all services that a task on these networks sees. */
export function taskBalance(facts: Facts, taskId: string, networkIds: Iterable<string>): Map<string, Balanced[]> {
  const balance = new Map<string, Balanced[]>();
  for (const networkId of networkIds) {
    for (const key of facts.network(networkId)?.services.keys() ?? []) {
      const entries = taskBalanced(facts, taskId, networkId, key);
      if (entries.length > 0) balance.set(key, entries);
    }
  }
  return balance;
}

/** One service's VIP; none with `dnsrr`. The ingress network has no VIPs that tasks may use. */
export function taskBalanced(facts: Facts, taskId: string, networkId: string, serviceKey: string): Balanced[] {
  const known = facts.network(networkId);
  const service = known?.services.get(serviceKey);
  if (service?.vip === undefined || known?.network?.ingress === true) return [];
  return [{ key: service.vip, backends: rotated(facts.serving(networkId, service.serviceId), taskId) }];
}

/**
 * Turns questions to these name servers to our resolver on `gateway`: for a container that was made before it came into
 * an overlay, and asks others. From its address in the overlay, by which the resolver knows it. No servers: as it was.
 * Spelt out without sets, for what a set loses when rules are made anew a packet misses (see `balancing.ts`).
 */
export function nameServerRules({ gateway, instead }: { gateway: string; instead: readonly string[] }): string {
  const others = instead.filter((server) => server !== gateway);
  if (others.length === 0) return `${removeTable('drover_names')}\n`;
  return `${removeTable('drover_names')}
table ip drover_names {
  chain ask {
    type nat hook output priority -110
    ${others.flatMap((server) => ['udp', 'tcp'].map((protocol) => `ip daddr ${server} ${protocol} dport 53 dnat to ${gateway}`)).join('\n    ')}
  }
  chain leave {
    type nat hook postrouting priority 100
    ct status dnat ip daddr ${gateway} udp dport 53 masquerade
    ct status dnat ip daddr ${gateway} tcp dport 53 masquerade
  }
}
`;
}

/** Routing table of the way back; any number that nobody else uses inside a container will do. */
const RETURN_TABLE = 7042;

/**
 * The way back to the node a connection came in by, at constant cost. Every MAC of an overlay is 02:42 and an IPv4
 * address, so its low 32 bits name the node: they go into the connection's mark on arrival, and on the way out
 * the packet gets that node's MAC as its destination, whatever gateway routing chose. The map from mark to MAC
 * is learnt from arriving packets (nft 1.0 will not write a mark into a header directly) and holds only nodes
 * that connections came through. When the rules are made anew the map stays: a task may have something to say on a
 * connection whose client is silent, and would not know the way back.
 *
 * A client that calls several nodes from one port of its own (a load balancer does, all day) looks the same in each of
 * these connections once its node has turned it to this task. So each node's are tracked in a zone of their own, named by
 * the low 16 bits of its MAC, on arrival only: what this task says is tracked in one, so the kernel gives the later of
 * two equals another port, which the client never sees.
 */
export function returnPathRules(device: string): string {
  return `add table ip drover_return
delete table ip drover_return
table ip drover_return {
  chain apart {
    type filter hook prerouting priority -300
    iifname "${device}" ct original zone set @ll,80,16
  }
  chain arrive {
    type filter hook prerouting priority -150
    icmp type redirect drop comment "a node that turns a connection round would send us past itself"
    iifname "${device}" ct state new ct mark set @ll,64,32
  }
  chain leave {
    type route hook output priority -150
    ct mark != 0 meta mark set ct mark
  }
}
add table netdev drover_return
add map netdev drover_return edges { type mark : ether_addr; flags dynamic; size 65536; }
add chain netdev drover_return arrive { type filter hook ingress device "${device}" priority 0; }
add chain netdev drover_return leave { type filter hook egress device "${device}" priority 0; }
flush chain netdev drover_return arrive
flush chain netdev drover_return leave
add rule netdev drover_return arrive ether type ip update @edges { @ll,64,32 : ether saddr }
add rule netdev drover_return leave meta mark != 0 ether type ip ether daddr set meta mark map @edges
`;
}

/** Lets whatever has the ingress address leave through it: `routes` for `ip -batch`, and the `rule` that leads there. */
export function returnRoutes(
  device: string,
  address: string,
  gateway: string,
  subnet: string,
): { routes: string; rule: string } {
  return {
    routes: [
      `route replace ${subnet} dev ${device} src ${address} table ${RETURN_TABLE}`,
      `route replace default via ${gateway} dev ${device} src ${address} table ${RETURN_TABLE}`,
    ].join('\n'),
    rule: `from ${address} lookup ${RETURN_TABLE} priority ${RETURN_TABLE}`,
  };
}
