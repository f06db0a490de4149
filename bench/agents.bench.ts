/**
 * Real sessions: 2,000 agents in one process, each with its own certificate and TLS connection, against one manager in another
 * on SQLite. Prints what they cost the manager and writes it into docs/scale.md.
 *
 *   node bench/agents.bench.ts [--agents 2000] [--tasks-per-agent 10] [--ingress]    --ingress: print only, with an ingress network
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Question, Usage } from './agents/manager.ts';
import { timed } from './measure.ts';
import { row, whole, writeSection } from './scale/page.ts';

const { values } = parseArgs({
  options: {
    agents: { type: 'string', default: '2000' },
    'tasks-per-agent': { type: 'string', default: '10' },
    ingress: { type: 'boolean', default: false },
  },
});
const agents = Number(values.agents);
const tasks = agents * Number(values['tasks-per-agent']);
const REPLICAS = 100;
const IDLE_MS = 20_000;
/** Memory settles: buffers of handshakes go. */
const REST_MS = 5_000;

const start = (script: string, args: string[]): ChildProcess =>
  fork(join(import.meta.dirname, 'agents', script), args, { execArgv: ['--expose-gc'] });

async function ask<T>(child: ChildProcess, question: Question): Promise<T> {
  const answer = once(child, 'message');
  child.send(question);
  const [message] = (await answer) as [T];
  return message;
}

const pause = (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms));
const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
const megabytes = (bytes: number) => `${whole(bytes / 1e6)} MB`;

async function measure(dataDir: string): Promise<string[]> {
  const manager = start('manager.ts', [dataDir, ...(values.ingress ? ['ingress'] : [])]);
  let crowd: ChildProcess | undefined;
  try {
    const [{ address, token }] = (await once(manager, 'message')) as [{ address: string; token: string }];
    const usage = () => ask<Usage>(manager, { ask: 'usage' });
    const reached = (ready: number, running: number) => ask<object>(manager, { ask: 'reached', ready, running });
    const before = await usage();
    const joinMs = await timed(async () => {
      crowd = start('agents.ts', [address, token, String(agents)]);
      await once(crowd, 'message');
      await reached(agents, 0);
    });
    await pause(REST_MS);
    const joined = await usage();
    await pause(IDLE_MS);
    const idle = await usage();
    const tasksMs = await timed(async () => {
      await ask(manager, { ask: 'services', services: tasks / REPLICAS, replicas: REPLICAS });
      await reached(agents, tasks);
    });
    const busy = await usage();
    await pause(REST_MS);
    const after = await usage();
    const each = (bytes: number) => `${whole(bytes / agents / 1000)} kB`;
    return [
      row([`${whole(agents)} agents join, ${values.ingress ? 'with' : 'without'} an ingress network`, seconds(joinMs)]),
      row(["the manager's CPU for that, certificates included", seconds(joined.cpuMs - before.cpuMs)]),
      row(['of one agent on the manager, heap', each(joined.heapBytes - before.heapBytes)]),
      row(['of one agent on the manager, resident', each(joined.rssBytes - before.rssBytes)]),
      row(['the manager, resident, with all of them', megabytes(joined.rssBytes)]),
      row(['heartbeats, of a core', `${(((idle.cpuMs - joined.cpuMs) / IDLE_MS) * 100).toFixed(1)} %`]),
      row([`${whole(tasks)} tasks from created to RUNNING`, seconds(tasksMs)]),
      row(["the manager's CPU for that", seconds(busy.cpuMs - idle.cpuMs)]),
      row(['the manager, resident, with all tasks', megabytes(after.rssBytes)]),
      row(['nodes taken for down meanwhile', whole(after.downs)]),
    ];
  } finally {
    crowd?.kill();
    manager.kill();
  }
}

const dataDir = mkdtempSync(join(tmpdir(), 'drover-agents-'));
try {
  const rows = await measure(dataDir);
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.version}, agents and manager on it together; load at the end: ${loadavg()[0]!.toFixed(1)}`;
  const table = [machine, '', row(['one manager', '']), row(['---', '---']), ...rows];
  console.log(table.join('\n'));
  if (!values.ingress) writeSection('agents', table);
} finally {
  rmSync(dataDir, { recursive: true });
}
process.exit(0);
