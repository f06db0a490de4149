/** Object identifiers as Docker Swarm's users know them: 25 characters of [0-9a-z], about 129 random bits. */
import type { Random } from './clock.ts';

const LENGTH = 25;
const ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz';

/** A new identifier. Collisions are as likely as two equal 129-bit random numbers if `random` is uniform. */
export function newId(random: Random): string {
  let id = '';
  for (let i = 0; i < LENGTH; i++) id += ALPHABET[Math.floor(random() * ALPHABET.length)];
  return id;
}
