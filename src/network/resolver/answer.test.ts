/** Who is answered what: names, visibility, holding. */
import { describe, expect, test } from 'vitest';
import type { Knowledge } from './answer.ts';
import { answer, NameTable } from './answer.ts';
import type { NamedEndpoint, NetworkNames } from './names.ts';

const task = (taskId: string, slot: number, address: string, serving = true, serviceId = 'web'): NamedEndpoint => ({
  taskId,
  serviceId,
  nodeId: 'n1',
  slot,
  address,
  serving,
  aliases: ['shared'],
});

const APP: NetworkNames = {
  id: 'app',
  name: 'My_App',
  environment: 'default',
  subnet: '10.1.0.0/16',
  gateway: '10.1.0.1',
  ingress: false,
  services: [
    { id: 'web', name: 'web', aliases: ['www'], vip: '10.1.2.1' },
    { id: 'rr', name: 'rr', aliases: [] },
    { id: 'every', name: 'every', aliases: [], vip: '10.1.2.3' },
  ],
  endpoints: [
    task('t1', 1, '10.1.1.1'),
    task('t2', 2, '10.1.1.2', false),
    task('t2new', 2, '10.1.1.22'),
    task('t3', 3, '10.1.1.3', false),
    task('r1', 1, '10.1.1.4', true, 'rr'),
    task('r2', 2, '10.1.1.5', true, 'rr'),
    task('e1', 0, '10.1.1.6', true, 'every'),
    { ...task('c1', 0, '10.1.1.7', true, ''), aliases: ['Box', 'shared', '0123456789ab'] },
    { ...task('c2', 0, '10.1.1.8', false, ''), aliases: ['stopped'] },
  ],
};

const OTHER: NetworkNames = {
  ...APP,
  id: 'other',
  name: 'other',
  subnet: '10.2.0.0/16',
  gateway: '10.2.0.1',
  services: [{ id: 'secret', name: 'secret', aliases: [], vip: '10.2.2.1' }],
  endpoints: [],
};

const knowledge: Knowledge = {
  networks: new Map([APP, OTHER].map((network) => [network.id, new NameTable(network)])),
  askers: {
    '10.1.1.1': { taskId: 't1', networks: ['app'] },
    '10.1.1.4': { taskId: 'r1', networks: ['app', 'other'] },
  },
};

const ask = (name: string, type = 'A', asker = '10.1.1.1', overdue = false) =>
  answer(knowledge, asker, { name, type }, overdue);

describe('names', () => {
  test.each([
    ['web', ['10.1.2.1']],
    ['WEB.', ['10.1.2.1']],
    ['web.my_app', ['10.1.2.1']],
    ['www', ['10.1.2.1']],
    ['tasks.web', ['10.1.1.1', '10.1.1.22']],
    ['tasks.web.my_app', ['10.1.1.1', '10.1.1.22']],
    ['rr', ['10.1.1.4', '10.1.1.5']],
    ['web.1', ['10.1.1.1']],
    ['web.2', ['10.1.1.22']],
    ['web.3', ['10.1.1.3']],
    ['every.n1', ['10.1.1.6']],
    ['web.2.t2', ['10.1.1.2']],
    ['box', ['10.1.1.7']],
    ['box.my_app', ['10.1.1.7']],
    ['0123456789ab', ['10.1.1.7']],
    ['shared', ['10.1.1.1', '10.1.1.22', '10.1.1.4', '10.1.1.5', '10.1.1.6', '10.1.1.7']],
  ])('%s', (name, addresses) => {
    expect(ask(name)).toEqual({ kind: 'addresses', addresses });
  });

  test('a known name has no other types, and says so', () => {
    expect(ask('web', 'AAAA')).toEqual({ kind: 'addresses', addresses: [] });
    expect(ask('web', 'MX')).toEqual({ kind: 'addresses', addresses: [] });
  });

  test.each(['nothing', 'example.com', 'web.other', 'secret', 'web.4', 'stopped'])('%s is not ours', (name) => {
    expect(ask(name)).toEqual({ kind: 'forward' });
  });

  test('a task sees the names of all its networks, and of no other', () => {
    expect(ask('secret', 'A', '10.1.1.4')).toEqual({ kind: 'addresses', addresses: ['10.2.2.1'] });
    expect(ask('secret', 'A', '10.1.1.1')).toEqual({ kind: 'forward' });
  });

  test('addresses lead back to names', () => {
    expect(ask('1.1.1.10.in-addr.arpa', 'PTR')).toEqual({ kind: 'pointer', name: 'web.1.t1.My_App' });
    expect(ask('1.2.1.10.in-addr.arpa', 'PTR')).toEqual({ kind: 'pointer', name: 'web.My_App' });
    expect(ask('7.1.1.10.in-addr.arpa', 'PTR')).toEqual({ kind: 'pointer', name: 'Box.My_App' });
    expect(ask('9.9.1.10.in-addr.arpa', 'PTR')).toEqual({ kind: 'none' });
    expect(ask('1.2.2.10.in-addr.arpa', 'PTR')).toEqual({ kind: 'none' });
    expect(ask('8.8.8.8.in-addr.arpa', 'PTR')).toEqual({ kind: 'forward' });
  });

  test('the ingress network has no names', () => {
    const table = new NameTable({ ...APP, ingress: true });
    expect(table.addresses('web')).toBeUndefined();
  });
});

describe('holding', () => {
  test('an address of ours that is not released waits, then gets the names of its network', () => {
    expect(ask('web', 'A', '10.1.9.9')).toEqual({ kind: 'hold' });
    expect(ask('example.com', 'A', '10.1.9.9')).toEqual({ kind: 'hold' });
    expect(ask('web', 'A', '10.1.9.9', true)).toEqual({ kind: 'addresses', addresses: ['10.1.2.1'] });
  });

  test('the node itself, and strangers, do not wait', () => {
    expect(ask('web', 'A', '10.1.0.1')).toEqual({ kind: 'addresses', addresses: ['10.1.2.1'] });
    expect(ask('web', 'A', '192.168.1.1')).toEqual({ kind: 'forward' });
  });
});
