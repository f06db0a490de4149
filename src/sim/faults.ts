/**
 * What goes wrong in a run, from its seed: when, to whom and for how long. A plan is a list, so that a failing run can be tried
 * again without some of it. Every fault ends by itself.
 */
import type { Chance } from './seeded.ts';

export type Fault =
  | { kind: 'manager killed' | 'manager stopped' | 'manager paused' | 'manager without power'; target: number }
  | { kind: 'disk full' | 'disk failing' | 'disk slow'; target: number }
  | { kind: 'node killed' | 'node stopped' | 'node paused' | 'node without power'; target: number }
  | { kind: 'engine away' | 'engine troubled' | 'container dies'; target: number }
  | { kind: 'clock jumps'; target: number; byMs: number }
  | { kind: 'cut off' | 'cut one way'; target: number }
  | { kind: 'connections reset' | 'network slow'; target: number }
  | { kind: (typeof JOURNAL_KINDS)[number]; target: number };

/** What befalls a shared journal, or one manager's way to it. */
const JOURNAL_KINDS = [
  'journal without quorum',
  'journal compacted',
  'journal late',
  'journal answers lost',
  'journal cut off',
] as const;
const JOURNAL = { share: 0.35, leastMs: 200, mostMs: 12_000 };

export type PlannedFault = Fault & { atMs: number; forMs: number };

/** Kinds and how often each, least and greatest length in milliseconds. */
const KINDS: readonly [
  Exclude<Fault['kind'], 'clock jumps' | (typeof JOURNAL_KINDS)[number]>,
  number,
  number,
  number,
][] = [
  ['manager killed', 6, 100, 6_000],
  ['manager stopped', 3, 100, 6_000],
  ['manager paused', 4, 200, 15_000],
  ['manager without power', 3, 1_000, 15_000],
  ['disk full', 2, 500, 8_000],
  ['disk failing', 2, 0, 0],
  ['disk slow', 2, 500, 8_000],
  ['node killed', 5, 100, 15_000],
  ['node stopped', 3, 100, 15_000],
  ['node paused', 4, 200, 20_000],
  ['node without power', 4, 2_000, 40_000],
  ['engine away', 3, 200, 20_000],
  ['engine troubled', 5, 1_000, 15_000],
  ['container dies', 8, 0, 0],
  ['cut off', 6, 200, 25_000],
  ['cut one way', 4, 200, 20_000],
  ['connections reset', 5, 0, 0],
  ['network slow', 2, 500, 10_000],
];

/** Faults that begin in [`fromMs`, `untilMs`) and end by `untilMs`. `shared`: the managers share a journal. */
export function planFaults(
  chance: Chance,
  { fromMs, untilMs, count, shared }: { fromMs: number; untilMs: number; count: number; shared: boolean },
): PlannedFault[] {
  const plan: PlannedFault[] = [];
  for (let i = 0; i < count; i++) {
    const atMs = Math.round(chance.between(fromMs, untilMs));
    const target = chance.whole(0, 1_000);
    const lasting = (leastMs: number, mostMs: number) =>
      Math.min(untilMs - atMs, Math.round(chance.between(leastMs, mostMs) * chance.random()));
    if (chance.happens(0.06)) {
      const byMs = Math.round(chance.between(-1, 1) * chance.pick([500, 10_000, 3_600_000]));
      plan.push({ kind: 'clock jumps', target, byMs, atMs, forMs: 0 });
    } else if (shared && chance.happens(JOURNAL.share)) {
      plan.push({ kind: chance.pick(JOURNAL_KINDS), target, atMs, forMs: lasting(JOURNAL.leastMs, JOURNAL.mostMs) });
    } else {
      const [kind, , leastMs, mostMs] = pickKind(chance, shared);
      plan.push({ kind, target, atMs, forMs: lasting(leastMs, mostMs) });
    }
  }
  return plan.sort((a, b) => a.atMs - b.atMs);
}

/** With a shared journal no manager has a disk of its own. */
function pickKind(chance: Chance, shared: boolean): (typeof KINDS)[number] {
  const kinds = shared ? KINDS.filter(([kind]) => !kind.startsWith('disk')) : KINDS;
  let at = chance.random() * kinds.reduce((sum, [, weight]) => sum + weight, 0);
  return kinds.find(([, weight]) => (at -= weight) < 0) ?? kinds[0]!;
}

/** A fault in words. */
export function faultText(fault: PlannedFault): string {
  const more = fault.kind === 'clock jumps' ? ` by ${fault.byMs} ms` : '';
  return `${fault.kind}${more} (target ${fault.target}) for ${fault.forMs} ms`;
}
