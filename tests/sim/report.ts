/** A run of the simulator in words, and how to see it again. */
import { parseArgs } from 'node:util';
import { faultText } from '../../src/sim/faults.ts';
import { PLANTED, type Planted } from '../../src/sim/planted.fixture.ts';
import type { Outcome, Scenario } from '../../src/sim/simulate.ts';
import { taskStateName } from '../../src/model/states.ts';
import type { Event } from '../../src/store/store.ts';

/** The command that runs a scenario again, exactly. */
export function replayCommand(scenario: Scenario, planted?: Planted): string {
  const { seed, managers, withoutFaults = [], withoutRequests = [] } = scenario;
  return [
    `node tests/sim/soak.ts --seed ${seed} --managers ${managers}`,
    ...(withoutFaults.length > 0 ? [`--without-faults ${withoutFaults.join()}`] : []),
    ...(withoutRequests.length > 0 ? [`--without-requests ${withoutRequests.join()}`] : []),
    ...(planted === undefined ? [] : [`--planted ${planted}`]),
  ].join(' ');
}

/** What a failed run found, what went wrong before, and the command to see it again. */
export function failureText(outcome: Outcome, planted?: Planted): string {
  const { failure, scenario, faults, requests } = outcome;
  const { withoutFaults = [], withoutRequests = [] } = scenario;
  const happened = faults.filter((_, at) => !withoutFaults.includes(at));
  const atMs = failure?.atMs ?? Math.round(outcome.simulatedMs);
  return [
    `seed ${scenario.seed}, ${scenario.managers} manager(s): ${failure?.message ?? 'all is well'}`,
    `  at ${atMs} ms, with ${requests - withoutRequests.length} requests and ${happened.length} faults:`,
    ...happened.map((fault) => `    ${String(fault.atMs).padStart(7)} ms  ${faultText(fault)}`),
    `  again: ${replayCommand(scenario, planted)}`,
  ].join('\n');
}

/** A change of a row in a line; undefined if it does not hold `text`. */
export function rowText({ table, before, after }: Event, text: string): string | undefined {
  const json = JSON.stringify(after ?? before);
  if (!json.includes(text)) return undefined;
  if (after === undefined) return `${table} ${before?.id} removed`;
  if (table !== 'tasks') return `${table} ${json}`;
  const { id, slot, nodeId, desiredState, status, replaces = '', startAfterTask = '', specVersion } = after;
  const [wanted, seen] = [taskStateName(desiredState), taskStateName(status.state)];
  return `task ${id} slot ${slot || '-'} on ${nodeId || '-'}: ${seen}, wanted ${wanted}, spec ${specVersion}, replaces ${replaces || '-'}, after ${startAfterTask || '-'} ${status.error ?? ''}`;
}

export interface Options {
  /** One scenario is to be told as a story. */
  replay: Scenario | undefined;
  /** Seeds to run; Infinity: until stopped. */
  seeds: number;
  from: number;
  managers: number | undefined;
  planted: Planted | undefined;
  /** With a replay: rows that hold this text are shown whenever they change. */
  rows: string | undefined;
}

/** @throws Error in words about what cannot be understood */
export function readOptions(args: readonly string[]): Options {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      seed: { type: 'string' },
      from: { type: 'string', default: '1' },
      managers: { type: 'string' },
      'without-faults': { type: 'string', default: '' },
      'without-requests': { type: 'string', default: '' },
      planted: { type: 'string' },
      rows: { type: 'string' },
    },
  });
  const { planted } = values;
  if (planted !== undefined && !(planted in PLANTED))
    throw new Error(`no such bug: ${planted}; there are ${Object.keys(PLANTED).join(', ')}`);
  const managers = values.managers === undefined ? undefined : wholeNumber(values.managers);
  const replay = values.seed === undefined ? undefined : scenarioOf(values.seed, managers ?? 1, values);
  return {
    replay,
    seeds: positionals[0] === undefined ? Infinity : wholeNumber(positionals[0]),
    from: wholeNumber(values.from),
    managers,
    planted: planted as Planted | undefined,
    rows: values.rows,
  };
}

function scenarioOf(
  seed: string,
  managers: number,
  without: { 'without-faults': string; 'without-requests': string },
): Scenario {
  return {
    seed: wholeNumber(seed),
    managers,
    withoutFaults: wholeNumbers(without['without-faults']),
    withoutRequests: wholeNumbers(without['without-requests']),
  };
}

function wholeNumbers(text: string): number[] {
  return text === '' ? [] : text.split(',').map(wholeNumber);
}

function wholeNumber(text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 0) throw new Error(`not a whole number: ${text}`);
  return number;
}
