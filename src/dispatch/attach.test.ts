/** Single containers asking a manager for addresses, over the wire, with the real allocator. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startAllocator } from '../control/allocator/allocator.ts';
import { attachmentsLoop } from '../control/attachments.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { silentLog } from '../model/clock.ts';
import type { Identity } from '../pki/identity.ts';
import { Store } from '../store/store.ts';
import type { AgentSession } from './agent-session.ts';
import { attachClient } from './attach-client.ts';
import { manager, network, realClock, type Manager, type Memory } from './testbed.fixture.ts';

let store: Store;
let here: Manager;
let control: { stop(): Promise<void> }[];

beforeEach(async () => {
  store = await Store.open(new MemoryJournal());
  here = await manager({ store });
  const deps = { store, clock: realClock, log: silentLog };
  const loop = attachmentsLoop(deps);
  loop.start();
  control = [startAllocator(deps), loop];
  await store.update((tx) => {
    const { spec } = network('app');
    tx.networks.create({ ...network('app'), spec: { ...spec, Attachable: true } });
    tx.networks.create({ ...network('closed'), allocation: { subnet: '10.1.0.0/16', vni: 4098 } });
  });
});
afterEach(async () => {
  await here.close();
  await Promise.all(control.map((part) => part.stop()));
});

/** Waits until `probe` gives something. */
async function until<T>(probe: () => T | undefined | false): Promise<T> {
  for (;;) {
    const answer = probe();
    if (answer !== undefined && answer !== false) return answer;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function agent(): Promise<
  { identity: Identity; session: AgentSession; memory: Memory } & ReturnType<typeof attachClient>
> {
  const identity = await here.certify();
  const { session, memory } = here.agent(identity);
  await until(() => memory.replaced > 0);
  return { identity, session, memory, ...attachClient((path, body) => session.ask(path, body)) };
}

const request = (id: string, more: object = {}) => ({
  id,
  environment: 'default',
  network: 'app',
  aliases: ['www'],
  ...more,
});
const rows = () => store.view((view) => [...view.attachments.all()]);

test('an address, and facts: the node its own, every node of the network the endpoint, served while it runs', async () => {
  const [one, two] = await Promise.all([agent(), agent()]);
  const mine = await one.attach(request('a1'));
  expect(mine).toEqual({ networkId: 'app', address: expect.stringMatching(/^10\.0\./) });
  expect(await one.attach(request('a1'))).toEqual(mine);
  await two.attach(request('a2', { network: 'ap' }));
  const endpoint = () => two.memory.facts.get('endpoint app/a1') as { serving: boolean; aliases: string[] } | undefined;
  expect(await until(endpoint)).toMatchObject({
    address: mine.address,
    serviceId: '',
    serving: false,
    aliases: ['www'],
  });
  await one.seen([{ id: 'a1', container: { id: '0123456789abcdef', name: 'box', running: true } }]);
  expect(await until(() => endpoint()?.serving && endpoint())).toMatchObject({
    aliases: ['box', 'www', '0123456789ab'],
  });
  const own = await until(() => {
    const fact = one.memory.facts.get('attachment a1') as { container?: object } | undefined;
    return fact?.container !== undefined && fact;
  });
  expect(own).toMatchObject({ networkId: 'app', address: mine.address, container: { name: 'box' } });
  expect(two.memory.facts.has('attachment a1')).toBe(false);
  await one.release(['a1', 'unknown']);
  await until(() => endpoint() === undefined);
  expect(rows().map(({ id }) => id)).toEqual(['a2']);
});

test('refusals in the words of Docker leave nothing behind', async () => {
  const { attach } = await agent();
  await attach(request('a1', { wantedAddress: '10.0.9.9' }));
  const refused = async (more: object) => attach(request('other', more)).catch((error: unknown) => error);
  expect(await refused({ network: 'nowhere' })).toMatchObject({ status: 404, message: 'network nowhere not found' });
  expect(await refused({ environment: 'dev' })).toMatchObject({ status: 404 });
  expect(await refused({ network: 'closed' })).toMatchObject({
    status: 403,
    message:
      'Could not attach to network closed: rpc error: code = PermissionDenied desc = network closed not manually attachable',
  });
  expect(await refused({ wantedAddress: '10.0.9.9' })).toMatchObject({
    status: 403,
    message: 'Address already in use',
  });
  expect(await refused({ wantedAddress: '10.9.9.9' })).toMatchObject({
    status: 400,
    message: "Invalid address 10.9.9.9: It does not belong to any of this network's subnets",
  });
  expect(await refused({ wantedAddress: 'x' })).toMatchObject({ status: 400 });
  expect(rows().map(({ id }) => id)).toEqual(['a1']);
});

test('what is another node’s cannot be touched', async () => {
  const [one, two] = await Promise.all([agent(), agent()]);
  await one.attach(request('a1'));
  await two.release(['a1']);
  await two.seen([{ id: 'a1', container: { id: 'c', name: 'n', running: true } }]);
  await expect(two.attach(request('a1'))).rejects.toMatchObject({ status: 409 });
  expect(rows()).toMatchObject([{ id: 'a1', nodeId: one.identity.nodeId }]);
  expect(rows()[0]!.container).toBeUndefined();
});

test('what a removed node had is free again, and it gets nothing more', async () => {
  const { attach, identity } = await agent();
  await attach(request('a1'));
  await store.update((tx) => tx.nodes.remove(identity.nodeId));
  await until(() => rows().length === 0);
  expect(await attach(request('a2')).catch(() => 'refused')).toBe('refused');
  expect(rows()).toEqual([]);
});

test('without a session nobody can be asked', async () => {
  const { attach, session } = await agent();
  await session.close();
  await expect(attach(request('a1'))).rejects.toMatchObject({ name: 'SessionLost' });
});
