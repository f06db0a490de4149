/**
 * docker-api.md 1.2–1.5, row by row: the same calls to droverd and to Docker's own swarm mode, the same answers. Where they
 * differ, the row says so and why, and docs/conformance.md lists it. CONFORMANCE=drover or =swarm asks one of them alone.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { check } from './check.ts';
import { page } from './page.ts';
import { titleOf, type Variables } from './row.ts';
import { ROWS } from './rows/all.ts';
import { bringUp, type Subject } from './subjects.ts';

const only = process.env['CONFORMANCE'];

// Both at once, for they wait most of the time; each its rows in order.
const kinds = (['drover', 'swarm'] as const).filter((kind) => only === undefined || only === kind);
describe.for(kinds)('%s', { concurrent: true }, (kind) => {
  let subject: Subject;
  let variables: Variables;

  beforeAll(async () => {
    subject = await bringUp(kind);
    variables = new Map(subject.facts);
  });
  afterAll(() => subject?.down());

  test.for(
    ROWS.filter((row) => kind === 'drover' || row.notOnSwarm === undefined).map(
      (row) => [`${row.covers}: ${titleOf(row)}`, row] as const,
    ),
  )('%s', { concurrent: false }, ([, row]) => check(row, subject, variables));
});

test('docs/conformance.md says what these rows say (vitest -u writes it)', async () => {
  await expect(page(ROWS)).toMatchFileSnapshot('../../docs/conformance.md');
});
