/**
 * What failed, in short, after all else: of a long run often only the end is kept, and the full report of many failures is
 * longer than that.
 */
import type { Reporter, TestModule } from 'vitest/node';

const FAILURES = 4;
/** Of the first, which may be the cause of all others, and of each of those. */
const ERROR_CHARACTERS = { first: 400, other: 120 };
const LINES = { first: 4, other: 0 };
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
      for (const line of [...differences, ...unsettled].slice(0, LINES[which]))
        console.error(`  ${line.slice(0, LINE_CHARACTERS)}`);
    }
  }
}
