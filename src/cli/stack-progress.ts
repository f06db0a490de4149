/** How services of a stack come to what was asked of them: a line for each step, and at last whether all have arrived. */
import { setTimeout as pause } from 'node:timers/promises';
import type { DockerClient } from '../docker/client.ts';
import type { Output } from './command.ts';
import { servicesOf } from './compose/deploy.ts';

const POLL_MS = 500;
const NS_PER_MS = 1e6;
const DEFAULT_MONITOR_MS = 5_000;

interface ServiceAnswer {
  ID: string;
  Spec: {
    Name: string;
    Mode: {
      Replicated?: { Replicas?: number };
      ReplicatedJob?: { TotalCompletions?: number };
      Global?: object;
      GlobalJob?: object;
    };
    UpdateConfig?: { Monitor?: number };
  };
  UpdateStatus?: { State?: string; Message?: string };
}

interface TaskAnswer {
  Slot?: number;
  NodeID?: string;
  DesiredState: string;
  Status: { State: string; Message: string; Err?: string };
}

/**
 * What a service is at: `done` once it is where it should be, `waiting` once it is for a person to say how it goes on,
 * `failed` once it will not get there by itself.
 */
export interface Standing {
  words: string;
  outcome?: 'done' | 'waiting' | 'failed';
}

/** Pure. `tasks` are those of the present spec. */
export function standing({ Spec, UpdateStatus }: Omit<ServiceAnswer, 'ID'>, tasks: readonly TaskAnswer[]): Standing {
  const { Replicated, ReplicatedJob, GlobalJob } = Spec.Mode;
  const wanted = tasks.filter(({ DesiredState }) => ['ready', 'running', 'complete'].includes(DesiredState));
  if (ReplicatedJob !== undefined || GlobalJob !== undefined) {
    const total = ReplicatedJob?.TotalCompletions ?? Math.max(1, placesOf(wanted));
    const completed = placesOf(wanted.filter(({ Status }) => Status.State === 'complete'));
    return completed >= total
      ? { words: `${completed}/${total} completed`, outcome: 'done' }
      : { words: withReason(`${completed}/${total} completed`, tasks) };
  }
  const running = placesOf(wanted.filter(({ Status }) => Status.State === 'running'));
  const total = Replicated === undefined ? placesOf(wanted) : (Replicated.Replicas ?? 1);
  const words = `${running}/${total} running`;
  const state = UpdateStatus?.State ?? '';
  if (state.endsWith('paused'))
    return { words: `${state.replace('_', ' ')}: ${UpdateStatus?.Message ?? ''}`, outcome: 'failed' };
  if (state === 'rollback_started' || state === 'rollback_completed') {
    // A rollback that users ask of a stack is an update of its services: this one the cluster began by itself.
    const outcome = state === 'rollback_completed' ? ({ outcome: 'failed' } as const) : {};
    return { words: UpdateStatus?.Message ?? state, ...outcome };
  }
  const message = UpdateStatus?.Message ?? '';
  if (state === 'updating' && message.startsWith('waiting ')) return { words: message, outcome: 'waiting' };
  const arrived = state !== 'updating' && running >= total && (total > 0 || Replicated !== undefined);
  return arrived ? { words, outcome: 'done' } : { words: withReason(words, wanted) };
}

/** How many slots or nodes the tasks stand for. */
function placesOf(tasks: readonly TaskAnswer[]): number {
  return new Set(tasks.map(({ Slot, NodeID }) => Slot ?? NodeID)).size;
}

/** With why one of them does not run. */
function withReason(words: string, tasks: readonly TaskAnswer[]): string {
  const waiting = tasks.find(
    ({ Status }) => Status.State !== 'running' && Status.Err !== undefined && Status.Err !== '',
  );
  return waiting === undefined ? words : `${words} (${waiting.Status.Err})`;
}

/**
 * Watches these services until each has arrived and stayed so for its monitor period, waits for a person's word, or has
 * failed. True if none has failed.
 */
export async function awaitServices(
  client: DockerClient,
  stack: string,
  names: readonly string[],
  output: Output,
): Promise<boolean> {
  const shown = new Map<string, string>();
  const since = new Map<string, number>();
  const outcomes = new Map<string, NonNullable<Standing['outcome']>>();
  const say = (name: string, words: string): void => {
    if (shown.get(name) === words) return;
    shown.set(name, words);
    output.out(`${name}: ${words}\n`);
  };
  while (outcomes.size < names.length) {
    const services = (await servicesOf(client, stack)) as unknown as ServiceAnswer[];
    for (const name of names) {
      const service = services.find(({ Spec }) => Spec.Name === name);
      if (outcomes.has(name)) continue;
      if (service === undefined) {
        say(name, 'removed meanwhile');
        outcomes.set(name, 'failed');
        continue;
      }
      const filters = JSON.stringify({ service: { [service.ID]: true }, '_up-to-date': { true: true } });
      const now = standing(service, await client.request<TaskAnswer[]>('GET', '/tasks', { query: { filters } }));
      say(name, now.words);
      if (now.outcome !== 'done') since.delete(name);
      else if (!since.has(name)) since.set(name, performance.now());
      const stood = performance.now() - (since.get(name) ?? Infinity);
      if (now.outcome === 'failed' || now.outcome === 'waiting') outcomes.set(name, now.outcome);
      else if (now.outcome === 'done' && stood >= monitorMs(service)) {
        say(name, `${now.words}: converged`);
        outcomes.set(name, 'done');
      }
    }
    if (outcomes.size < names.length) await pause(POLL_MS);
  }
  return [...outcomes.values()].every((outcome) => outcome !== 'failed');
}

/** How long a service must stand. An update that is over has been watched already, and so has a job that has ended. */
function monitorMs({ Spec, UpdateStatus }: ServiceAnswer): number {
  if (Spec.Mode.ReplicatedJob !== undefined || Spec.Mode.GlobalJob !== undefined) return 0;
  if (UpdateStatus?.State === 'completed') return 0;
  return Spec.UpdateConfig?.Monitor === undefined ? DEFAULT_MONITOR_MS : Spec.UpdateConfig.Monitor / NS_PER_MS;
}
