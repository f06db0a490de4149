/**
 * Generic resources (GPUs, licences …): what a node offers is an amount of a kind or named things of it, what a service
 * reserves is an amount, and what a task gets is a share of the amount or things by name. Pure. Rules: SwarmKit's.
 */
import type { GenericResource } from '../../model/specs.ts';

/** An amount of one kind, at least 1. */
export interface Demand {
  kind: string;
  amount: number;
}

/** `kind` → the amount in use; `kind=name` → how many tasks have that thing, which is one unless rows disagree. */
export type GenericUsage = ReadonlyMap<string, number>;

/** What a list of reservations comes to by kind. A reservation by name, which the API refuses, asks for one of its kind. */
export function demandsOf(reserved: readonly GenericResource[]): Demand[] {
  const byKind = new Map<string, number>();
  for (const { DiscreteResourceSpec: discrete, NamedResourceSpec: named } of reserved) {
    const kind = discrete?.Kind ?? named?.Kind;
    const amount = discrete?.Value ?? 1;
    if (kind !== undefined && amount > 0) byKind.set(kind, (byKind.get(kind) ?? 0) + amount);
  }
  return [...byKind].map(([kind, amount]) => ({ kind, amount }));
}

/** True if the node's `offered` has all of `wanted` left. */
export function hasEnough(wanted: readonly Demand[], offered: readonly GenericResource[], used: GenericUsage): boolean {
  return wanted.every(({ kind, amount }) => {
    const names = freeNames(kind, offered, used);
    return amount <= (names.length > 0 ? names.length : freeAmount(kind, offered, used));
  });
}

/** The task's own part of what the node offers; `wanted` must fit. Things go by the order in which the node names them. */
export function claim(
  wanted: readonly Demand[],
  offered: readonly GenericResource[],
  used: GenericUsage,
): GenericResource[] {
  return wanted.flatMap(({ kind: Kind, amount }): GenericResource[] => {
    const names = freeNames(Kind, offered, used).slice(0, amount);
    if (names.length === 0) return [{ DiscreteResourceSpec: { Kind, Value: amount } }];
    return names.map((Value) => ({ NamedResourceSpec: { Kind, Value } }));
  });
}

/** The entries of GenericUsage that a task's resources make up. */
export function usageOf(assigned: readonly GenericResource[]): [key: string, amount: number][] {
  return assigned.flatMap(({ DiscreteResourceSpec: discrete, NamedResourceSpec: named }): [string, number][] => {
    if (named !== undefined) return [[nameKey(named.Kind, named.Value), 1]];
    return discrete === undefined ? [] : [[discrete.Kind, discrete.Value]];
  });
}

/** True if the node still has, beside what is `used`, all that a task was given. */
export function stillOffered(
  assigned: readonly GenericResource[],
  offered: readonly GenericResource[],
  used: GenericUsage,
): boolean {
  return assigned.every(({ DiscreteResourceSpec: discrete, NamedResourceSpec: named }) => {
    if (named !== undefined) return freeNames(named.Kind, offered, used).includes(named.Value);
    return discrete === undefined || discrete.Value <= freeAmount(discrete.Kind, offered, used);
  });
}

function freeNames(kind: string, offered: readonly GenericResource[], used: GenericUsage): string[] {
  const names = offered.flatMap(({ NamedResourceSpec: named }) => (named?.Kind === kind ? [named.Value] : []));
  return [...new Set(names)].filter((name) => !used.has(nameKey(kind, name)));
}

function freeAmount(kind: string, offered: readonly GenericResource[], used: GenericUsage): number {
  const total = offered.reduce(
    (sum, { DiscreteResourceSpec: discrete }) => sum + (discrete?.Kind === kind ? discrete.Value : 0),
    0,
  );
  return total - (used.get(kind) ?? 0);
}

function nameKey(kind: string, name: string): string {
  return `${kind}=${name}`;
}
