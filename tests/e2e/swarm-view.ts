/** What a test with several managers sees of a lab's swarm: who manages and who leads, as each manager says, and what runs. */
import { eventually, type Lab } from './lab.ts';

export class SwarmView {
  readonly #lab: Lab;
  readonly #hosts: readonly string[];

  constructor(lab: Lab, hosts: readonly string[]) {
    this.#lab = lab;
    this.#hosts = hosts;
  }

  /** Hostname → `Leader`, `Reachable` or `Unreachable` of each manager, as one of them says. */
  async managersBy(host: string): Promise<Map<string, string>> {
    const listed = await this.#lab.docker(host, 'node', 'ls', '--format', '{{.Hostname}} {{.ManagerStatus}}');
    const rows = listed.split('\n').map((line) => line.split(' ') as [string, string?]);
    return new Map(rows.flatMap(([name, status = '']) => (status === '' ? [] : [[name, status] as const])));
  }

  /** Undefined: that manager knows of none. */
  async leaderBy(host: string): Promise<string | undefined> {
    return [...(await this.managersBy(host))].find(([, status]) => status === 'Leader')?.[0];
  }

  /** Waits until each of `managers` says that they are the managers, all in reach, and which of them leads: that one. */
  settled(managers: readonly string[]): Promise<string> {
    return eventually(`one leader, the others reachable, as each of ${managers.join(', ')} says`, async () => {
      const said = await Promise.all(
        managers.map(async (host) => [...(await this.managersBy(host))].map((row) => row.join(' ')).toSorted()),
      );
      const rows = said[0]!;
      const leaders = rows.filter((row) => row.endsWith(' Leader'));
      const reachable = rows.filter((row) => row.endsWith(' Reachable'));
      const same = said.every((each) => JSON.stringify(each) === JSON.stringify(rows));
      const whole = rows.length === managers.length && reachable.length === managers.length - 1;
      return same && whole && leaders.length === 1 && leaders[0]!.split(' ')[0]!;
    });
  }

  /** Waits until the others say that another than `host` leads. */
  deposed(host: string, managers: readonly string[]): Promise<unknown> {
    const others = managers.filter((each) => each !== host);
    return eventually(`another than ${host} leads`, async () => {
      const said = await Promise.all(others.map((other) => this.leaderBy(other)));
      return said.every((leader) => leader !== undefined && leader !== host);
    });
  }

  /** `id started` of each running container of `service` (of all), over all hosts. */
  async containers(service?: string): Promise<string[]> {
    const filter = service === undefined ? [] : ['--filter', `label=com.docker.swarm.service.name=${service}`];
    const found = await Promise.all(
      this.#hosts.map(async (host) => {
        const ids = await this.#lab.engine(host, 'ps', '-q', '--no-trunc', ...filter);
        const format = '{{.Id}} {{.State.StartedAt}}';
        return ids === '' ? '' : this.#lab.engine(host, 'inspect', '--format', format, ...ids.split('\n'));
      }),
    );
    return found
      .join('\n')
      .split('\n')
      .filter((line) => line !== '')
      .toSorted();
  }
}
