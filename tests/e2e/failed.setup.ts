/** When a test has failed: what the daemons of the labs said last, for a lab is gone when its failure is read. */
import { beforeEach } from 'vitest';
import { logOf } from '../../src/lab/daemons.ts';
import { logTail } from '../../src/lab/host.ts';
import { listLabs } from '../../src/lab/lab.ts';

const LINES = 8;
/** Of a line: stacks are not what is looked for. */
const WIDTH = 300;

beforeEach(({ onTestFailed }) => {
  onTestFailed(async () => {
    for (const host of (await listLabs()).flatMap((lab) => lab.hosts)) {
      const lines = (await logTail(logOf(host, 'droverd'), LINES)).split('\n').map((line) => line.slice(0, WIDTH));
      console.error([`droverd of ${host.lab} ${host.name} said last:`, ...lines].join('\n'));
    }
  });
});
