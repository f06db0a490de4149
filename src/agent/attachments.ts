/**
 * The single containers of this node in overlays (`docker run --network`, `docker network connect`). The engine is what
 * knows of them: whatever stands in a bridge of ours and is no task gets its rules while it runs, the managers hear of
 * it, and an address that no container has goes back. Promises: it needs no memory of its own; what the daemon missed
 * while it was away is found out at its start.
 */
import type { ConnectedContainer, ConnectedContainers, InspectedContainer } from '../engine/connected-containers.ts';
import type { AssignmentChange, AttachmentAssignment } from '../model/assignments.ts';
import type { AddressRequest, OverlayHere, Reservation } from '../model/attachments.ts';
import type { Clock, Log, Random, Timer } from '../model/clock.ts';
import { parseIPv4 } from '../model/addresses.ts';
import { newId } from '../model/ids.ts';
import type { AttachedContainer } from '../model/objects.ts';
import { engineNetworkName } from '../network/names.ts';
import { EngineWatch } from './engine-watch.ts';
import type { AttachmentRegistry, NodeNetworkPort } from './ports.ts';
import { Wakeup } from './wakeup.ts';

export interface AttachmentsDeps {
  nodeId: string;
  containers: Pick<ConnectedContainers, 'list' | 'inspect' | 'watch'>;
  network: NodeNetworkPort;
  registry: AttachmentRegistry;
  /** Whom a container asks that was made without name servers of its own. */
  hostNameServers(): Promise<string[]>;
  clock: Clock;
  random: Random;
  log: Log;
}

/** How long a session with a manager that has just ended may take to be back, in milliseconds. */
const SESSION_WITHIN_MS = 10_000;
/** How long a network may take to come up on this node, in milliseconds. */
const NETWORK_WITHIN_MS = 20_000;
/** Between two looks for either. */
const RETRY_SOON_MS = 250;
const RECONCILE_MS = 30_000;
const RETRY_MS = 5_000;

export class Attachments {
  readonly #deps: AttachmentsDeps;
  readonly #log: Log;
  readonly #watch: EngineWatch;
  readonly #told = new Wakeup();
  readonly #networks = new Map<string, OverlayHere>();
  readonly #attachments = new Map<string, AttachmentAssignment>();
  /** Attachments whose container is being made: not to be given back, although no container has them. */
  readonly #underWay = new Set<string>();
  /** Containers whose namespaces have their rules, and what these were made for. */
  readonly #attached = new Map<string, string>();
  /** The last look at each container that is being looked at: they are taken one after the other. */
  readonly #looks = new Map<string, Promise<void>>();
  #reconciling: Promise<void> = Promise.resolve();
  #timer: Timer | undefined;
  #stopped = false;

  constructor(deps: AttachmentsDeps) {
    const { nodeId, containers, clock, random } = deps;
    this.#deps = deps;
    this.#log = deps.log.child({ room: 'agent' });
    this.#watch = new EngineWatch({
      engine: { watch: (_nodeId, signal) => containers.watch(signal) },
      nodeId,
      clock,
      random,
      log: this.#log,
      onUp: () => this.#reconcile(true),
      onHint: (containerId) => void this.look(containerId),
    });
  }

  start(): void {
    this.#watch.start();
    this.#reconcileLater();
  }

  /** Lets go of everything: containers and their rules stay. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#watch.stop();
    await Promise.allSettled([this.#reconciling, ...this.#looks.values()]);
  }

  /** These are all facts. */
  replace(facts: readonly AssignmentChange[]): void {
    this.#networks.clear();
    this.#attachments.clear();
    this.apply(facts);
    void this.#reconcile();
  }

  /** What changed since. */
  apply(changes: readonly AssignmentChange[]): void {
    let unmade = false;
    for (const { kind, key, value } of changes) {
      if (kind === 'network') {
        if (value === null) this.#networks.delete(key);
        else this.#networks.set(key, { ...value, engineNetwork: engineNetworkName(this.#deps.nodeId, value) });
      } else if (kind === 'attachment') {
        if (value === null) this.#attachments.delete(key);
        else this.#attachments.set(key, value);
        // Its container was made before the managers' word of it came, or never will be.
        unmade ||= value !== null && value.container === undefined && !this.#underWay.has(key);
      }
    }
    this.#told.wake();
    if (unmade) void this.#reconcile();
  }

  /** The overlays of this node, ingress included. */
  overlays(): OverlayHere[] {
    return [...this.#networks.values()];
  }

  /**
   * An address for a container that is about to be made on a network that is ready for it. `settled` must follow, whatever
   * becomes of the container. Rejects with the manager's refusal, or with why there is none.
   */
  async reserve(request: AddressRequest): Promise<Reservation> {
    const { network, random } = this.#deps;
    const id = newId(random);
    this.#underWay.add(id);
    try {
      const { networkId, address } = await this.#given({ id, ...request });
      const place = await this.#ready(networkId);
      await network.expect({ taskId: id, networks: [{ networkId, address }] });
      return { id, networkId, address, ...place };
    } catch (error) {
      this.#underWay.delete(id);
      // It may have been given, and only the answer lost.
      void this.#release([id]);
      throw error;
    }
  }

  /** The container of these reservations is made, or will not be: what no container has goes back. */
  async settled(reservations: readonly Reservation[], containerId: string | undefined): Promise<void> {
    for (const { id } of reservations) this.#underWay.delete(id);
    if (containerId === undefined) await this.#reconcile();
    else await this.look(containerId);
  }

  /** Makes rules and the managers' knowledge right for one container, as it is now. Never rejects: it is tried again. */
  look(containerId: string): Promise<void> {
    const before = this.#looks.get(containerId) ?? Promise.resolve();
    const look = before.then(() => this.#look(containerId)).catch((error: unknown) => this.#again(containerId, error));
    this.#looks.set(containerId, look);
    void look.then(() => this.#looks.get(containerId) === look && this.#looks.delete(containerId));
    return look;
  }

  async #look(containerId: string): Promise<void> {
    if (this.#stopped) return;
    const container = await this.#deps.containers.inspect(containerId);
    const places = container === undefined ? [] : this.#placesOf(container);
    if (container?.running === true && (places.length > 0 || this.#attached.has(containerId)))
      await this.#attach(container, places);
    else await this.#detach(containerId);
    const has = new Set(places.map(placeKey));
    const mine = [...this.#attachments.values()];
    const lost = mine.filter((each) => each.container?.id === containerId && !has.has(placeKey(each)));
    await this.#release(lost.map(({ id }) => id));
    if (container === undefined) return;
    const { name, running } = container;
    await this.#report(
      mine
        .filter((each) => has.has(placeKey(each)))
        .map(({ id }) => ({ id, container: { id: container.containerId, name, running } })),
    );
  }

  async #attach(container: InspectedContainer, networks: Place[]): Promise<void> {
    const { network, containers } = this.#deps;
    const { containerId: taskId, pid } = container;
    const shape = `${pid} ${networks.map(placeKey).sort().join(' ')}`;
    if (this.#attached.get(taskId) === shape) return;
    // What it is not in any more must not be left standing.
    await this.#detach(taskId);
    const stillOurs = async (): Promise<boolean> => (await containers.inspect(taskId))?.pid === pid;
    const nameServers = await this.#nameServers(container, networks);
    const attached = await network.attach({ taskId, pid, networks, published: false, nameServers, stillOurs });
    if (attached === 'ended') return;
    // Taken out of the last of our networks, it has lost its rules by this, and is none of ours any more.
    if (networks.length === 0) await network.detach(taskId);
    else this.#attached.set(taskId, shape);
  }

  /** One that was made for an overlay asks our resolver there; any other has to be led to it. */
  async #nameServers(
    { nameServers }: InspectedContainer,
    networks: readonly Place[],
  ): Promise<{ gateway: string; instead: readonly string[] }> {
    const gateways = networks.map(({ networkId }) => this.#networks.get(networkId)!.gateway);
    const [gateway = ''] = gateways;
    if (gateway === '' || gateways.some((each) => nameServers.includes(each))) return { gateway, instead: [] };
    const asked = nameServers.length > 0 ? nameServers : await this.#deps.hostNameServers();
    return {
      gateway,
      instead: asked.filter((server) => parseIPv4(server) !== undefined && !server.startsWith('127.')),
    };
  }

  async #detach(containerId: string): Promise<void> {
    if (this.#attached.delete(containerId)) await this.#deps.network.detach(containerId);
  }

  #again(containerId: string, error: unknown): void {
    this.#log.warn(
      { containerId, error: String(error) },
      'a container in an overlay is not right yet, to be tried again',
    );
    if (!this.#stopped) this.#deps.clock.after(RETRY_MS, () => void this.look(containerId));
  }

  /** Compares all that stands in our networks with what is known. `all`: events were missed, so each is looked at. */
  #reconcile(all = false): Promise<void> {
    const run = this.#reconciling.catch(() => {}).then(() => this.#compare(all));
    this.#reconciling = run;
    // The watch takes a rejection for an engine that is away; everybody else comes again.
    return all
      ? run
      : run.catch((error: unknown) => this.#log.debug({ error: String(error) }, 'could not list the containers'));
  }

  async #compare(all: boolean): Promise<void> {
    if (this.#stopped) return;
    const { containers } = this.#deps;
    const known = [...this.#attachments.values()].filter(({ networkId }) => this.#networks.has(networkId));
    if (known.length === 0 && this.#attached.size === 0 && !all) return;
    const underWay = new Set(this.#underWay);
    const found = await containers.list([...this.#networks.values()].map(({ engineNetwork }) => engineNetwork));
    const placed = new Map(found.flatMap((each) => this.#placesOf(each).map((place) => [placeKey(place), each])));
    const unused = known.filter(
      (each) => !placed.has(placeKey(each)) && !underWay.has(each.id) && !this.#underWay.has(each.id),
    );
    await this.#release(unused.map(({ id }) => id));
    const looked = new Set(all ? found.map(({ containerId }) => containerId) : []);
    for (const each of known) {
      const container = placed.get(placeKey(each));
      if (container !== undefined && !isKnown(each.container, container)) looked.add(container.containerId);
    }
    for (const { containerId, running } of found)
      if (running !== this.#attached.has(containerId)) looked.add(containerId);
    const there = new Set(found.map(({ containerId }) => containerId));
    for (const containerId of this.#attached.keys()) if (!there.has(containerId)) looked.add(containerId);
    await Promise.all([...looked].map((containerId) => this.look(containerId)));
  }

  #reconcileLater(): void {
    this.#timer = this.#deps.clock.after(RECONCILE_MS, () => {
      void this.#reconcile();
      if (!this.#stopped) this.#reconcileLater();
    });
  }

  /** Where a container stands, in networks of ours. */
  #placesOf({ endpoints }: ConnectedContainer): Place[] {
    const ours = new Map([...this.#networks.values()].map(({ engineNetwork, id }) => [engineNetwork, id]));
    return endpoints.flatMap(({ engineNetwork, address }) => {
      const networkId = ours.get(engineNetwork);
      return networkId === undefined ? [] : [{ networkId, address }];
    });
  }

  /** An address from a manager: a session that is away for a moment is no reason to refuse a user. */
  #given(request: Parameters<AttachmentRegistry['attach']>[0]): Promise<{ networkId: string; address: string }> {
    const isAway = (error: unknown): boolean => error instanceof Error && error.name === 'SessionLost';
    return this.#insist(SESSION_WITHIN_MS, () => this.#deps.registry.attach(request), isAway);
  }

  /** Waits until containers can be made on the network here. */
  #ready(networkId: string): Promise<{ engineNetwork: string; gateway: string }> {
    return this.#insist(NETWORK_WITHIN_MS, () => this.#deps.network.prepare(networkId));
  }

  /** Asks again, at the latest when something was told, as long as it fails with what `mayPass`. Rejects with the last failure. */
  async #insist<T>(withinMs: number, ask: () => Promise<T>, mayPass = (_error: unknown): boolean => true): Promise<T> {
    const { clock } = this.#deps;
    const deadline = clock.monotonic() + withinMs;
    for (;;) {
      const seen = this.#told.count;
      try {
        return await ask();
      } catch (error) {
        if (!mayPass(error) || clock.monotonic() >= deadline || this.#stopped) throw error;
        await this.#told.after(seen, clock, RETRY_SOON_MS);
      }
    }
  }

  async #report(containers: { id: string; container: AttachedContainer }[]): Promise<void> {
    const news = containers.filter(({ id, container }) => {
      const known = this.#attachments.get(id)?.container;
      return known?.id !== container.id || known.name !== container.name || known.running !== container.running;
    });
    if (news.length > 0) await this.#tell(() => this.#deps.registry.seen(news));
  }

  async #release(ids: string[]): Promise<void> {
    if (ids.length > 0) await this.#tell(() => this.#deps.registry.release(ids));
  }

  /** What cannot be told now is found again when the next session begins. */
  async #tell(tell: () => Promise<void>): Promise<void> {
    try {
      await tell();
    } catch (error) {
      this.#log.debug({ error: String(error) }, 'no manager has heard of it yet');
    }
  }
}

interface Place {
  networkId: string;
  address: string;
}

function placeKey({ networkId, address }: Place): string {
  return `${networkId}/${address}`;
}

function isKnown(known: AttachedContainer | undefined, { containerId, name, running }: ConnectedContainer): boolean {
  return known?.id === containerId && known.name === name && known.running === running;
}
