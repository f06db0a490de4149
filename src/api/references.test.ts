import { beforeEach, describe, expect, test } from 'vitest';
import { MemoryJournal } from '../journal/memory.ts';
import { Store } from '../store/store.ts';
import { findNetwork } from './engine-networks.ts';
import { resolveNetwork, resolveNode, resolveService, resolveTask } from './references.ts';
import { aNode, anOverlay, aService, aTask } from './api.fixture.ts';

let store: Store;

beforeEach(async () => {
  store = await Store.open(new MemoryJournal());
  await store.update((tx) => {
    tx.services.create(aService('abc1'));
    tx.services.create({ ...aService('abc2'), spec: { ...aService('x').spec, Name: 'web' } });
    // A name that is the beginning of another's id: the name wins.
    tx.services.create({ ...aService('zzz'), spec: { ...aService('x').spec, Name: 'abc' } });
    tx.services.create({ ...aService('other'), environment: 'prod' });
    tx.nodes.create(aNode('n1'));
    tx.nodes.create({ ...aNode('n2'), description: aNode('n1').description! });
    tx.tasks.create(aTask('t1', 'abc2', { serviceName: 'web', slot: 3 }));
    tx.networks.create(anOverlay('net1'));
    tx.networks.create(anOverlay('net2', { removing: true }));
  });
});

const service = (reference: string) => store.view((view) => resolveService(view, 'default', reference).id);

describe('a service', () => {
  test.each([
    ['abc1', 'abc1'],
    ['web', 'abc2'],
    ['abc', 'zzz'],
    ['zz', 'zzz'],
  ])('%s is %s', (reference, id) => expect(service(reference)).toBe(id));

  test.each([
    ['ab', 400, 'service ab is ambiguous (2 matches found)'],
    ['nope', 404, 'service nope not found'],
    ['other', 404, 'service other not found'],
    ['', 404, 'service  not found'],
  ])('%s is refused', (reference, status, message) => {
    expect(() => service(reference)).toThrow(expect.objectContaining({ status, message }));
  });
});

test('a node is found by hostname, unless two have it', () => {
  expect(store.view((view) => resolveNode(view, 'n2').id)).toBe('n2');
  expect(() => store.view((view) => resolveNode(view, 'host-n1'))).toThrow(
    'node host-n1 is ambiguous (2 matches found)',
  );
});

test('a task is found by its whole name, not by service and slot alone', () => {
  const task = (reference: string) => store.view((view) => resolveTask(view, 'default', reference).id);
  expect([task('t1'), task('web.3.t1')]).toEqual(['t1', 't1']);
  expect(() => task('web.3')).toThrow('task web.3 not found');
  expect(() => task('web.4.t1')).toThrow('task web.4.t1 not found');
});

test('a network being removed is gone for users', () => {
  expect(store.view((view) => resolveNetwork(view, 'default', 'net').id)).toBe('net1');
  expect(() => store.view((view) => resolveNetwork(view, 'default', 'net2'))).toThrow('network net2 not found');
});

describe('a network among those of engine and cluster', () => {
  const local = { Id: 'aa11', Name: 'bridge', Driver: 'bridge' };
  const twin = { Id: 'ab22', Name: 'net1-name', Driver: 'bridge' };
  const overlay = anOverlay('net1');
  const find = (reference: string) => findNetwork(reference, [local, twin], [overlay]);

  test('id, name, id prefix', () => {
    expect(find('net1')).toEqual({ overlay });
    expect(find('bridge')).toEqual({ local });
    expect(find('ab')).toEqual({ local: twin });
  });

  test.each([
    ['net1-name', 400, 'network net1-name is ambiguous (2 matches found on name)'],
    ['a', 400, 'network a is ambiguous (2 matches found based on ID prefix)'],
    ['x', 404, 'network x not found'],
  ])('%s is refused', (reference, status, message) => {
    expect(() => find(reference)).toThrow(expect.objectContaining({ status, message }));
  });
});
