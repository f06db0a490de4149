import { once } from 'node:events';
import { request as httpRequest, type ServerResponse } from 'node:http';
import { expect, test } from 'vitest';
import { messageOf, passes } from './cluster-events.ts';
import { aNode, anOverlay, aSecret, aService, startApi } from './api.fixture.ts';

const NOW = 1_700_000_000_123;
const service = aService('web');
const overlay = anOverlay('net1');

test.each([
  ['service created', { table: 'services', after: service }, 'service create web {"name":"web"}'],
  ['service removed', { table: 'services', before: service }, 'service remove web {"name":"web"}'],
  [
    'service scaled',
    {
      table: 'services',
      before: service,
      after: { ...service, spec: { ...service.spec, Mode: { Replicated: { Replicas: 5 } } } },
    },
    'service update web {"name":"web","replicas.old":"2","replicas.new":"5"}',
  ],
  ['service allocated', { table: 'services', before: service, after: { ...service, endpointError: 'x' } }, undefined],
  [
    'node down',
    { table: 'nodes', before: aNode('n'), after: { ...aNode('n'), status: { ...aNode('n').status, state: 'down' } } },
    'node update n {"name":"host-n","state.old":"ready","state.new":"down"}',
  ],
  [
    'node given a gateway',
    { table: 'nodes', before: aNode('n'), after: aNode('n', { gateways: { net1: '10.0.0.2' } }) },
    undefined,
  ],
  ['secret created', { table: 'secrets', after: aSecret('s') }, 'secret create s {"name":"s"}'],
  ['config removed', { table: 'configs', before: aSecret('c') }, 'config remove c {"name":"c"}'],
  ['network created', { table: 'networks', after: overlay }, 'network create net1 {"name":"net1-name"}'],
  ['network allocated', { table: 'networks', before: overlay, after: { ...overlay } }, undefined],
  [
    'network being removed',
    { table: 'networks', before: overlay, after: { ...overlay, removing: true } },
    'network remove net1 {"name":"net1-name"}',
  ],
  ['network gone after that', { table: 'networks', before: { ...overlay, removing: true } }, undefined],
] as const)('%s', (_, event, expected) => {
  const message = messageOf(event, NOW);
  const text =
    message && `${message.Type} ${message.Action} ${message.Actor.ID} ${JSON.stringify(message.Actor.Attributes)}`;
  expect(text).toBe(expected);
  if (message !== undefined)
    expect(message).toMatchObject({ scope: 'swarm', time: 1_700_000_000, timeNano: NOW * 1e6 });
});

test('filters choose by type, action, scope and object', () => {
  const message = messageOf({ table: 'services', after: service }, NOW)!;
  const pass = (key: string, value: string) => passes(message, new Map([[key, [value]]]));
  expect([pass('type', 'service'), pass('event', 'create'), pass('scope', 'swarm'), pass('service', 'we')]).toEqual([
    true,
    true,
    true,
    true,
  ]);
  expect([
    pass('type', 'node'),
    pass('event', 'remove'),
    pass('scope', 'local'),
    pass('service', 'db'),
    pass('container', 'x'),
  ]).toEqual(Array(5).fill(false));
});

test('one stream of both, in whole lines; since finds what was before', async () => {
  let engine: ServerResponse | undefined;
  const asked: string[] = [];
  const api = await startApi((played, response) => {
    asked.push(played.url ?? '');
    response.writeHead(200, { 'Content-Type': 'application/json' });
    if (played.url?.includes('until=') === true) {
      response.end(`${['0', '9e18'].map((timeNano) => `{"Type":"image","timeNano":${timeNano}}`).join('\n')}\n`);
    } else {
      engine = response;
      engine.flushHeaders();
    }
  });
  await api.store.update((tx) => tx.services.create(service));
  const request = httpRequest({
    socketPath: api.socketPath,
    path: `/v1.41/events?since=${api.clock.now() / 1000 - 10}`,
    agent: false,
  });
  request.end();
  const [response] = await once(request, 'response');
  expect(response.headers['content-type']).toBe('application/json');
  const nanos = (plusSeconds: number): string => (api.clock.now() / 1000 + plusSeconds).toFixed(9);
  let text = '';
  response.on('data', (chunk: Buffer) => (text += String(chunk)));
  const lines = async (count: number): Promise<string[]> => {
    while (text.split('\n').length <= count) await once(response, 'data');
    return text.split('\n').slice(0, count);
  };
  const types = (await lines(3)).map((line) => (JSON.parse(line) as { Type: string }).Type);
  expect(types).toEqual(['image', 'service', 'image']);
  expect(asked).toEqual([
    `/v1.41/events?since=${nanos(-10)}&until=${nanos(0)}`,
    `/v1.41/events?since=${nanos(0).replace(/0$/, '1')}`,
  ]);
  engine!.write('{"Type":"container",');
  await api.store.update((tx) => tx.networks.create(overlay));
  expect(JSON.parse((await lines(4))[3]!)).toMatchObject({ Type: 'network', Action: 'create' });
  engine!.write('"Action":"start"}\n');
  expect((await lines(5))[4]).toBe('{"Type":"container","Action":"start"}');
  engine!.end();
  await once(response, 'end');
  await api.close();
});
