/**
 * Making images present (decisions-and-traps.md 12): a digest that is here is never pulled; a tag is pulled if its
 * registry answers; a registry that failed is left alone for a minute where there is an image to use without it.
 * Tasks that want the same image with the same credentials at the same time share one pull.
 */
import { EngineUnreachable, hasStatus } from '../docker/client.ts';
import type { DockerClient } from '../docker/client.ts';
import { jsonLines } from '../docker/json-lines.ts';
import type { PullProgress } from '../docker/types.ts';
import type { Clock, Log } from '../model/clock.ts';
import type { PullOptions } from './engine.ts';
import { parseImageRef } from './image-ref.ts';
import type { ImageRef } from './image-ref.ts';

const REMEMBER_FAILURE_MS = 60_000;
/** How long a registry may take to begin its answer when an image is here to fall back on. */
const ANSWER_WITHIN_MS = 3_000;
/** Looking for an image here asks nobody else. */
const LOOK_TIMEOUT_MS = 60_000;
/** A pull that makes no progress for so long has died. */
const PULL_SILENCE_MS = 120_000;
/** How the engine words that a registry gives nothing to anybody now, as against an answer that refuses this image. */
const OUT_OF_SERVICE =
  /toomanyrequests|unexpected HTTP status: 5\d\d|dial tcp|no such host|timeout|timed out|connection re(fused|set)|request canceled|server misbehaving|no route to host|network is unreachable|\bEOF\b/i;

/** An image by its own id, which no registry knows. */
const IMAGE_ID = /^sha256:[0-9a-f]{64}$/;

/** The registry could not be asked, or has troubles of its own. */
class RegistryAway extends Error {}

export class Images {
  readonly #client: DockerClient;
  readonly #clock: Clock;
  readonly #log: Log;
  /** By reference and credentials: pulls under way. */
  readonly #pulls = new Map<string, Promise<void>>();
  /** By registry: when (monotonic) it failed last, and for whom: other credentials may have another fate. */
  readonly #failures = new Map<string, { at: number; registryAuth: string | undefined }>();

  constructor(client: DockerClient, clock: Clock, log: Log) {
    this.#client = client;
    this.#clock = clock;
    this.#log = log;
  }

  /**
   * Settles once the image is here. Ending the wait by `signal` leaves a shared pull running for the others.
   * @throws Error `No such image: …` with the reason in words
   */
  async ensure(image: string, { registryAuth, signal }: PullOptions = {}): Promise<void> {
    const key = `${image} ${registryAuth ?? ''}`;
    let pull = this.#pulls.get(key);
    if (pull === undefined) {
      pull = this.#ensure(parseImageRef(image), image, registryAuth).finally(() => this.#pulls.delete(key));
      this.#pulls.set(key, pull);
    }
    await abortable(pull, signal);
  }

  async #ensure(ref: ImageRef, image: string, registryAuth: string | undefined): Promise<void> {
    const present = await this.#present(ref);
    if (IMAGE_ID.test(image)) {
      if (present) return;
      throw new Error(`No such image: ${image}`);
    }
    if (present && (ref.digest !== undefined || this.#failedLately(ref.registry, registryAuth))) return;
    try {
      await this.#pull(ref, registryAuth, present);
      this.#failures.delete(ref.registry);
    } catch (error) {
      if (error instanceof EngineUnreachable) throw error;
      if (error instanceof RegistryAway) {
        this.#failures.set(ref.registry, { at: this.#clock.monotonic(), registryAuth });
      }
      const reason = error instanceof Error ? error.message : String(error);
      // Somebody may have brought it meanwhile, by `docker load` or a build.
      if (!present && !(await this.#present(ref)))
        throw new Error(`No such image: ${image} (${reason})`, { cause: error });
      this.#log.warn({ image, reason }, 'could not pull, using the image that is here');
    }
  }

  #failedLately(registry: string, registryAuth: string | undefined): boolean {
    const failure = this.#failures.get(registry);
    if (failure === undefined || failure.registryAuth !== registryAuth) return false;
    return this.#clock.monotonic() - failure.at < REMEMBER_FAILURE_MS;
  }

  async #present(ref: ImageRef): Promise<boolean> {
    const reference = ref.digest === undefined ? `${ref.name}:${ref.tag}` : `${ref.name}@${ref.digest}`;
    try {
      await this.#client.request('GET', `/images/${reference}/json`, { timeoutMs: LOOK_TIMEOUT_MS });
      return true;
    } catch (error) {
      if (hasStatus(error, 404)) return false;
      throw error;
    }
  }

  async #pull(ref: ImageRef, registryAuth: string | undefined, hasFallback: boolean): Promise<void> {
    const giveUp = new AbortController();
    const noAnswer = new RegistryAway(`${ref.registry} did not answer within ${ANSWER_WITHIN_MS} ms`);
    const timer = hasFallback ? this.#clock.after(ANSWER_WITHIN_MS, () => giveUp.abort(noAnswer)) : undefined;
    try {
      const progress = await this.#client.stream('POST', '/images/create', {
        query: { fromImage: ref.name, tag: ref.digest ?? ref.tag },
        ...(registryAuth === undefined ? {} : { headers: { 'X-Registry-Auth': registryAuth } }),
        signal: giveUp.signal,
        idleTimeoutMs: PULL_SILENCE_MS,
      });
      for await (const line of jsonLines<PullProgress>(progress)) {
        timer?.cancel();
        if (line.error !== undefined) throw pullError(line.error);
      }
    } catch (error) {
      if (giveUp.signal.aborted) throw noAnswer;
      // The engine reports a registry's failure with a status, or in the stream: either way by its words.
      if (error instanceof EngineUnreachable || !(error instanceof Error)) throw error;
      throw pullError(error.message);
    } finally {
      timer?.cancel();
    }
  }
}

function pullError(message: string): Error {
  return OUT_OF_SERVICE.test(message) ? new RegistryAway(message) : new Error(message);
}

/** `promise`, or the signal's reason if that comes first; the promise goes on. */
function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
