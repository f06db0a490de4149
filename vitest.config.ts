import { availableParallelism } from 'node:os';
import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { LastWords } from './tests/e2e/last-words.ts';

/** Those that take longest by far, mostly by waiting: begun first, so that nothing waits for them in the end. */
const LONGEST = [
  'src/journal/member/membership.test.ts',
  'src/sim/simulation.test.ts',
  'src/journal/etcd/journal.test.ts',
  'src/journal/member/restarts.test.ts',
  'src/journal/member/member.test.ts',
  'src/engine/docker-engine.test.ts',
  'src/sim/shared-journal-faults.test.ts',
  'src/dispatch/managers.test.ts',
  'tests/robust/fuzz.test.ts',
  'src/daemon/outside-etcd.test.ts',
  'src/network/kernel.test.ts',
  'src/network/established.kernel.test.ts',
  'src/journal/etcd/client.test.ts',
  'src/dispatch/certificates.test.ts',
  'tests/robust/manager-port.test.ts',
  'tests/conformance/conformance.test.ts',
  'tests/e2e/transcript.test.ts',
  'tests/e2e/updates.test.ts',
];

/** What takes hosts away, or counts each request that failed: nothing else is to run beside it. */
const ALONE = ['faults', 'managers', 'many-faults', 'robust', 'zero-downtime'].map(
  (name) => `tests/e2e/${name}.test.ts`,
);

/** Tests that need a lab. */
function lab(project: TestProjectInlineConfiguration['test']): TestProjectInlineConfiguration {
  const limits = { testTimeout: 300_000, hookTimeout: 300_000, expect: { poll: { timeout: 60_000 } } };
  return { test: { ...limits, setupFiles: ['tests/e2e/failed.setup.ts'], ...project } };
}

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const at = LONGEST.findIndex((path) => moduleId.endsWith(path));
      return at === -1 ? LONGEST.length : at;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}

// Unit, contract and simulation tests stand beside the code; what needs the lab stands in tests/e2e and tests/conformance.
// Limits are for what hangs, never for what is slow: a loaded machine must not fail a test.
export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    reporters: ['default', new LastWords()],
    projects: [
      {
        test: {
          name: 'unit',
          include: ['src/**/*.test.ts', 'tests/rules/*.test.ts', 'tests/robust/**/*.test.ts'],
          // To load the same modules anew for each of so many files costs more than all else: a test leaves nothing behind.
          isolate: false,
          restoreMocks: true,
          // Some wait for processes and for time to pass, and leave the machine to others meanwhile.
          maxWorkers: Math.max(4, availableParallelism()),
          testTimeout: 60_000,
          hookTimeout: 60_000,
          expect: { poll: { timeout: 30_000 } },
        },
      },
      lab({
        name: 'e2e',
        include: ['tests/e2e/**/*.test.ts', 'tests/conformance/**/*.test.ts'],
        exclude: ALONE,
        sequence: { groupOrder: 1 },
        // On labs of their own; one waits while the other computes.
        maxWorkers: 2,
      }),
      lab({
        name: 'e2e-alone',
        include: ALONE,
        sequence: { groupOrder: 2 },
        maxWorkers: 1,
      }),
    ],
  },
});
