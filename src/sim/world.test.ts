/** What the simulator found to be wrong with itself. */
import { expect, test } from 'vitest';
import { users } from './users.fixture.ts';
import { World } from './world.ts';

test('a host that was removed leaves when its engine answers again, and not before', async () => {
  const world = new World({ seed: 1, users, managers: 1, nodes: 2 });
  await world.begin();
  await world.run(5_000);
  const [node] = world.nodes;
  expect(node!.connected).toBe(true);
  node!.engine.engine.goAway();
  const removed = world.leader!.write((tx) => tx.nodes.remove(node!.nodeId));
  await world.run(10_000);
  await removed;
  expect(node!.removed).toBe(true);
  node!.engine.engine.comeBack();
  await world.run(5_000);
  expect(node!.process.alive).toBe(false);
});
