/** Found by the simulator: what an agent remembers is reported, even if a session begins before the engine has answered. */
import { expect, test } from 'vitest';
import { MemoryEngine } from '../engine/memory-engine.ts';
import type { TaskStatusReport } from '../model/assignments.ts';
import { silentLog } from '../model/clock.ts';
import { TaskState } from '../model/states.ts';
import { FakeClock, settle } from '../sim/fake-clock.ts';
import { NodeMemory } from '../sim/node-memory.ts';
import { NodeNetworkTwin } from '../sim/node-network.ts';
import { Chance } from '../sim/seeded.ts';
import { assigned, fact, inState } from './assignment.fixture.ts';
import { Agent } from './agent.ts';
import { RecordingFiles } from './task-files.fixture.ts';

test('the end of a task that no manager heard of is told when the engine answers after the session has begun', async () => {
  const clock = new FakeClock();
  const engine = new MemoryEngine({ clock });
  const memory = new NodeMemory();
  const reports: TaskStatusReport[] = [];
  let managerTakes = true;
  const start = (): Agent => {
    const agent = new Agent({
      nodeId: 'n1',
      engine,
      network: new NodeNetworkTwin(clock, new Chance(1)),
      memory,
      files: new RecordingFiles(),
      bootId: 'boot1',
      clock,
      random: () => 0.5,
      log: silentLog,
      report: async (batch) => {
        if (!managerTakes) throw new Error('no session');
        reports.push(...batch);
      },
    });
    agent.start();
    return agent;
  };
  const facts = (state: TaskState) => [fact(assigned({ status: inState(state) }))];
  const first = start();
  await settle();
  first.replace(facts(TaskState.ASSIGNED));
  await clock.advance(1_000);
  expect(reports.at(-1)?.status.state).toBe(TaskState.RUNNING);
  managerTakes = false;
  engine.exit(engine.containerOf('t1').containerId, 1);
  await clock.advance(1_000);
  await first.stop();

  managerTakes = true;
  reports.length = 0;
  engine.goAway();
  const second = start();
  second.replace(facts(TaskState.RUNNING));
  await settle();
  engine.comeBack();
  await clock.advance(10_000);
  expect(reports.map(({ status }) => status.state)).toEqual([TaskState.FAILED]);
  await second.stop();
});
