/**
 * One row of the conformance suite: a call, and what Docker's own swarm mode answers to it. Rows are data. They run in
 * order, each on the state the rows before it left behind, against droverd and against the engine's swarm mode.
 * `{name}` in a path, a body or an expected value stands for what an earlier row saved, or for a fact of the subject.
 */

export interface Answer {
  /** HTTP status, or the exit code of the docker client. */
  status: number;
  headers: NodeJS.Dict<string | string[]>;
  text: string;
  /** The body, if it was JSON. */
  json: unknown;
}

interface Expected {
  status: number;
  /** The `message` of an error, whole, or a pattern in it; null: there is none. */
  message?: string | RegExp | null;
  /** The body: objects may have more members than this; lists not more entries. Asymmetric matchers are welcome. */
  body?: unknown;
  /** Members, by dotted path, that the body must not have. */
  absent?: string[];
  headers?: Record<string, string | RegExp>;
  /** A pattern in the body as text, or in what the docker client printed (both streams). */
  text?: RegExp;
}

export interface HttpCall {
  method: string;
  path: string;
  body?: unknown;
  headers?: Record<string, string>;
}

export interface ClientCall {
  /** Arguments of the docker client. */
  docker: string[];
}

export interface Row extends Expected {
  /** What of docker-api.md this row speaks for: a section and the words of its row. */
  covers: string;
  call: HttpCall | ClientCall;
  /** The host that is asked; `h1` is the manager. */
  on?: 'h1' | 'h2';
  /** Ask again until the answer is this: the cluster needs a moment. */
  eventually?: true;
  /** Variable → dotted path in the body; `''` is the whole body. */
  save?: Record<string, string>;
  /** Where Docker's own swarm mode answers otherwise, what it answers, and why that is as it should be. */
  swarm?: Partial<Expected> & { why: string };
  /** Why Docker's own swarm mode cannot answer this one here. */
  notOnSwarm?: string;
}

export const get = (path: string): HttpCall => ({ method: 'GET', path });
export const del = (path: string): HttpCall => ({ method: 'DELETE', path });
export const post = (path: string, body?: unknown, headers?: Record<string, string>): HttpCall => ({
  method: 'POST',
  path,
  ...(body === undefined ? {} : { body }),
  ...(headers === undefined ? {} : { headers }),
});
/** Why a status of engine 20.10 is not taken over. */
export const FAULT =
  'engine 20.10 says 500 to a fault of the client; newer engines say 4xx, and so does docker-api.md 1.2';

/** Engine 20.10's sentence for a filter that is not known. */
export const CAPITAL = {
  message: "Invalid filter 'wrong'",
  why: 'engine 20.10 begins the sentence with a capital; newer ones do not, and docker-api.md 1.3 has it so',
};

export const docker = (...args: string[]): ClientCall => ({ docker: args });

/** How a row is called in reports and in docs/conformance.md. */
export function titleOf({ call, on }: Row): string {
  const where = on === 'h2' ? ' (worker)' : '';
  return 'docker' in call ? `\`docker ${call.docker.join(' ')}\`${where}` : `\`${call.method} ${call.path}\`${where}`;
}

export type Variables = Map<string, unknown>;

/**
 * `value` with every `{name}` replaced. A string that is nothing but `{name}` becomes the value itself, so that numbers stay
 * numbers. Patterns stay as they are. Names that are not known stay too: JSON has braces of its own.
 */
export function filledIn<T>(value: T, variables: Variables): T {
  return fill(value, variables) as T;
}

function fill(value: unknown, variables: Variables): unknown {
  if (typeof value === 'string') {
    const whole = /^\{(\w+)\}$/.exec(value)?.[1];
    if (whole !== undefined && variables.has(whole)) return variables.get(whole);
    return value.replaceAll(/\{(\w+)\}/g, (text, name: string) =>
      variables.has(name) ? String(variables.get(name)) : text,
    );
  }
  if (Array.isArray(value)) return value.map((each) => fill(each, variables));
  if (isMatcher(value))
    return Object.assign(Object.create(Object.getPrototypeOf(value)), value, { sample: fill(value.sample, variables) });
  if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, fill(member, variables)]));
}

/** One of vitest's, such as `expect.objectContaining(sample)`. */
export function isMatcher(value: unknown): value is { sample?: unknown; asymmetricMatch(other: unknown): boolean } {
  return typeof value === 'object' && value !== null && 'asymmetricMatch' in value;
}

/** The member of `value` at a dotted path, such as `Spec.Labels` or `0.ID`. */
export function memberAt(value: unknown, path: string): unknown {
  if (path === '') return value;
  return path.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown> | null | undefined)?.[key], value);
}
