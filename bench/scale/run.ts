/**
 * One size in one process: `node bench/scale/run.ts --nodes N --tasks-per-node N [--networked]`. Prints one line of JSON for each
 * phase. Started by `bench/scale.bench.ts`, for a process that has held a large cluster says nothing true of a small one's memory.
 */
import { parseArgs } from 'node:util';
import { measureSize } from './phases.ts';

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '1000' },
    'tasks-per-node': { type: 'string', default: '10' },
    phases: { type: 'string' },
  },
});
await measureSize(
  { nodes: Number(values.nodes), tasksPerNode: Number(values['tasks-per-node']), phases: values.phases?.split(',') },
  (figures) => console.log(JSON.stringify(figures)),
);
process.exit(0);
