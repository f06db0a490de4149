/**
 * What the API answers when it does not do what was asked: a status and Docker's own sentence, word for word
 * (decisions-and-traps.md 3). Clients match on both.
 */
import { DockerError, EngineUnreachable } from '../docker/errors.ts';

/** Docker's sentence for a swarm that takes no writes now. */
export const NO_LEADER =
  "The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online.";

/** An answer other than success. `message` is for the user; `status` is the HTTP status. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export function badRequest(message: string): ApiError {
  return new ApiError(400, message);
}

export function notFound(kind: string, reference: string): ApiError {
  return new ApiError(404, `${kind} ${reference} not found`);
}

export function conflict(message: string): ApiError {
  return new ApiError(409, message);
}

/** What a later version brings: the sentence says what cannot be done and, if possible, what to do meanwhile. */
export function notBuilt(message: string): ApiError {
  return new ApiError(501, message);
}

export function unavailable(message: string): ApiError {
  return new ApiError(503, message);
}

/** The status and sentence for whatever a handler threw; `unexpected` errors are ours and belong in the log. */
export function answerFor(error: unknown): { status: number; message: string; unexpected: boolean } {
  if (error instanceof ApiError || error instanceof DockerError) {
    return { status: error.status, message: error.message, unexpected: false };
  }
  if (error instanceof EngineUnreachable) return { status: 503, message: error.message, unexpected: false };
  if (!(error instanceof Error)) return { status: 500, message: String(error), unexpected: true };
  if (error.name === 'NotLeading') return { status: 503, message: NO_LEADER, unexpected: false };
  if (error.name === 'InDoubt')
    return {
      status: 503,
      message: `It is not known whether this change was made: ${error.message}`,
      unexpected: false,
    };
  if (error.name === 'JournalUnavailable' || error.name === 'StoreClosed') {
    return { status: 503, message: `The cluster's state cannot be written now: ${error.message}`, unexpected: false };
  }
  // What fastify calls a media type that is none: to Docker's clients, a request like any other that is not understood.
  if ('code' in error && error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE')
    return { status: 400, message: `${error.message}: must be 'application/json'`, unexpected: false };
  const status = 'statusCode' in error && typeof error.statusCode === 'number' ? error.statusCode : 500;
  return { status, message: error.message, unexpected: status >= 500 };
}
