/** This node's table of published ports, kept equal to the facts. */
import { BalancingTable, removeTable } from './balancing.ts';
import type { CommandRunner } from './command.ts';
import type { Facts } from './facts.ts';
import { hostBalance, hostTable, publishedPorts } from './host-rules.ts';
import { deviceNames, hostTableName } from './names.ts';
import { changeRules } from './task-namespace.ts';

export class PublishedPorts {
  readonly #nodeId: string;
  readonly #facts: Facts;
  readonly #run: CommandRunner;
  #table = new BalancingTable();

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
    if (serviceKeys === undefined || !this.#table.isKnown) {
      await this.#table.make(shape, hostBalance(this.#facts, ingress.id), (rules) =>
        this.#run(['nft', '-f', '-'], { input: rules }),
      );
      return;
    }
    const touched = new Map(
      [...serviceKeys].map((key) => [key, publishedPorts(this.#facts, ingress.id, key)] as const),
    );
    await this.#table.change(touched, (rules, gone) => changeRules(this.#run, rules, gone));
  }

  /** Puts the table back if somebody has flushed the host's rules. */
  async verify(): Promise<void> {
    if (!this.#table.isKnown) return;
    const tables = await this.#run(['nft', 'list', 'tables', 'ip']);
    if (tables.split('\n').includes(`table ip ${hostTableName(this.#nodeId)}`)) return;
    await this.update();
  }

  /** Takes the table away; it may be gone already. */
  async remove(): Promise<void> {
    await this.#run(['nft', '-f', '-'], { input: `${removeTable(hostTableName(this.#nodeId))}\n` });
    this.#table = new BalancingTable();
  }
}
