/** Secrets and configs: create, inspect, lists, labels, references of services, removal (docker-api.md 1.2–1.5). */
import { expect } from 'vitest';
import { CAPITAL, del, docker, get, post, type Row } from '../row.ts';

const HELLO = Buffer.from('hello').toString('base64');
const NAME_RULE =
  'invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]';
/** The least that is too much, in bytes. */
const LIMITS = { secret: 500 * 1024, config: 1000 * 1024 };
const zeros = (bytes: number): string => Buffer.alloc(bytes).toString('base64');

const service = (name: string, container: object): Record<string, unknown> => ({
  Name: name,
  TaskTemplate: { ContainerSpec: { Image: '{image}', ...container } },
  Mode: { Replicated: { Replicas: 0 } },
});
const file = (Name: string): object => ({ Name, UID: '0', GID: '0', Mode: 0o444 });

function rowsOf(kind: 'secret' | 'config'): Row[] {
  const [key, path] = kind === 'secret' ? ['Secret', '/secrets'] : ['Config', '/configs'];
  const reference = (id: string, name: string, more: object = { File: file('target') }): object => ({
    [`${key}ID`]: id,
    [`${key}Name`]: name,
    ...more,
  });
  const using = (...references: object[]): object => ({ [`${key}s`]: references });
  const created = (body: object): Row['call'] => post(`${path}/create`, body);
  const make = `1.4 POST ${path}/create`;
  const refused = (body: object, message: string): Row => ({ covers: make, call: created(body), status: 400, message });
  const untargeted =
    kind === 'secret'
      ? 'malformed secret reference, no target provided'
      : 'invalid Config: either File or Runtime should be set';
  const fields = kind === 'secret' ? {} : { Data: HELLO };
  return [
    { covers: `1.4 GET ${path}`, call: get(path), status: 200, body: [] },
    {
      covers: make,
      call: created({ Name: 'one', Labels: { tier: 'back' }, Data: HELLO }),
      status: 201,
      body: { ID: expect.stringMatching(/^[0-9a-z]{25}$/) },
      save: { payload: 'ID' },
    },
    {
      covers: make,
      call: created({ Name: 'two', Data: HELLO, Templating: { Name: 'golang' } }),
      status: 201,
      save: { templated: 'ID' },
    },
    {
      covers: '1.2 dup',
      call: created({ Name: 'one', Data: HELLO }),
      status: 409,
      message: `${kind} one already exists`,
    },
    refused({ Data: HELLO }, 'name must be provided'),
    refused({ Name: 'a b', Data: HELLO }, NAME_RULE),
    refused({ Name: '-a', Data: HELLO }, NAME_RULE),
    refused({ Name: 'x'.repeat(65), Data: HELLO }, NAME_RULE),
    refused({ Name: 'empty' }, `${kind} data must be larger than 0 and less than ${LIMITS[kind]} bytes`),
    {
      ...refused({}, `${kind} data must be larger than 0 and less than ${LIMITS[kind]} bytes`),
      call: created({ Name: 'big', Data: zeros(LIMITS[kind]) }),
    },
    { covers: make, call: created({ Name: 'large', Data: zeros(LIMITS[kind] - 1) }), status: 201 },
    { covers: `1.4 DELETE ${path}/{id}`, call: del(`${path}/large`), status: 204 },
    {
      covers: make,
      call: created({ Name: 'bad', Data: 'no base64!' }),
      status: 400,
      message: /base64/,
    },
    {
      covers: `1.4 GET ${path}/{id}`,
      call: get(`${path}/{payload}`),
      status: 200,
      body: { ID: '{payload}', Spec: { Name: 'one', Labels: { tier: 'back' }, ...fields } },
      absent: kind === 'secret' ? ['Spec.Data'] : [],
      save: { version: 'Version.Index' },
    },
    { covers: '1.3 by name', call: get(`${path}/one`), status: 200, body: { ID: '{payload}' } },
    {
      covers: `1.4 GET ${path}/{id}`,
      call: get(`${path}/two`),
      status: 200,
      body: { ID: '{templated}', Spec: { Name: 'two', Labels: {}, Templating: { Name: 'golang' } } },
    },
    { covers: '1.2 not found', call: get(`${path}/nobody`), status: 404, message: `${kind} nobody not found` },
    { covers: '1.2 not found', call: del(`${path}/nobody`), status: 404, message: `${kind} nobody not found` },
    ...[
      ['{"name":["o"]}', 1],
      ['{"name":["ne"]}', 0],
      ['{"id":["{payload}"]}', 1],
      ['{"label":["tier=back"]}', 1],
      ['{"label":["tier=front"]}', 0],
    ].map(([filters, count]): Row => ({
      covers: `1.3 ${kind} filters`,
      call: get(`${path}?filters=${filters}`),
      status: 200,
      body: count === 0 ? [] : [{ ID: '{payload}' }],
    })),
    {
      covers: '1.3 unknown filter',
      call: get(`${path}?filters={"wrong":["x"]}`),
      status: 400,
      message: "invalid filter 'wrong'",
      swarm: CAPITAL,
    },
    {
      covers: '1.2 update non-label',
      call: post(`${path}/{payload}/update?version={version}`, { Name: 'one', Data: zeros(3) }),
      status: 400,
      message: 'only updates to Labels are allowed',
    },
    {
      covers: '1.2 update non-label',
      call: post(`${path}/{payload}/update?version={version}`, { Name: 'other' }),
      status: 400,
      message: 'only updates to Labels are allowed',
    },
    {
      covers: `1.4 POST ${path}/{id}/update`,
      call: post(`${path}/{payload}/update?version={version}`, { Name: 'one', Labels: { tier: 'front' }, Data: HELLO }),
      status: 200,
    },
    {
      covers: '1.2 version conflict',
      call: post(`${path}/{payload}/update?version={version}`, { Name: 'one', Labels: {} }),
      status: 500,
      message: 'update out of sequence',
    },
    {
      covers: `1.4 GET ${path}/{id}`,
      call: get(`${path}/one`),
      status: 200,
      body: { Spec: { Labels: { tier: 'front' }, ...fields } },
    },
    {
      covers: `1.5 ${kind} ls`,
      call: docker(kind, 'ls', '--format', '{{.Name}}'),
      status: 0,
      text: /^one\ntwo\n$/,
    },
    ...[
      [using(reference('missing', 'gone')), `${kind} not found: gone`],
      [using(reference('missing', 'a'), reference('missing2', 'b', { File: file('t2') })), `${kind}s not found: a, b`],
      [using(reference('{payload}', 'other')), `${kind} not found: other`],
      [using(reference('', 'one')), `malformed ${kind} reference`],
      [using(reference('{payload}', 'one', {})), untargeted],
      [
        using(reference('{payload}', 'one', { File: file('') })),
        `malformed file ${kind} reference, invalid target file name provided`,
      ],
      [
        using(reference('{payload}', 'one'), reference('{templated}', 'two')),
        `${kind} references 'one' and 'two' have a conflicting target: 'target'`,
      ],
    ].map(([container, message]): Row => ({
      covers: `1.2 ${kind} references`,
      call: post('/services/create', service('wrong', container as object)),
      status: 400,
      message: message as string,
    })),
    {
      covers: `1.4 POST /services/create, ${key}s`,
      call: post('/services/create', service(`${kind}-user`, using(reference('{payload}', 'one')))),
      status: 201,
    },
    {
      covers: '1.2 in use',
      call: del(`${path}/one`),
      status: 400,
      message: `${kind} 'one' is in use by the following service: ${kind}-user`,
    },
    { covers: '1.4 DELETE /services/{id}', call: del(`/services/${kind}-user`), status: 200 },
    { covers: `1.4 DELETE ${path}/{id}`, call: del(`${path}/{payload}`), status: 204 },
    { covers: `1.4 DELETE ${path}/{id}`, call: del(`${path}/two`), status: 204 },
  ];
}

export const payloads: Row[] = [...rowsOf('secret'), ...rowsOf('config')];
