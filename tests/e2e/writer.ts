/**
 * A client that writes at a steady rate through several managers in turn and checks each answer: a config with a name of
 * its own, read back from the manager that took it. It remembers what was acknowledged, and when.
 */
import { request } from 'node:http';
import { eventually, type Lab } from './lab.ts';

/** A manager that does not answer a write in this time is given up for that write: more than it waits for another leader. */
const ANSWER_MS = 10_000;

/** A manager that follows is no further behind than this. */
const KEPT_MS = 10_000;

/** Times are of `performance.now()`. */
export interface Write {
  name: string;
  askedMs: number;
  /** When it was acknowledged. */
  atMs: number;
}

export class Writer {
  readonly acknowledged: Write[] = [];
  /** What was wrong with an answer that came: never a refusal or no answer, those are the faults' doing. */
  readonly wrong: string[] = [];
  readonly refusals = new Map<string, number>();
  readonly #sockets: readonly string[];
  readonly #prefix: string;
  readonly #timer: NodeJS.Timeout;
  readonly #underWay = new Set<Promise<void>>();
  #asked = 0;

  constructor(sockets: readonly string[], { perSecond, prefix }: { perSecond: number; prefix: string }) {
    this.#sockets = sockets;
    this.#prefix = prefix;
    this.#timer = setInterval(() => {
      const write = this.#write().finally(() => this.#underWay.delete(write));
      this.#underWay.add(write);
    }, 1000 / perSecond);
  }

  /**
   * The longest time without an acknowledgement, in milliseconds, from `sinceMs` until a write that was asked for after `untilMs` was
   * acknowledged; undefined: none was yet.
   */
  longestGap(sinceMs: number, untilMs: number): number | undefined {
    const times = this.acknowledged.filter(({ atMs }) => atMs > sinceMs).sort((a, b) => a.atMs - b.atMs);
    const last = times.findIndex(({ askedMs }) => askedMs > untilMs);
    if (last < 0) return undefined;
    const moments = [sinceMs, ...times.slice(0, last + 1).map(({ atMs }) => atMs)];
    return Math.max(...moments.slice(1).map((atMs, i) => atMs - moments[i]!));
  }

  /** Until when, of `performance.now()`, writes have been acknowledged; undefined: none was. */
  get lastMs(): number | undefined {
    return this.acknowledged.length === 0
      ? undefined
      : Math.max(...this.acknowledged.slice(-100).map(({ atMs }) => atMs));
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#underWay);
  }

  async #write(): Promise<void> {
    const at = this.#asked++;
    const socket = this.#sockets[at % this.#sockets.length]!;
    const name = `${this.#prefix}${at}`;
    const askedMs = performance.now();
    const made = await ask(socket, 'POST', '/configs/create', { Name: name, Labels: {}, Data: 'eA==' });
    const madeMs = performance.now();
    if (made.status !== 201) {
      const why = made.status === 0 ? made.body : `${made.status} ${made.body}`;
      this.refusals.set(why, (this.refusals.get(why) ?? 0) + 1);
      return;
    }
    this.acknowledged.push({ name, askedMs, atMs: madeMs });
    const { ID: id }: { ID: string } = JSON.parse(made.body);
    const read = await ask(socket, 'GET', `/configs/${id}`);
    if (read.status !== 200 && read.status !== 0 && read.status !== 503)
      this.wrong.push(
        `${name}: ${read.status} by socket ${at % this.#sockets.length}, which made it in ${Math.round(madeMs - askedMs)} ms` +
          ` ("${made.warning ?? ''}"); now it says ${read.body} ("${read.warning ?? ''}")`,
      );
  }
}

/**
 * Waits until this manager shows every write that was acknowledged: one that took it shows it at once, another one follows. What
 * was lost never comes.
 */
export async function checkKept(lab: Lab, host: string, { acknowledged }: Writer): Promise<void> {
  await eventually(
    `${host} shows all ${acknowledged.length} writes that were acknowledged`,
    async () => {
      const kept = new Set((await lab.docker(host, 'config', 'ls', '--format', '{{.Name}}')).split('\n'));
      const lost = acknowledged.filter(({ name }) => !kept.has(name)).map(({ name }) => name);
      if (lost.length > 0) throw new Error(`not there: ${lost.join(', ')}`);
      return true;
    },
    KEPT_MS,
  );
}

/** One call to a socket as DOCKER_HOST names it, on a connection of its own; status 0 and the reason if there was no answer. Never rejects. */
export function ask(
  socket: string,
  method: string,
  path: string,
  body?: object,
): Promise<{ status: number; body: string; warning?: string }> {
  return new Promise((done) => {
    const socketPath = socket.replace(/^unix:\/\//, '');
    const headers = body === undefined ? {} : { 'content-type': 'application/json' };
    const call = request({ socketPath, method, path, headers, agent: false, timeout: ANSWER_MS }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('error', (error) => done({ status: 0, body: error.message }));
      response.on('end', () =>
        done({ status: response.statusCode ?? 0, body: text, warning: response.headers.warning }),
      );
    });
    call.on('timeout', () => call.destroy(new Error(`no answer within ${ANSWER_MS} ms`)));
    call.on('error', (error) => done({ status: 0, body: error.message }));
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
