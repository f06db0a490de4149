/** Names for services that their users did not name, as Docker gives them: two words, easy to say and to type. */
import type { Random } from './clock.ts';

const HOW = words(
  'able brave brisk calm clever early fair fleet gentle glad hardy keen kind lucky mild nimble ' +
    'patient plain proud quick quiet ready sober steady stout strong sunny swift tall tidy warm wise',
);
const WHO = words(
  'alpaca bison bull calf camel cattle colt donkey ewe filly foal goat goose heifer herd horse lamb ' +
    'llama mare mule ox pony ram reindeer sheep sheepdog stallion steer turkey wether yak yearling',
);

function words(text: string): string[] {
  return text.split(' ');
}

/** So many tries before a number is put behind: with a thousand names, most are free in most clusters. */
const TRIES = 20;

/** A name that `isTaken` says no to, valid as a name in DNS. */
export function newServiceName(random: Random, isTaken: (name: string) => boolean): string {
  const pick = (words: readonly string[]): string => words[Math.floor(random() * words.length)] ?? '';
  for (let tried = 0; ; tried++) {
    const name = `${pick(HOW)}-${pick(WHO)}${tried < TRIES ? '' : `-${tried}`}`;
    if (!isTaken(name)) return name;
  }
}
