/**
 * The addresses of one subnet as a bitmap. Promises: `take` never gives what is in use, nor the subnet's first and
 * last address, nor what is reserved; it goes round, so that an address just released is not given out at once.
 */
import { subnetContains, subnetSize, type Subnet } from '../../model/addresses.ts';

export class AddressPool {
  /** How many addresses it can give in all. */
  readonly capacity: number;
  readonly #first: number;
  readonly #size: number;
  /** A set bit: in use, or never to be given. Bits beyond the range are set. */
  readonly #words: Uint32Array;
  readonly #never: Uint32Array;
  readonly #subnet: Subnet;
  /** First, last and reserved addresses of the subnet: nobody's. */
  readonly #reserved: ReadonlySet<number>;
  /** Addresses of the subnet outside the range that somebody has asked for and got. */
  readonly #beyond = new Set<number>();
  #free: number;
  #cursor = 0;

  /** Gives addresses of `range`, which lies in `subnet`, but none of `reserved`. Addresses are unsigned 32-bit numbers. */
  constructor(subnet: Subnet, range: Subnet = subnet, reserved: readonly number[] = []) {
    this.#subnet = subnet;
    this.#reserved = new Set([subnet.base, subnet.base + subnetSize(subnet) - 1, ...reserved]);
    this.#first = range.base;
    this.#size = subnetSize(range);
    this.#free = this.#size;
    this.#words = new Uint32Array(Math.ceil(this.#size / 32));
    for (let bit = this.#size; bit < this.#words.length * 32; bit++) this.#set(bit);
    for (const address of this.#reserved) {
      const bit = this.#bitOf(address);
      if (bit === undefined || this.#isSet(bit)) continue;
      this.#set(bit);
      this.#free -= 1;
    }
    this.#never = this.#words.slice();
    this.capacity = this.#free;
  }

  /** How many it can still give. */
  get free(): number {
    return this.#free;
  }

  /** The next free address, now in use; undefined if there is none. */
  take(): number | undefined {
    if (this.#free === 0) return undefined;
    const bit = this.#nextFree(this.#cursor) ?? this.#nextFree(0);
    if (bit === undefined) throw new Error(`an address pool counts ${this.#free} free addresses but has none`);
    const address = this.#first + bit;
    this.claim(address);
    return address;
  }

  /** True if somebody who asks for this very address may have it: also outside the range, which is what ranges are for. */
  isFree(address: number): boolean {
    if (!subnetContains(this.#subnet, address) || this.#reserved.has(address)) return false;
    const bit = this.#bitOf(address);
    return bit === undefined ? !this.#beyond.has(address) : !this.#isSet(bit);
  }

  /** Marks an address as in use; it may be already. What is nobody's is passed over. */
  claim(address: number): void {
    const bit = this.#bitOf(address);
    if (bit === undefined && this.isFree(address)) this.#beyond.add(address);
    if (bit === undefined || this.#isSet(bit)) return;
    this.#set(bit);
    this.#free -= 1;
    this.goOnAfter(address);
  }

  /** The next address to be given is one after this, which was the last that was given. */
  goOnAfter(address: number): void {
    const bit = this.#bitOf(address);
    if (bit !== undefined) this.#cursor = (bit + 1) % this.#size;
  }

  /** Makes an address free again. What is nobody's is passed over. */
  release(address: number): void {
    this.#beyond.delete(address);
    const bit = this.#bitOf(address);
    if (bit === undefined || !this.#isSet(bit) || (this.#never[bit >>> 5]! >>> (bit & 31)) & 1) return;
    this.#words[bit >>> 5]! &= ~(1 << (bit & 31));
    this.#free += 1;
  }

  /** The addresses in use, in order: what tells two pools apart, but for where they go on. */
  inUse(): number[] {
    const used: number[] = [];
    for (let bit = 0; bit < this.#size; bit++) {
      if (this.#isSet(bit) && !((this.#never[bit >>> 5]! >>> (bit & 31)) & 1)) used.push(this.#first + bit);
    }
    return [...used, ...this.#beyond].sort((a, b) => a - b);
  }

  #bitOf(address: number): number | undefined {
    const bit = address - this.#first;
    return bit >= 0 && bit < this.#size ? bit : undefined;
  }

  #isSet(bit: number): boolean {
    return ((this.#words[bit >>> 5]! >>> (bit & 31)) & 1) === 1;
  }

  #set(bit: number): void {
    this.#words[bit >>> 5]! |= 1 << (bit & 31);
  }

  #nextFree(from: number): number | undefined {
    // Of the first word only what lies at or above `from` counts; then whole words, full ones skipped.
    let mask = (-1 << (from & 31)) >>> 0;
    for (let word = from >>> 5; word < this.#words.length; word++, mask = 0xffffffff) {
      const open = (~this.#words[word]! & mask) >>> 0;
      if (open !== 0) return word * 32 + 31 - Math.clz32(open & -open);
    }
    return undefined;
  }
}
