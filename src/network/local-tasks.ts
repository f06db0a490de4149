/**
 * The rules inside the namespaces of this node's own tasks: made when a task starts, changed when a service that it
 * sees changes. A change looks only at tasks on the networks it concerns, and replaces only what differs.
 */
import { BalancingTable } from './balancing.ts';
import type { Balanced } from './balancing.ts';
import { CommandFailed, listOf } from './command.ts';
import type { CommandRunner } from './command.ts';
import type { Facts } from './facts.ts';
import { deviceNames } from './names.ts';
import { changeRules, TaskNamespace } from './task-namespace.ts';
import { nameServerRules, returnPathRules, returnRoutes, taskBalance, taskBalanced, VIP_TABLE } from './task-rules.ts';

/** What the agent says of a running task. */
export interface AttachedTask {
  taskId: string;
  /** First process of its container. */
  pid: number;
  networks: readonly { networkId: string; address: string }[];
  /** True if ports of its service are published through the ingress network. */
  published: boolean;
  /** For a container that may ask others: our resolver, and the name servers it stands in for. Absent: nothing is done. */
  nameServers?: { gateway: string; instead: readonly string[] };
  /** Asked once its namespace is held: is `pid` the task's even now (trap 4)? */
  stillOurs?: () => Promise<boolean>;
}

/** What came of giving a process its rules: it may have ended before they stood. */
export type Attached = 'attached' | 'ended';

interface LocalTask {
  taskId: string;
  networkIds: string[];
  namespace: TaskNamespace;
  vips: BalancingTable;
}

/**
 * All that is done when a task starts, in one process: its start waits for it. `rp_filter` becomes loose, because a
 * task on several networks is reached through one and answers through another (trap 6). $1: routes; $2: the rule
 * that leads to them.
 */
const PREPARE = `echo 2 > /proc/sys/net/ipv4/conf/all/rp_filter
if [ -n "$1" ]; then
  printf '%s\\n' "$1" | ip -batch -
  ip rule list $2 | grep -q . || ip rule add $2
fi
exec nft -f -`;

/** Tasks changed at the same time: each change is a short process. */
const CONCURRENCY = 4;

export class LocalTasks {
  readonly #nodeId: string;
  readonly #facts: Facts;
  readonly #run: CommandRunner;
  readonly #tasks = new Map<string, LocalTask>();

  constructor(nodeId: string, facts: Facts, run: CommandRunner) {
    this.#nodeId = nodeId;
    this.#facts = facts;
    this.#run = run;
  }

  /** Promises that VIPs and the way back work inside the task's namespace, unless its process has ended; may be repeated. */
  async attach({ taskId, pid, networks, published, nameServers, stillOurs }: AttachedTask): Promise<Attached> {
    await this.detach(taskId);
    const namespace = await TaskNamespace.hold(pid, this.#run, stillOurs);
    if (namespace === undefined) return 'ended';
    const networkIds = networks.map((network) => network.networkId);
    const task: LocalTask = { taskId, networkIds, namespace, vips: new BalancingTable() };
    // Known before its rules are made: a change that comes meanwhile queues behind them.
    this.#tasks.set(taskId, task);
    try {
      await namespace.exclusively((run) => this.#prepare(run, task, networks, published, nameServers));
      return 'attached';
    } catch (error) {
      // What is missing in there may be missing because the engine has begun to take it away.
      const ended = this.#tasks.get(taskId) === task && !(await namespace.belongsTo(pid));
      if (this.#tasks.get(taskId) === task) await this.detach(taskId);
      if (ended) return 'ended';
      throw error;
    }
  }

  /** Forgets a task; its rules go with its namespace. */
  async detach(taskId: string): Promise<void> {
    const task = this.#tasks.get(taskId);
    if (task === undefined) return;
    this.#tasks.delete(taskId);
    await task.namespace.release();
  }

  /** Makes these services (keys as in `Facts`, by network) right in each task that sees them. */
  async update(services: ReadonlyMap<string, ReadonlySet<string>>, failed: (error: unknown) => void): Promise<void> {
    const concerned = [...this.#tasks.values()].filter((task) => task.networkIds.some((id) => services.has(id)));
    await forEach(concerned, CONCURRENCY, async (task) => {
      try {
        await task.namespace.exclusively((run) => this.#change(run, task, services));
      } catch (error) {
        // A task that ended meanwhile is none of ours any more.
        if (this.#tasks.get(task.taskId) === task) failed(error);
      }
    });
  }

  async releaseAll(): Promise<void> {
    await Promise.all([...this.#tasks.keys()].map((taskId) => this.detach(taskId)));
  }

  async #prepare(
    run: CommandRunner,
    task: LocalTask,
    networks: AttachedTask['networks'],
    published: boolean,
    nameServers: AttachedTask['nameServers'],
  ): Promise<void> {
    const balance = taskBalance(this.#facts, task.taskId, task.networkIds);
    const names = nameServers === undefined ? '' : nameServerRules(nameServers);
    if (!published) {
      await task.vips.make(VIP_TABLE, balance, (vips) =>
        run(['sh', '-ec', PREPARE, 'drover'], { input: vips + names }),
      );
      return;
    }
    const ingress = this.#facts.ingress();
    const address = networks.find((network) => network.networkId === ingress?.id)?.address;
    if (ingress === undefined || address === undefined) {
      throw new Error(`task ${task.taskId} is not in the ingress network`);
    }
    const device = task.namespace.deviceIn(ingress.subnet);
    if (device === undefined) throw new Error(`task ${task.taskId} has no interface in the ingress network`);
    const { routes, rule } = returnRoutes(device, address, ingress.gateway, ingress.subnet);
    await Promise.all([
      task.vips.make(VIP_TABLE, balance, (vips) =>
        run(['sh', '-ec', PREPARE, 'drover', routes, rule], { input: vips + names + returnPathRules(device) }),
      ),
      letPortsReturn(this.#run, deviceNames(this.#nodeId, ingress.id).bridge),
    ]);
  }

  async #change(
    run: CommandRunner,
    task: LocalTask,
    services: ReadonlyMap<string, ReadonlySet<string>>,
  ): Promise<void> {
    if (!task.vips.isKnown) {
      const balance = taskBalance(this.#facts, task.taskId, task.networkIds);
      await task.vips.make(VIP_TABLE, balance, (rules) => run(['nft', '-f', '-'], { input: rules }));
      return;
    }
    const touched = new Map<string, readonly Balanced[]>();
    for (const networkId of task.networkIds) {
      for (const key of services.get(networkId) ?? []) {
        touched.set(key, taskBalanced(this.#facts, task.taskId, networkId, key));
      }
    }
    await task.vips.change(touched, (rules, gone) => changeRules(run, rules, gone));
  }
}

interface BridgePort {
  ifname?: string;
  linkinfo?: { info_kind?: string; info_slave_data?: { hairpin?: boolean } };
}

/**
 * Lets a task reach itself through a published port of its own node: with `br_netfilter`, such a packet is turned
 * round inside the bridge, and has to leave by the port it came in by.
 */
async function letPortsReturn(run: CommandRunner, bridge: string): Promise<void> {
  const ports = await listOf<BridgePort>(run, ['ip', '-j', '-d', 'link', 'show', 'master', bridge]);
  const closed = ports.filter(
    ({ linkinfo }) => linkinfo?.info_kind === 'veth' && linkinfo.info_slave_data?.hairpin === false,
  );
  if (closed.length === 0) return;
  const batch = closed.map(({ ifname }) => `link set dev ${ifname} hairpin on`).join('\n');
  // A port may go with its container meanwhile: -force lets the others be set, and only then is it an error.
  await run(['bridge', '-force', '-batch', '-'], { input: batch }).catch((error: unknown) => {
    if (!(error instanceof CommandFailed && /Cannot find (bridge )?device/.test(error.stderr))) throw error;
  });
}

/** Calls `fn` for each, `limit` at a time. */
export async function forEach<T>(all: readonly T[], limit: number, fn: (each: T) => Promise<void>): Promise<void> {
  const rest = all.values();
  const worker = async (): Promise<void> => {
    for (const each of rest) await fn(each);
  };
  await Promise.all(Array.from({ length: Math.min(limit, all.length) }, worker));
}
