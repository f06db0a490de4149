/** How a command reaches the cluster: like `docker`, through `--host` or DOCKER_HOST; else through the local droverd's socket. */
import { DockerClient } from '../docker/client.ts';
import type { Flag, Flags } from './command.ts';
import { UsageError } from './command.ts';

const DEFAULT_HOST = 'unix:///run/drover/drover.sock';

/** Every command that talks to the cluster has it. */
export const HOST_FLAG: Record<'host', Flag> = {
  host: { value: 'string', help: `Address of a manager's droverd (default: DOCKER_HOST, else ${DEFAULT_HOST})` },
};

/** A client of the droverd that the flags or the environment name. @throws UsageError if what they name is no address */
export function connect(flags: Flags, env: NodeJS.ProcessEnv = process.env): DockerClient {
  const address = flags.text('host') || env['DOCKER_HOST'] || DEFAULT_HOST;
  try {
    return new DockerClient(address);
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}
