/** The shared journal on a real etcd: the compliance suite, over wires that can be cut; what only several members show; TLS. */
import { afterAll, beforeAll } from 'vitest';
import { silentLog } from '../../model/clock.ts';
import { sharedJournalContract } from '../shared.contract.ts';
import { PausableClock, type SharedWorld } from '../shared-world.fixture.ts';
import { EtcdClient } from './client.ts';
import { realClock, startEtcd, Wire, type EtcdCluster } from './etcd.fixture.ts';
import { EtcdJournal } from './journal.ts';

let etcd: EtcdCluster;
let worlds = 0;

beforeAll(async () => {
  etcd = await startEtcd();
});

afterAll(async () => {
  await etcd.dispose();
});

/** A cluster of its own in the one etcd of this file. */
async function world(ttlMs: number): Promise<SharedWorld> {
  const clusterId = `world${++worlds}`;
  const member = etcd.members[0]!;
  const ends: (() => Promise<void>)[] = [];
  return {
    clock: realClock,
    ttlMs,
    async client() {
      const wire = await Wire.to(member.endpoint);
      const clock = new PausableClock(realClock);
      const api = await EtcdClient.make({ endpoints: [wire.endpoint], clock, tryMs: 700 });
      const deps = { api, clusterId, clock, random: Math.random, log: silentLog };
      const journal = new EtcdJournal({ ...deps, ttlMs });
      ends.push(async () => {
        await journal.close();
        await wire.close();
      });
      return {
        journal,
        clock,
        cut: () => (wire.mode = 'cut'),
        loseAnswers: () => (wire.mode = 'deaf'),
        mend: () => (wire.mode = 'open'),
      };
    },
    async compact() {
      const api = await EtcdClient.make({ endpoints: [member.endpoint], clock: realClock });
      const { revision } = await api.range({ from: 'x', to: 'y' });
      await api.ask({
        method: 'KV/Compact',
        request: ['CompactionRequest', { revision }],
        answer: 'HeaderOnly',
        again: true,
      });
      api.close();
    },
    loseQuorum: () => member.pause(),
    regainQuorum: () => member.resume(),
    run: (scenario) => scenario(),
    async dispose() {
      await Promise.all(ends.map((end) => end()));
    },
  };
}

sharedJournalContract('etcd', world);
