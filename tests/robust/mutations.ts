/** What is done to valid bodies, as data, and the values that programs trip over. */
import fc from 'fast-check';
import { ITS_NAME } from './routes.ts';

export interface Mutation {
  /** Which place of the JSON tree, counted modulo its size. */
  at: number;
  act: 'replace' | 'drop' | 'add' | 'wrap';
  key: string;
  value: unknown;
}

export type TextEdit = { cut: number } | { insert: string; at: number } | { whole: string };

export interface SentBody {
  template: unknown;
  mutations: Mutation[];
  /** Edits what JSON made of it. */
  text: TextEdit | undefined;
}

const WORDS = [
  '',
  ' ',
  'a',
  'null',
  'true',
  '0',
  '-1',
  '*',
  '.',
  '..',
  '/',
  '//',
  '%',
  '%00',
  '%zz',
  '\0',
  '\n',
  '\r\n',
  '"',
  "'",
  '\\',
  '{{',
  '{{.Task.Slot}}',
  '{{.X.Y}}',
  '{{.Service.Name',
  '$',
  '=',
  '==',
  'a=',
  '=a',
  '!=',
  'node.labels.==',
  'node.role==worker',
  'node.labels.zone==a',
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  'length',
  'default',
  'host',
  'none',
  'bridge',
  'ingress',
  'net1',
  'net1-name',
  'svc1',
  'node1',
  'overlay',
  'swarm',
  'worker',
  'manager',
  'active',
  'drain',
  'pause',
  '0.0.0.0',
  '0.0.0.0/0',
  '10.0.0.0/8',
  '10.0.0.0/29',
  '10.0.0.0/32',
  '255.255.255.255',
  '256.1.1.1',
  '::1',
  '::/0',
  '[::1]:99999',
  '1h',
  '-1h',
  '1e999',
  '1e308',
  '2026-01-01T00:00:00Z',
  '9999-99-99',
  'é',
  '𝄞',
  '\ud800',
  '\u202e',
  'a'.repeat(64),
  'a'.repeat(300),
  'x'.repeat(5000),
  'A'.repeat(63),
];

const NUMBERS = [
  0,
  -0,
  1,
  2,
  3,
  7,
  80,
  199,
  -1,
  0.5,
  -0.5,
  1e-9,
  1.0000001,
  65_535,
  65_536,
  1e6,
  4_194_304,
  1e9,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32,
  2 ** 53 - 1,
  2 ** 53,
  2 ** 63,
  1e21,
  1e300,
  -(2 ** 31),
  -(2 ** 53),
];

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let i = 0; i < depth; i++) value = i % 2 === 0 ? [value] : { a: value };
  return value;
}

const deep = (depth: number): string =>
  `{"Name":"deep","TaskTemplate":{"ContainerSpec":{"Image":"i"},"X":${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}}}`;

export const word = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...WORDS) },
  { weight: 1, arbitrary: fc.string({ maxLength: 12, unit: 'binary' }) },
);
export const value: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 4, arbitrary: word },
  { weight: 4, arbitrary: fc.constantFrom(...NUMBERS) },
  {
    weight: 1,
    arbitrary: fc.constantFrom<unknown>(
      null,
      true,
      false,
      [],
      {},
      [null],
      [[]],
      [{}],
      { a: null },
      { '': '' },
      nested(30),
      nested(200),
    ),
  },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
  { weight: 1, arbitrary: fc.array(word, { maxLength: 3 }) },
  { weight: 1, arbitrary: fc.dictionary(word, word, { maxKeys: 3 }) },
);

const KEYS = [
  'Name',
  'Labels',
  'Mode',
  'Global',
  'Replicated',
  'Replicas',
  'ReplicatedJob',
  'Ports',
  'Networks',
  'Target',
  'Secrets',
  'Configs',
  'PullOptions',
  'RegistryAuth',
  'Subnet',
  'Gateway',
  'Driver',
  'Type',
  'Source',
  'toJSON',
  'id',
  'meta',
  'version',
  'Unknown',
];

export const mutation: fc.Arbitrary<Mutation> = fc.record({
  at: fc.nat(200),
  act: fc.constantFrom(
    'replace' as const,
    'replace' as const,
    'replace' as const,
    'drop' as const,
    'add' as const,
    'wrap' as const,
  ),
  key: fc.oneof(fc.constantFrom(...KEYS), word),
  value,
});

export const textEdit: fc.Arbitrary<TextEdit> = fc.oneof(
  fc.record({ cut: fc.nat(2000) }),
  fc.record({
    insert: fc.constantFrom('{', '}', ',', '"', '\0', '\ufeff', '1e999', 'NaN', ':null', '/*', '\\u'),
    at: fc.nat(2000),
  }),
  fc.record({
    whole: fc.constantFrom(
      '',
      ' ',
      'null',
      '[]',
      '{}',
      '""',
      '0',
      'true',
      '{"a":1e999}',
      '{"__proto__":{"Name":"x"}}',
      '['.repeat(50_000),
      deep(90),
      deep(5_000),
      deep(20_000),
      '\xff\xfe',
      '{}{}',
    ),
  }),
);

/** What is sent for a body; `name` is that of the object the path means. */
export function bodyText({ template, mutations, text }: SentBody, name: string): string {
  let value = structuredClone(template);
  for (const one of mutations) value = mutated(value, one);
  boundReplicas(value);
  const json = (JSON.stringify(value) ?? '').replace(`"${ITS_NAME}"`, () => JSON.stringify(name));
  if (text === undefined) return json;
  if ('whole' in text) return text.whole;
  if ('cut' in text) return json.slice(0, text.cut % (json.length + 1));
  const at = text.at % (json.length + 1);
  return json.slice(0, at) + text.insert + json.slice(at);
}

function mutated(root: unknown, { at, act, key, value }: Mutation): unknown {
  const holder = { root };
  const places: [object: Record<string, unknown>, key: string][] = [];
  const walk = (object: Record<string, unknown>): void => {
    for (const name of Object.keys(object)) {
      places.push([object, name]);
      const member = object[name];
      if (typeof member === 'object' && member !== null) walk(member as Record<string, unknown>);
    }
  };
  walk(holder);
  const [object, name] = places[at % places.length]!;
  const old = object[name];
  const put = (target: object, property: string, what: unknown): unknown =>
    Object.defineProperty(target, property, { value: what, enumerable: true, configurable: true, writable: true });
  if (act === 'drop') Reflect.deleteProperty(object, name);
  else if (act === 'replace') put(object, name, structuredClone(value));
  else if (act === 'wrap') put(object, name, [old, structuredClone(old)]);
  else if (Array.isArray(old)) old.push(structuredClone(value));
  else if (typeof old === 'object' && old !== null) put(old, key, structuredClone(value));
  return holder.root;
}

/** Thousands of tasks are for the benches; here they would only take time. */
function boundReplicas(value: unknown): void {
  if (typeof value !== 'object' || value === null) return;
  const object = value as Record<string, unknown>;
  for (const key of Object.keys(object)) {
    const member = object[key];
    if (key === 'Replicas' && typeof member === 'number' && member > 20 && member <= 1e6) object[key] = member % 20;
    else boundReplicas(member);
  }
}
