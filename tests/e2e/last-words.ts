/**
 * What failed, in short, after all else: of a long run often only the end is kept, and the full report of many failures is
 * longer than that.
 */
import type { Reporter, TestModule } from 'vitest/node';

const FAILURES = 5;
const ERROR_CHARACTERS = 200;
const UNSETTLED = 3;

export class LastWords implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const failed = modules.flatMap((module) => [...module.children.allTests('failed')]);
    for (const test of failed.slice(0, FAILURES)) {
      const [error] = test.result().errors ?? [];
      console.error(`failed: ${test.module.relativeModuleId}: ${test.fullName}`);
      console.error(`  ${(error?.message ?? 'no error').slice(0, ERROR_CHARACTERS)}`);
      for (const line of (test.meta().unsettled ?? []).slice(0, UNSETTLED)) console.error(`  ${line}`);
    }
    if (failed.length > FAILURES) console.error(`failed: ${failed.length - FAILURES} more`);
  }
}
