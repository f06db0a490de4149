/**
 * How fast the scheduler gives pending tasks their nodes, through the store: from the moment it starts on a store full
 * of pending tasks until the last one is seen ASSIGNED. Beside it, in the same run, a naive scheduler that looks at all
 * nodes for each task and writes through the same store.
 *
 *   node bench/scheduler.bench.ts [--large]     --large: 1,000,000 tasks on 100,000 nodes as well (2–3 GB, a minute)
 *
 * "Journal off" commits nothing; "memory" keeps the rows as text; "sqlite" is what one manager uses, on a temporary disk.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Verdict, judge } from '../src/control/scheduler/filters.ts';
import { requirementsOf } from '../src/control/scheduler/requirements.ts';
import { startScheduler } from '../src/control/scheduler/scheduler.ts';
import type { Journal } from '../src/journal/journal.ts';
import { MemoryJournal } from '../src/journal/memory.ts';
import { SqliteJournal } from '../src/journal/sqlite.ts';
import { silentLog, type Clock } from '../src/model/clock.ts';
import { newId } from '../src/model/ids.ts';
import { DEFAULT_ENVIRONMENT, serviceSpecId, type Node, type Task } from '../src/model/objects.ts';
import type { ServiceSpec } from '../src/model/specs.ts';
import { TaskState } from '../src/model/states.ts';
import { Store, type Transaction } from '../src/store/store.ts';

interface Size {
  nodes: number;
  tasks: number;
  services: number;
}

/** What the run took. */
interface Figures {
  perSecond: number;
  ms: number;
  cpuMs: number;
}

const clock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, fn) {
    const timer = setTimeout(fn, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};

class NoJournal extends MemoryJournal {
  override async commit(): Promise<void> {}
}

const SPEC: ServiceSpec = {
  Name: '',
  Labels: {},
  TaskTemplate: {
    ContainerSpec: { Image: 'busybox' },
    Resources: { Reservations: { NanoCPUs: 1e8, MemoryBytes: 64e6 } },
    Placement: { Constraints: ['node.role==worker', 'node.labels.zone!=maintenance'] },
  },
  Mode: { Replicated: {} },
};

const now = () => new Date().toISOString();
const meta = () => ({ version: 1, createdAt: now(), updatedAt: now() });

function nodeOf(i: number): Node {
  return {
    id: newId(Math.random),
    meta: meta(),
    spec: { Labels: { zone: `z${i % 3}` }, Role: 'worker', Availability: 'active' },
    description: {
      hostname: `host-${i}`,
      platform: { Architecture: 'x86_64', OS: 'linux' },
      resources: { nanoCpus: 64e9, memoryBytes: 256e9 },
      engine: { version: '20.10.24', labels: {}, plugins: [{ type: 'Volume', name: 'local' }] },
      tls: { trustRoot: '', certIssuerSubject: '', certIssuerPublicKey: '' },
      routes: [],
      dataPathAddress: '',
      degraded: [],
    },
    status: { state: 'ready', message: '', address: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, since: now() },
    gateways: {},
  };
}

function taskOf(serviceId: string, slot: number): Task {
  return {
    id: newId(Math.random),
    environment: DEFAULT_ENVIRONMENT,
    meta: meta(),
    serviceId,
    serviceName: 'web',
    specVersion: 1,
    slot,
    nodeId: '',
    desiredState: TaskState.RUNNING,
    status: { timestamp: now(), state: TaskState.PENDING, message: 'pending task scheduling' },
    networks: [{ networkId: 'n', address: `10.${(slot >> 16) & 255}.${(slot >> 8) & 255}.${slot & 255}`, aliases: [] }],
  };
}

async function fill(store: Store, { nodes, tasks, services }: Size): Promise<void> {
  const many = async (count: number, create: (tx: Transaction, i: number) => void) => {
    for (let at = 0; at < count; at += 1000) {
      await store.update((tx) => {
        for (let i = at; i < Math.min(count, at + 1000); i++) create(tx, i);
      });
    }
  };
  await many(nodes, (tx, i) => tx.nodes.create(nodeOf(i)));
  await many(services, (tx, i) => createSpec(tx, `service${i}`));
  const each = Math.ceil(tasks / services);
  await many(tasks, (tx, i) => tx.tasks.create(taskOf(`service${Math.floor(i / each)}`, (i % each) + 1)));
}

function createSpec(tx: Transaction, serviceId: string): void {
  tx.serviceSpecs.create({ id: serviceSpecId(serviceId, 1), serviceId, version: 1, spec: SPEC });
}

/** Resolves when `count` tasks have been assigned from now on. */
function assigned(store: Store, count: number): Promise<void> {
  return new Promise((resolve) => {
    let left = count;
    const stop = store.watch((events) => {
      for (const { table, after } of events) {
        if (table === 'tasks' && after?.status.state === TaskState.ASSIGNED) left -= 1;
      }
      if (left > 0) return;
      stop();
      resolve();
    });
  });
}

async function timed(count: number, run: () => Promise<void>): Promise<Figures> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await run();
  const ms = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  return { perSecond: (count / ms) * 1000, ms, cpuMs: (user + system) / 1000 };
}

/** Fills a store, lets the scheduler place everything, and then, if asked, new services of one task each. */
async function place(size: Size, journal: Journal, singles = 0): Promise<Figures & { singleMs: number }> {
  const store = await Store.open(journal);
  await fill(store, size);
  const all = assigned(store, size.tasks);
  let scheduler: { stop(): Promise<void> } | undefined;
  const figures = await timed(size.tasks, async () => {
    scheduler = startScheduler({ store, clock, log: silentLog });
    await all;
  });
  // The first one is not counted: the run before it has left changes on every node.
  const single = async (i: number) => {
    const one = assigned(store, 1);
    await store.update((tx) => {
      createSpec(tx, `single${i}`);
      tx.tasks.create(taskOf(`single${i}`, 1));
    });
    await one;
  };
  await single(0);
  const singleMs: number[] = [];
  for (let i = 1; i <= singles; i++) singleMs.push((await timed(1, () => single(i))).ms);
  await scheduler?.stop();
  await journal.close();
  return { ...figures, singleMs: singleMs.sort((a, b) => a - b)[singles >> 1] ?? 0 };
}

/** Looks at every node for every task; as many tasks as it can place in the time given. */
async function placeNaively(size: Size, limitMs: number): Promise<Figures> {
  const store = await Store.open(new NoJournal());
  await fill(store, size);
  const wanted = requirementsOf(SPEC, () => undefined);
  const used = store.view((view) =>
    [...view.nodes.all()].map((node) => ({
      node,
      usage: { nanoCpus: 0, memoryBytes: 0, hostPorts: new Map(), generic: new Map() },
      tasks: 0,
      services: new Map<string, number>(),
    })),
  );
  const pending = store.view((view) => [...view.tasks.all()]);
  let placed = 0;
  const figures = await timed(1, async () => {
    const end = performance.now() + limitMs;
    while (placed < pending.length && performance.now() < end) {
      const chunk = pending.slice(placed, placed + 100);
      await store.update((tx) => {
        for (const task of chunk) {
          const { serviceId } = task;
          let best: (typeof used)[number] | undefined;
          let bestReplicas = 0;
          for (const each of used) {
            const replicas = each.services.get(serviceId) ?? 0;
            if (judge(wanted, each.node, each.usage, replicas) !== Verdict.FITS) continue;
            if (
              best !== undefined &&
              (replicas > bestReplicas || (replicas === bestReplicas && each.tasks >= best.tasks))
            )
              continue;
            best = each;
            bestReplicas = replicas;
          }
          if (best === undefined) throw new Error('the nodes are too small for the bench');
          best.usage.nanoCpus += wanted.nanoCpus;
          best.usage.memoryBytes += wanted.memoryBytes;
          best.tasks += 1;
          best.services.set(serviceId, bestReplicas + 1);
          const status = { timestamp: now(), state: TaskState.ASSIGNED, message: 'scheduler assigned task to node' };
          tx.tasks.update({ ...task, nodeId: best.node.id, status });
        }
      });
      placed += chunk.length;
    }
  });
  return { ...figures, perSecond: (placed / figures.ms) * 1000 };
}

const whole = (value: number) => Math.round(value).toLocaleString('en-US');
const best = <T extends Figures>(runs: readonly T[]): T => runs.reduce((a, b) => (b.perSecond > a.perSecond ? b : a));

function print(what: string, { perSecond, ms, cpuMs }: Figures, rest = ''): void {
  // On a busy machine the second figure is the one to compare: garbage collection's threads are counted in it.
  const perCpu = whole((perSecond * ms) / cpuMs).padStart(9);
  const line = `${what.padEnd(34)}${whole(perSecond).padStart(9)} placements/s, ${perCpu} per second of CPU, in ${whole(ms)} ms`;
  console.log(rest === '' ? line : `${line}  ${rest}`);
}

async function withSqlite<R>(run: (journal: Journal) => Promise<R>): Promise<R> {
  const directory = mkdtempSync(join(tmpdir(), 'drover-bench-'));
  try {
    return await run(new SqliteJournal(join(directory, 'state.db')));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function compare(size: Size, runs: number): Promise<void> {
  console.log(`${whole(size.tasks)} tasks of ${size.services} services on ${whole(size.nodes)} nodes, best of ${runs}`);
  const naive = await placeNaively({ ...size, tasks: Math.min(size.tasks, 20_000) }, 2000);
  print('  naive: all nodes for each task', naive);
  const off = [];
  for (let i = 0; i < runs; i++) off.push(await place(size, new NoJournal(), 200));
  const fastest = best(off);
  print('  drover, journal off', fastest, `${(fastest.perSecond / naive.perSecond).toFixed(1)} × naive`);
  const singleMs = Math.min(...off.map((each) => each.singleMs));
  console.log(
    `  ${`a new service of one task`.padEnd(32)}${singleMs.toFixed(2).padStart(9)} ms from its write to ASSIGNED (median; 1 ms of it a timer)`,
  );
  if (size.tasks > 100_000) {
    console.log(`  resident at the end: ${whole(process.memoryUsage.rss() / 1e6)} MB`);
    return;
  }
  const memory = [];
  for (let i = 0; i < runs; i++) memory.push(await place(size, new MemoryJournal()));
  print('  drover, journal in memory', best(memory));
  print('  drover, journal sqlite', await withSqlite((journal) => place(size, journal)));
}

const load = () => loadavg()[0]!.toFixed(1);
console.log(`scheduler; load of the machine before: ${load()}`);
// The large one first: its memory is not to be mistaken for that of the others.
if (process.argv.includes('--large')) await compare({ nodes: 100_000, tasks: 1_000_000, services: 100 }, 1);
await compare({ nodes: 1000, tasks: 100_000, services: 10 }, 3);
console.log(`load after: ${load()}`);
