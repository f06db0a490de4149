/** Files that hold keys, tokens or credentials: for their owner alone, from their first moment on. */
import { chmodSync, closeSync, openSync } from 'node:fs';

const PRIVATE = 0o600;

/** Makes the file if it is not there, and takes it away from everybody else. What SQLite puts beside it gets its mode. */
export function keepPrivate(path: string): void {
  closeSync(openSync(path, 'a', PRIVATE));
  chmodSync(path, PRIVATE);
}
