/** What can go wrong with an engine: it said no (DockerError), or it could not be asked (EngineUnreachable). */

/** The engine answered with an error status; `message` is its own sentence. */
export class DockerError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = 'DockerError';
    this.status = status;
  }
}

/** No complete answer came: no connection, a connection lost in the middle, or a deadline passed. */
export class EngineUnreachable extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'EngineUnreachable';
  }
}

/** True if `error` is the engine's answer with one of these statuses. */
export function hasStatus(error: unknown, ...statuses: number[]): boolean {
  return error instanceof DockerError && statuses.includes(error.status);
}
