/**
 * Agents with the real client of the session, over TLS, and an engine that only says what a container would have done.
 * All in one process, started by `bench/agents.bench.ts` with the manager's address, a join token and how many there are to
 * be. Says `joined` when each has its session.
 */
import { AgentSession, SessionLost } from '../../src/dispatch/agent-session.ts';
import { requestCertificate } from '../../src/dispatch/request-certificate.ts';
import { systemClock as clock } from '../../src/daemon/system.ts';
import type { AssignmentChange, TaskStatusReport } from '../../src/model/assignments.ts';
import { silentLog, timestamp } from '../../src/model/clock.ts';
import type { NodeDescription } from '../../src/model/objects.ts';
import { TaskState } from '../../src/model/states.ts';

const [address = '', token = '', count = '0'] = process.argv.slice(2);
/** Joins under way at once. */
const AT_ONCE = 64;
const PREPARE_MS = 200;
const START_MS = 300;

class StubNode {
  readonly session: AgentSession;
  readonly #address: string;
  readonly #onTheirWay = new Set<string>();
  readonly welcomed = Promise.withResolvers<void>();

  private constructor(identity: Awaited<ReturnType<typeof requestCertificate>>, address_: string) {
    this.#address = address_;
    this.session = new AgentSession({
      addresses: [address],
      identity,
      agent: {
        replace: (facts) => {
          this.welcomed.resolve();
          this.#take(facts);
        },
        apply: (changes) => this.#take(changes),
        description: () => descriptionOf(this.#address),
      },
      advertiseAddress: address_,
      clock,
      random: Math.random,
      log: silentLog,
    });
  }

  static async join(i: number): Promise<StubNode> {
    const own = `10.200.${i >> 8}.${i & 255}`;
    const options = { address, token, availability: 'active' as const, advertiseAddress: own, clock };
    const node = new StubNode(await requestCertificate(options), own);
    node.session.start();
    await node.welcomed.promise;
    return node;
  }

  /** Runs what does not run yet; a session that was lost on the way is told all of it anew, and so it goes on. */
  #take(changes: readonly AssignmentChange[]): void {
    const fresh = changes.flatMap(({ kind, key, value }) =>
      kind === 'task' && value !== null && value.status.state < TaskState.RUNNING && !this.#onTheirWay.has(key)
        ? [key]
        : [],
    );
    if (fresh.length > 0) void this.#run(fresh);
  }

  async #run(taskIds: readonly string[]): Promise<void> {
    for (const id of taskIds) this.#onTheirWay.add(id);
    try {
      await this.#report(taskIds, TaskState.PREPARING, 'preparing');
      await pause(PREPARE_MS * (1 + Math.random()));
      await this.#report(taskIds, TaskState.STARTING, 'starting');
      await pause(START_MS * (1 + Math.random()));
      await this.#report(taskIds, TaskState.RUNNING, 'started');
    } catch (error) {
      if (!(error instanceof SessionLost)) throw error;
      console.error(`an agent lost its session: ${error.message}`);
    }
    for (const id of taskIds) this.#onTheirWay.delete(id);
  }

  #report(taskIds: readonly string[], state: TaskStatusReport['status']['state'], message: string): Promise<void> {
    const status = { timestamp: timestamp(clock.now()), state, message };
    return this.session.report(taskIds.map((taskId) => ({ taskId, status })));
  }
}

function descriptionOf(dataPathAddress: string): NodeDescription {
  return {
    hostname: `host-${dataPathAddress}`,
    platform: { Architecture: 'x86_64', OS: 'linux' },
    resources: { nanoCpus: 64e9, memoryBytes: 256e9 },
    engine: { version: '20.10.24', labels: {}, plugins: [{ type: 'Volume', name: 'local' }] },
    tls: { trustRoot: '', certIssuerSubject: '', certIssuerPublicKey: '' },
    routes: ['10.200.0.0/16'],
    dataPathAddress,
    degraded: [],
  };
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

const nodes: StubNode[] = [];
let next = 0;
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    while (next < Number(count)) nodes.push(await StubNode.join(next++));
  }),
);
process.on('disconnect', () => process.exit(0));
process.send!('joined');
