/** Tells systemd that the daemon serves, where systemd has started it and wants to know (`Type=notify`). */
import { execFile } from 'node:child_process';
import type { Log } from '../model/clock.ts';

/** Node has no datagram sockets on paths, so systemd's own program says it. Without systemd, nothing is done. */
export function tellSystemd(env: NodeJS.ProcessEnv, log: Log): void {
  if (env['NOTIFY_SOCKET'] === undefined) return;
  execFile('systemd-notify', ['--ready'], { env }, (error) => {
    if (error !== null) log.error({ err: error }, 'systemd could not be told that droverd serves');
  });
}
