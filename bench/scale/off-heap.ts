/**
 * Memory of what is not the manager under test. A buffer's own memory counts against the heap's limits although it lies outside
 * of it, and with every 64 MB of it all of the heap is marked; shared memory does not count.
 */
export function offHeap(bytes: number): Buffer {
  return Buffer.from(new SharedArrayBuffer(bytes));
}
