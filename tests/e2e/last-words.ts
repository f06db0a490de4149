/**
 * What failed, in short, after all else: of a long run often only the end is kept, and the full report of many failures is
 * longer than that.
 */
import { stripVTControlCharacters } from 'node:util';
import type { Reporter, TestModule } from 'vitest/node';

const FAILURES = 4;
/** Of the first, which may be the cause of all others, and of each of those. */
const ERROR_CHARACTERS = { first: 400, other: 120 };
const LINES = { first: 4, other: 0 };
/** Of what was expected and what came. */
const DIFF_LINES = 6;
const LINE_CHARACTERS = 160;

export class LastWords implements Reporter {
  /** The first failure comes last: it is the one to be read if the end is all there is. */
  onTestRunEnd(modules: readonly TestModule[]): void {
    const failed = modules.flatMap((module) => [...module.children.allTests('failed')]);
    if (failed.length > FAILURES) console.error(`failed: ${failed.length - FAILURES} more`);
    for (const [i, test] of [...failed.slice(0, FAILURES).entries()].toReversed()) {
      const which = i === 0 ? 'first' : 'other';
      const [error] = test.result().errors ?? [];
      const { unsettled = [], differences = [] } = test.meta();
      console.error(`failed: ${test.module.relativeModuleId}: ${test.fullName}`);
      console.error(`  ${(error?.message ?? 'no error').slice(0, ERROR_CHARACTERS[which])}`);
      const told = i === 0 ? changesIn(error?.diff ?? '').slice(0, DIFF_LINES) : [];
      for (const line of [...told, ...[...differences, ...unsettled].slice(0, LINES[which])])
        console.error(`  ${line.slice(0, LINE_CHARACTERS)}`);
    }
  }
}

/** The lines of a diff that say a difference, without its heading. */
function changesIn(diff: string): string[] {
  return stripVTControlCharacters(diff)
    .split('\n')
    .filter((line) => /^[+-] (?!Expected$|Received$)/.test(line) && !/^[+-] [[\]{}]/.test(line));
}
