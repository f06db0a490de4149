/**
 * How the control plane grows: 1,000, 10,000 and 50,000 simulated nodes with 10 and 20 tasks each, through the life of a cluster
 * (bench/scale/phases.ts), each size in a process of its own. Prints the table and writes it into docs/scale.md.
 *
 *   node bench/scale.bench.ts [--sizes 1000x10,50000x20] [--phases 'nodes join,create,new leader']
 *     --sizes: only these; the rows of other sizes stay as they are. --phases: only these of them.
 *
 * All sizes take about an hour and, for the largest, 10 GB.
 */
import { spawn } from 'node:child_process';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { row, sectionOf, whole, writeSection } from './scale/page.ts';
import type { Figures } from './scale/phases.ts';

const ALL = '1000x10,1000x20,10000x10,10000x20,50000x10,50000x20';
/**
 * What a manager of a large cluster is given: room for the state, and for young objects; and buffers are a part of what the heap
 * may grow to. Else V8 marks all of it whenever there are 64 MB more of them, and frames that outlive a scavenge make that often.
 * One thread scavenges: several cost more CPU together, and no less time where the cores are two.
 */
const NODE_OPTIONS = [
  '--max-old-space-size=14000',
  '--max-semi-space-size=128',
  '--external-memory-accounted-in-global-limit',
  '--no-parallel-scavenge',
  '--expose-gc',
];
/** … and how far the heap grows before all of it is marked for the first time, so that this is not done over and over on the way. */
const FIRST_MARKED_AT = { bytesPerTask: 2_000, bytesPerNode: 20_000, leastMb: 300 };
const SECTION = 'scale';
const HEAD = [
  'nodes',
  'tasks',
  'phase',
  'control CPU, s',
  'µs per change',
  'changes',
  'facts told',
  'agents CPU, s',
  'simulated s',
  'peak RSS, GB',
  'peak heap, GB',
];

const { values } = parseArgs({ options: { sizes: { type: 'string', default: ALL }, phases: { type: 'string' } } });

async function measure(nodes: string, tasksPerNode: string): Promise<Figures[]> {
  const script = join(import.meta.dirname, 'scale/run.ts');
  const { bytesPerTask, bytesPerNode, leastMb } = FIRST_MARKED_AT;
  const stateMb = (Number(nodes) * (bytesPerNode + Number(tasksPerNode) * bytesPerTask)) / 1e6;
  const firstMb = Math.ceil(Math.max(leastMb, stateMb));
  const args = [
    ...NODE_OPTIONS,
    `--initial-old-space-size=${firstMb}`,
    script,
    '--nodes',
    nodes,
    '--tasks-per-node',
    tasksPerNode,
  ];
  if (values.phases !== undefined) args.push('--phases', values.phases);
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const figures: Figures[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    const figure = JSON.parse(line) as Figures;
    figures.push(figure);
    console.log(`${line} ${Math.round(figure.wallMs / 1000)} s`);
  }
  const code = await ended;
  if (code !== 0) throw new Error(`${nodes} nodes: the process ended with ${code}`);
  return figures;
}

function rowOf(figures: Figures, all: readonly Figures[]): string {
  // Heartbeats come by the clock and not by what changes: what they cost is measured idle, and taken out.
  const idle = all.find(({ phase }) => phase === 'idle');
  const beatsMs = idle === undefined ? 0 : (idle.controlCpuMs / idle.simulatedMs) * figures.simulatedMs;
  const perChange = (figures.controlCpuMs - beatsMs) / figures.changes;
  const gigabytes = (bytes: number) => (bytes / 1e9).toFixed(2);
  return row([
    whole(figures.nodes),
    whole(figures.tasks),
    figures.phase,
    (figures.controlCpuMs / 1000).toFixed(1),
    figures.changes === 0 ? '' : whole(perChange * 1000),
    whole(figures.changes),
    whole(figures.facts),
    (figures.agentCpuMs / 1000).toFixed(1),
    (figures.convergedMs / 1000).toFixed(1),
    gigabytes(figures.peakRssBytes),
    gigabytes(figures.peakHeapBytes),
  ]);
}

/** The rows of the page, the new ones in place of those of the same size, in order of size. */
function merged(rows: readonly string[]): string[] {
  const sizeOf = (line: string) =>
    line
      .split('|')
      .slice(1, 3)
      .map((cell) => Number(cell.replaceAll(',', '')));
  const fresh = new Set(rows.map((line) => sizeOf(line).join()));
  const kept = sectionOf(SECTION).filter((line) => /^\| \d/.test(line) && !fresh.has(sizeOf(line).join()));
  return [...kept, ...rows].sort((a, b) => sizeOf(a)[0]! - sizeOf(b)[0]! || sizeOf(a)[1]! - sizeOf(b)[1]!);
}

console.log(row(HEAD));
for (const size of values.sizes.split(',')) {
  const [nodes = '', tasksPerNode = ''] = size.split('x');
  const figures = await measure(nodes, tasksPerNode);
  const rows = merged(figures.map((each) => rowOf(each, figures)));
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.version}; load when the last size ended: ${loadavg()[0]!.toFixed(1)}`;
  writeSection(SECTION, [machine, '', row(HEAD), row(HEAD.map(() => '---')), ...rows]);
}
