/** This node's table of published ports, kept equal to the facts. */
import { mergeBalance, removedBackends, removeTable, renderChange, renderTable } from './balancing.ts';
import type { Balanced } from './balancing.ts';
import type { CommandRunner } from './command.ts';
import type { Facts } from './facts.ts';
import { hostBalance, hostTable, publishedPorts } from './host-rules.ts';
import { deviceNames, hostTableName } from './names.ts';
import { changeRules } from './task-namespace.ts';

export class PublishedPorts {
  readonly #nodeId: string;
  readonly #facts: Facts;
  readonly #run: CommandRunner;
  /** What the table balances; undefined when that is not known. */
  #standing: ReadonlyMap<string, readonly Balanced[]> | undefined;

  constructor(nodeId: string, facts: Facts, run: CommandRunner) {
    this.#nodeId = nodeId;
    this.#facts = facts;
    this.#run = run;
  }

  /** Makes these services right; all of them if none are given, or if what stands is not known. */
  async update(serviceKeys?: ReadonlySet<string>): Promise<void> {
    const ingress = this.#facts.ingress();
    if (ingress === undefined) return this.remove();
    const shape = hostTable(hostTableName(this.#nodeId), ingress, deviceNames(this.#nodeId, ingress.id).bridge);
    const standing = this.#standing;
    this.#standing = undefined;
    if (standing === undefined || serviceKeys === undefined) {
      const balance = hostBalance(this.#facts, ingress.id);
      await this.#run(['nft', '-f', '-'], { input: renderTable(shape, balance) });
      this.#standing = balance;
      return;
    }
    const touched = new Map(
      [...serviceKeys].map((key) => [key, publishedPorts(this.#facts, ingress.id, key)] as const),
    );
    const rules = renderChange(shape, standing, touched);
    const removed = hasUdp(touched, standing) ? removedBackends(standing, touched) : [];
    const gone = removed.map((backend) => backend.split(' ')[0] ?? backend);
    if (rules !== '') await changeRules(this.#run, rules, gone);
    this.#standing = mergeBalance(standing, touched);
  }

  /** Puts the table back if somebody has flushed the host's rules. */
  async verify(): Promise<void> {
    if (this.#standing === undefined) return;
    const tables = await this.#run(['nft', 'list', 'tables', 'ip']);
    if (tables.split('\n').includes(`table ip ${hostTableName(this.#nodeId)}`)) return;
    this.#standing = undefined;
    await this.update();
  }

  /** Takes the table away; it may be gone already. */
  async remove(): Promise<void> {
    await this.#run(['nft', '-f', '-'], { input: `${removeTable(hostTableName(this.#nodeId))}\n` });
    this.#standing = undefined;
  }
}

/** Connections end by themselves; only datagrams need their flows forgotten. */
function hasUdp(
  touched: ReadonlyMap<string, readonly Balanced[]>,
  standing: ReadonlyMap<string, readonly Balanced[]>,
): boolean {
  return [...touched.keys()].some((key) => (standing.get(key) ?? []).some((each) => each.protocol === 'udp'));
}
