/** What the making of a network leaves in a real kernel when the daemon dies in the middle of it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { NetworkAssignment } from '../model/assignments.ts';
import type { CommandRunner } from './command.ts';
import { FakeLan, whyNoNamespaces, type FakeHost } from './fake-hosts.fixture.ts';
import { Facts } from './facts.ts';
import { Overlays } from './overlays.ts';

const APP: NetworkAssignment = {
  id: 'app',
  name: 'app',
  environment: 'default',
  subnet: '10.233.0.0/16',
  gateway: '10.233.0.1',
  vni: 4098,
  dataPathPort: 4789,
  ingress: false,
  internal: false,
  labels: {},
  options: {},
};

describe.skipIf(whyNoNamespaces() !== undefined)('a daemon that dies', () => {
  const lan = new FakeLan(`o${process.pid % 1000}`, '10.231.9');
  let host: FakeHost;
  beforeAll(async () => {
    await lan.up();
    host = await lan.host(1);
  });
  afterAll(() => lan.down());

  /** What a command has begun comes to its end; false if that was the end of the daemon, too. */
  async function made(commands: number): Promise<boolean> {
    const died = new Error('the daemon has died');
    let left = commands;
    const run: CommandRunner = async (argv, options) => {
      if (left === 0) throw died;
      left -= 1;
      return host.run(argv, options);
    };
    const facts = new Facts(host.nodeId);
    facts.apply({ kind: 'network', key: APP.id, value: APP });
    try {
      await new Overlays({ ...host.deps, run }, facts).update(APP.id);
      return true;
    } catch (error) {
      if (error !== died) throw error;
      return false;
    }
  }

  test('after whichever command: the next one finds all that there is, and takes it away', async () => {
    let commands = 0;
    for (let whole = false; !whole; commands++) {
      whole = await made(commands);
      await new Overlays(host.deps, new Facts(host.nodeId)).removeLeftovers();
      expect(await host.run(['ip', '-br', 'link']), `after ${commands} commands`).not.toMatch(/dr[bv]/);
      expect(host.engine.networks.size).toBe(0);
    }
    expect(commands).toBeGreaterThan(3);
  });
});
