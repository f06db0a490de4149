/** Moving tasks to even out services over nodes: what users say of it in labels, and what they are told. Pure. */
import type { Labels } from './specs.ts';

/** `auto`: whenever a node joins or comes back. `off`: not even when somebody asks for it. Absent: when asked for. */
export const REBALANCE_LABEL = 'drover.rebalance';

export function parseRebalance(text: string): 'auto' | 'off' | undefined {
  return text === 'auto' || text === 'off' ? text : undefined;
}

export function rebalancePolicy(labels: Labels): 'auto' | 'off' | 'asked' {
  return parseRebalance(labels[REBALANCE_LABEL] ?? '') ?? 'asked';
}

/** One task that is to run elsewhere. */
export interface Move {
  serviceId: string;
  slot: number;
  /** The task that goes when the new one has arrived. */
  taskId: string;
  /** Node ids. */
  from: string;
  to: string;
}

export interface RebalancePlan {
  moves: Move[];
  /** Services that are left alone although they are uneven or may be, and why. */
  skipped: { serviceId: string; reason: string }[];
}

/** How far a rebalance is. */
export interface RebalanceState {
  /** The `rebalanceAsked.id` this is about; 0: nobody has asked yet. */
  asked: number;
  /** What was asked for has been done, as far as it can be. Services with `auto` may be evened all the same. */
  finished: boolean;
  /** The move under way: the task that takes over, and when it was made (RFC 3339). */
  move?: Move & { nextId: string; startedAt: string };
  /** What has been moved since it was asked for: the last ones. */
  moved: Move[];
  /** Service id → why it is left alone this time. */
  skipped: Record<string, string>;
}
