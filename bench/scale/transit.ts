/**
 * Frames on their way to agents, copied outside the JavaScript heap, as a TLS library and a kernel take them at once: kept as
 * buffers of the manager under test, all that is under way in a tick would count against its heap's limits, and have all of
 * the heap marked over and over.
 */
import { offHeap } from './off-heap.ts';

const SLAB_BYTES = 16 * 1024 * 1024;

/** Where a frame lies. */
export interface Place {
  slab: Buffer;
  start: number;
  end: number;
}

export class Transit {
  readonly #slabs: Buffer[] = [];
  #filled = 0;
  #usedBytes = 0;

  put(frame: Buffer): Place {
    if (frame.length > SLAB_BYTES) throw new Error('a frame that is larger than any this bench was made for');
    if (this.#usedBytes + frame.length > SLAB_BYTES) {
      this.#filled += 1;
      this.#usedBytes = 0;
    }
    const slab = (this.#slabs[this.#filled] ??= offHeap(SLAB_BYTES));
    const start = this.#usedBytes;
    this.#usedBytes += frame.copy(slab, start);
    return { slab, start, end: this.#usedBytes };
  }

  /** All that was put has been read, or will never be. */
  clear(): void {
    this.#filled = 0;
    this.#usedBytes = 0;
  }
}
