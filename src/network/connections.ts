/**
 * How many connections a task still serves, read from its namespace's own tables: two small files, no process. Pure but
 * for the reading.
 */
import { readFile } from 'node:fs/promises';

/** States in /proc/net/tcp, in hexadecimal, in which the server may still have something to say or to be acknowledged. */
const OPEN: ReadonlySet<string> = new Set([
  '01', // ESTABLISHED
  '03', // SYN_RECV
  '04', // FIN_WAIT1: closed here, not all of it is acknowledged
  '08', // CLOSE_WAIT: the client says no more, but may still read
  '09', // LAST_ACK
  '0B', // CLOSING
]);
const LISTEN = '0A';

/** Open connections to the listening ports of the namespace that this process is in. Rejects if the process is gone. */
export async function servedConnections(pid: number): Promise<number> {
  const tables = await Promise.all(['tcp', 'tcp6'].map((name) => readTable(`/proc/${pid}/net/${name}`)));
  return countServed(tables.join('\n'));
}

/** The same, of the text of the tables. Connections of the task with itself do not count: nobody outside waits for them. */
export function countServed(tables: string): number {
  const listening = new Set<string>();
  const open: string[] = [];
  for (const line of tables.split('\n')) {
    const [, local = '', remote = '', state = ''] = line.trim().split(/\s+/);
    if (state === LISTEN) listening.add(portOf(local));
    else if (OPEN.has(state) && !isOwn(addressOf(local), addressOf(remote))) open.push(portOf(local));
  }
  return open.filter((port) => listening.has(port)).length;
}

/** A kernel without IPv6 has no tcp6. */
async function readTable(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    if (isMissing && path.endsWith('6')) return '';
    throw error;
  }
}

/** A task that asks itself has its own address on both sides, or a loopback one. */
function isOwn(local: string, remote: string): boolean {
  return local === remote || LOOPBACK.test(remote);
}

/** 127.0.0.0/8, the same inside of IPv6, and ::1, as the kernel prints them: words of four octets in the host's order. */
const LOOPBACK = /^(?:0{16}F{4}0{4})?[0-9A-F]{6}7F$|^0{24}01000000$/;

function addressOf(end: string): string {
  return end.slice(0, end.indexOf(':'));
}

function portOf(end: string): string {
  return end.slice(end.indexOf(':') + 1);
}
