/** Which boot of the host this is: two runs of the daemon see the same value exactly if the host stayed up between them. */
import { readFile } from 'node:fs/promises';

/** Field 22 of /proc/PID/stat, counted from behind the parenthesised name. */
const START_TIME_AFTER_NAME = 19;

/** The kernel's boot and the start of its first process, which tells the hosts of a lab apart as well. */
export async function readBootId(proc = '/proc'): Promise<string> {
  const bootId = (await readFile(`${proc}/sys/kernel/random/boot_id`, 'utf8')).trim();
  const stat = await readFile(`${proc}/1/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return `${bootId}/${fields[START_TIME_AFTER_NAME] ?? ''}`;
}
