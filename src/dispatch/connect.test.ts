import { once } from 'node:events';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MemoryJournal } from '../journal/memory.ts';
import type { Clock } from '../model/clock.ts';
import { Store } from '../store/store.ts';
import { dialAnyone, dialManager, isAddress, withPort } from './connect.ts';
import { manager, realClock, type Manager } from './testbed.fixture.ts';

let m: Manager;
beforeAll(async () => {
  m = await manager({ store: await Store.open(new MemoryJournal()) });
});
afterAll(() => m.close());

test('a connection that is given up in the very moment it stands harms nobody', async () => {
  const connection = dialAnyone(m.address);
  connection.on('error', () => {});
  const late = new Promise<boolean>((resolve) => connection.once('connect', () => resolve(connection.destroyed)));
  connection.socket.once('secureConnect', () => connection.destroy());
  // Node announces it all the same; an error thrown there would end the process.
  expect(await late).toBe(true);
});

test('a host has so long to answer, and its manager as long as it needs', async () => {
  const timers: (() => void)[] = [];
  const after: Clock['after'] = (_ms, fn) => {
    timers.push(fn);
    return { cancel() {} };
  };
  const trust = { rootCertificate: m.root.certificate };
  const dial = () => dialManager(m.address, trust, { ...realClock, after }, undefined, 2_000);
  const silent = dial();
  const failed = once(silent, 'error');
  // No packet can have come back yet: that takes a turn of the event loop.
  timers[0]?.();
  expect(await failed).toEqual([new Error('the host does not answer within 2000 ms')]);
  const slow = dial();
  slow.on('error', () => {});
  await once(slow.socket, 'connect');
  timers[1]?.();
  expect(slow.destroyed).toBe(false);
  slow.destroy();
});

test.each([
  ['10.0.0.1', true, '10.0.0.1:2377'],
  ['manager.example:2400', true, 'manager.example:2400'],
  ['[fd00::1]', true, '[fd00::1]:2377'],
  ['no such://place', false, undefined],
])('the address %s', (address, good, dialled) => {
  expect(isAddress(address)).toBe(good);
  if (dialled !== undefined) expect(withPort(address)).toBe(dialled);
});
