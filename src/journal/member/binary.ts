/** Finds the host's own `etcd` and says, before anything is changed, whether it will do. */
import { execFile } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';
import { promisify } from 'node:util';

/** The Debian package that brings it. */
export const ETCD_PACKAGE = 'etcd-server';
const OLDEST = [3, 4] as const;
const VERSION_TIMEOUT_MS = 10_000;

export interface EtcdBinary {
  path: string;
  /** Such as `3.4.23`. */
  version: string;
}

/** There is no etcd on this host that can be used; the message is for users and says what to install. */
export class EtcdUnusable extends Error {
  override readonly name = 'EtcdUnusable';
}

/** The first `etcd` in `searchPath` (as `$PATH`). Rejects with EtcdUnusable if there is none, or it is older than 3.4. */
export async function findEtcd(searchPath: string): Promise<EtcdBinary> {
  const path = await firstIn(searchPath);
  const install = `install the Debian package ${ETCD_PACKAGE} (3.4 or newer) on this host`;
  if (path === undefined)
    throw new EtcdUnusable(`several managers need etcd, and there is no etcd in PATH: ${install}`);
  const version = await versionOf(path);
  if (version === undefined)
    throw new EtcdUnusable(`several managers need etcd, and ${path} does not tell its version: ${install}`);
  if (!isNewEnough(version))
    throw new EtcdUnusable(`several managers need etcd 3.4 or newer, and ${path} is version ${version}: ${install}`);
  return { path, version };
}

/** Whether a version such as `3.4.23` will do. */
export function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1]);
}

async function firstIn(searchPath: string): Promise<string | undefined> {
  for (const folder of searchPath.split(delimiter)) {
    if (!isAbsolute(folder)) continue;
    const path = join(folder, 'etcd');
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}

/** Undefined if what it prints names none, or it does not run at all. */
async function versionOf(path: string): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)(path, ['--version'], { timeout: VERSION_TIMEOUT_MS, env: {} });
    return /^etcd Version: v?(\d+\.\d+\S*)/m.exec(stdout)?.[1];
  } catch {
    return undefined;
  }
}
