import { defineConfig } from 'vitest/config';

// Unit, contract and simulation tests stand beside the code; what needs the lab stands in tests/e2e and tests/conformance.
// Limits are for what hangs, never for what is slow: a loaded machine must not fail a test.
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['src/**/*.test.ts', 'tests/rules/*.test.ts', 'tests/robust/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          expect: { poll: { timeout: 30_000 } },
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['tests/e2e/**/*.test.ts', 'tests/conformance/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          expect: { poll: { timeout: 60_000 } },
          fileParallelism: false,
          maxWorkers: 1,
        },
      },
    ],
  },
});
