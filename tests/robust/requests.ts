/**
 * Requests to every route of the API, valid ones and all that mutation makes of them, as data: a counterexample can be
 * read, shrunk and repeated. What depends on the cluster (ids, versions) is named here and filled in by the world.
 */
import fc from 'fast-check';
import { mutation, textEdit, value, word, type Mutation, type SentBody } from './mutations.ts';
import { ROUTES } from './routes.ts';

/** The object a path means: one of the cluster's, by id, name or a beginning of its id; or any text. */
export type Reference = { pick: number; by: 'id' | 'name' | 'prefix' } | { text: string };

export interface Request {
  method: string;
  /** May hold one of `:service`, `:node`, `:task`, `:network`, `:secret`, `:config`, `:any`. */
  path: string;
  prefix: string;
  reference: Reference;
  /** `current` as the value of `version` is the version the object has. */
  query: [name: string, value: string][];
  headers: Record<string, string>;
  body: SentBody | undefined;
  /** Through a real connection, or handed in. */
  over: 'socket' | 'inject';
}

const QUERY_NAMES = [
  'filters',
  'filters',
  'filters',
  'version',
  'version',
  'status',
  'force',
  'verbose',
  'scope',
  'rollback',
  'registryAuthFrom',
  'insertDefaults',
  'rotateWorkerToken',
  'rotateManagerToken',
  'rotateManagerUnlockKey',
  'since',
  'until',
  'all',
  'name',
  'platform',
  '__proto__',
  'x',
];
const FILTER_KEYS = [
  'id',
  'name',
  'label',
  'label!',
  'mode',
  'runtime',
  'service',
  'node',
  'desired-state',
  '_up-to-date',
  'role',
  'membership',
  'node.label',
  'dangling',
  'driver',
  'scope',
  'type',
  'until',
  'event',
  '__proto__',
  'x',
];
const FILTER_VALUES = [
  'true',
  'false',
  '1',
  'svc1',
  'node1',
  'running',
  'shutdown',
  'replicated',
  'worker',
  'overlay',
  'swarm',
  'custom',
  '10m',
  'tier=front',
  'tier',
  'toString',
];

const filterValue = fc.oneof(fc.constantFrom(...FILTER_VALUES), word);
const filters = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .dictionary(
        fc.constantFrom(...FILTER_KEYS),
        fc.oneof(
          fc.array(filterValue, { maxLength: 2 }),
          fc.dictionary(filterValue, fc.boolean(), { maxKeys: 2 }),
          value,
        ),
        { maxKeys: 3 },
      )
      .map((object) => JSON.stringify(object)),
  },
  { weight: 1, arbitrary: word },
  { weight: 1, arbitrary: value.map((any) => JSON.stringify(any)) },
);
const queryItem: fc.Arbitrary<[string, string]> = fc
  .constantFrom(...QUERY_NAMES)
  .chain((name) =>
    fc.tuple(
      fc.constant(name),
      name === 'filters'
        ? filters
        : name === 'version'
          ? fc.oneof(fc.constant('current'), word)
          : fc.oneof(fc.constantFrom('1', 'true', 'previous', 'previous-spec', 'swarm', 'local'), word),
    ),
  );

const reference: fc.Arbitrary<Reference> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      pick: fc.nat(20),
      by: fc.constantFrom('id' as const, 'id' as const, 'name' as const, 'prefix' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ text: word }) },
);

const headers = fc.oneof(
  { weight: 8, arbitrary: fc.constant<Record<string, string>>({ 'content-type': 'application/json' }) },
  {
    weight: 2,
    arbitrary: fc.constantFrom<Record<string, string>>(
      {},
      { 'content-type': 'text/plain' },
      { 'content-type': 'application/json; charset=utf-8' },
      { 'content-type': ';' },
      { 'content-type': 'application/json', 'x-registry-auth': 'e30=' },
      { 'content-type': 'application/json', 'x-registry-auth': 'x'.repeat(4000) },
      { 'content-type': 'application/json', 'accept-encoding': 'gzip, zstd', accept: '!' },
      {
        'content-type': 'application/json',
        range: 'bytes=0-1',
        'if-match': '*',
        cookie: 'a=b',
        'x-forwarded-for': '::1',
      },
    ),
  },
);

const prefix = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('', '/v1.41') },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '/v1.24',
      '/v1.99',
      '/v0.1',
      '/env/default',
      '/env/other',
      '/env/default/v1.41',
      '/v1.41/env/default',
      '//',
      '/v1.41/v1.41',
    ),
  },
);

/** What writes is asked four times as often as what reads. */
const route = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      ...ROUTES.filter(([, path]) => /^\/(services|networks|nodes|swarm)\b.*\/(create|update)$/.test(path)),
    ),
  },
  { weight: 2, arbitrary: fc.constantFrom(...ROUTES) },
);

export const request: fc.Arbitrary<Request> = route.chain(([method, path, ...bodies]) => {
  const takesVersion = path.endsWith('/update');
  const own: fc.Arbitrary<[string, string][]> = takesVersion
    ? fc.oneof(
        { weight: 15, arbitrary: fc.constant<[string, string][]>([['version', 'current']]) },
        { weight: 1, arbitrary: fc.constant<[string, string][]>([]) },
      )
    : fc.constant([]);
  return fc.record({
    method: fc.oneof(
      { weight: 40, arbitrary: fc.constant(method) },
      { weight: 1, arbitrary: fc.constantFrom('GET', 'POST', 'DELETE', 'PUT', 'HEAD', 'PATCH', 'OPTIONS') },
    ),
    path: fc.constant(path),
    prefix,
    reference,
    query: fc
      .tuple(
        own,
        fc.oneof(
          { weight: 2, arbitrary: fc.constant<[string, string][]>([]) },
          { weight: 1, arbitrary: fc.array(queryItem, { maxLength: 3 }) },
        ),
      )
      .map(([first, more]) => [...first, ...more]),
    headers,
    body:
      bodies.length === 0
        ? fc.constant(undefined)
        : fc.record({
            template: fc.constantFrom(...bodies),
            mutations: fc.oneof(
              { weight: 5, arbitrary: fc.constant<Mutation[]>([]) },
              { weight: 9, arbitrary: mutation.map((one) => [one]) },
              { weight: 3, arbitrary: fc.array(mutation, { minLength: 2, maxLength: 5 }) },
            ),
            text: fc.oneof({ weight: 15, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: textEdit }),
          }),
    over: fc.oneof(
      { weight: 9, arbitrary: fc.constant('inject' as const) },
      { weight: 1, arbitrary: fc.constant('socket' as const) },
    ),
  });
});
