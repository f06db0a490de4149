import { afterAll, beforeAll, expect, test } from 'vitest';
import { MemoryJournal } from '../journal/memory.ts';
import { Store } from '../store/store.ts';
import { dialAnyone, isAddress, withPort } from './connect.ts';
import { manager, type Manager } from './testbed.fixture.ts';

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

test.each([
  ['10.0.0.1', true, '10.0.0.1:2377'],
  ['manager.example:2400', true, 'manager.example:2400'],
  ['[fd00::1]', true, '[fd00::1]:2377'],
  ['no such://place', false, undefined],
])('the address %s', (address, good, dialled) => {
  expect(isAddress(address)).toBe(good);
  if (dialled !== undefined) expect(withPort(address)).toBe(dialled);
});
