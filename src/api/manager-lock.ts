/** Locked managers (`--autolock`): which unlock key a cluster has after an update, and Docker's words for those who unlock. */
import type { Cluster } from '../model/objects.ts';
import type { SwarmSpec } from '../model/specs.ts';
import { createUnlockKey, InvalidUnlockKey, parseUnlockKey } from '../pki/unlock-key.ts';
import { ApiError, badRequest, conflict, unavailable } from './errors.ts';

/** The unlock key of a cluster under `spec`: none, the one it has, or a new one. As in Docker, rotating none does nothing. */
export function nextUnlockKey(
  old: Pick<Cluster, 'unlockKey'>,
  spec: Pick<SwarmSpec, 'EncryptionConfig'>,
  { rotate, randomBytes }: { rotate: boolean; randomBytes: (size: number) => Buffer },
): string | undefined {
  if (!spec.EncryptionConfig.AutoLockManagers) return undefined;
  return rotate || old.unlockKey === undefined ? createUnlockKey(randomBytes) : old.unlockKey;
}

/** The bytes of an unlock key that a user typed. @throws ApiError 400 */
export function unlockKeyBytes(text: string): Buffer {
  try {
    return parseUnlockKey(text);
  } catch (error) {
    throw error instanceof InvalidUnlockKey ? badRequest(error.message) : error;
  }
}

/** Unlocking with another key than the manager was locked with. */
export function wrongUnlockKey(): ApiError {
  return new ApiError(401, 'swarm could not be unlocked: invalid key provided');
}

/** Unlocking what is not locked. */
export function notLocked(): ApiError {
  return conflict('swarm is not locked');
}

/** Leaving, without force, while locked: what is lost by it cannot be said. */
export function lockedLeaveRefusal(): ApiError {
  return unavailable('Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.');
}

/** What an update is answered whose new lock could not be brought to this manager's disk; `trouble` in words, '' for none. */
export function lockFailure(trouble: string): ApiError | undefined {
  if (trouble === '') return undefined;
  return unavailable(
    `The swarm was updated, but this manager is still locked as before: ${trouble}. It goes on trying.`,
  );
}
