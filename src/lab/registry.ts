/** The lab's registry: Debian's docker-registry on the outer machine's address of the lab's bridge. */
import { mkdir, writeFile } from 'node:fs/promises';
import { get } from 'node:http';
import { join } from 'node:path';
import { logTail, raiseBridge } from './host.ts';
import type { Lab } from './lab.ts';
import { findProcess, startInBackground, stop, waitUntil } from './processes.ts';
import type { ProcessId } from './processes.ts';

const READY_MS = 20_000;
const STOP_MS = 10_000;

function pidFile(lab: Lab): string {
  return join(lab.dir, 'registry.stat');
}

export async function findRegistry(lab: Lab): Promise<ProcessId | undefined> {
  return findProcess(pidFile(lab));
}

/** Starts the registry unless it runs, and resolves with its `address:port` when it answers. */
export async function startRegistry(lab: Lab): Promise<string> {
  await raiseBridge(lab);
  const log = join(lab.dir, 'registry.log');
  if ((await findRegistry(lab)) === undefined) {
    const storage = join(lab.dir, 'registry');
    await mkdir(storage, { recursive: true });
    const config = {
      version: 0.1,
      log: { level: 'warn' },
      storage: {
        filesystem: { rootdirectory: storage },
        delete: { enabled: true },
        cache: { blobdescriptor: 'inmemory' },
      },
      http: { addr: lab.registry },
    };
    const configFile = join(lab.dir, 'registry.yml');
    // JSON is YAML.
    await writeFile(configFile, JSON.stringify(config, null, 2));
    await startInBackground({ command: ['docker-registry', 'serve', configFile], pidFile: pidFile(lab), log });
  }
  await waitUntil(
    async () => (await statusOf(`http://${lab.registry}/v2/`)) === 200,
    READY_MS,
    async () => `the registry did not answer; its log (${log}) ends with:\n${await logTail(log)}`,
  );
  return lab.registry;
}

export async function stopRegistry(lab: Lab): Promise<void> {
  const running = await findRegistry(lab);
  if (running !== undefined) await stop(running, 'SIGKILL', STOP_MS);
}

/** True if the registry has that image (`name:tag`). */
export async function hasImage(lab: Lab, reference: string): Promise<boolean> {
  const [name, tag] = reference.split(':');
  return (await statusOf(`http://${lab.registry}/v2/${name ?? ''}/manifests/${tag ?? 'latest'}`)) === 200;
}

/** Status of a GET, or undefined when nothing answers. */
async function statusOf(url: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const accept = 'application/vnd.docker.distribution.manifest.v2+json';
    const outgoing = get(url, { headers: { accept }, agent: false, timeout: 2_000 }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    outgoing.once('timeout', () => outgoing.destroy());
    outgoing.once('error', () => resolve(undefined));
  });
}
