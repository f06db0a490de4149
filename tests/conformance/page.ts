/** docs/conformance.md, made from the rows, so that it cannot say anything else than they do. Pure. */
import { titleOf, type Row } from './row.ts';

const INTRODUCTION = `# Conformance

\`tests/conformance\` asks droverd and Docker's own swarm mode (engine 20.10, the same lab) the same questions: each row is a call,
the status it gets, and the shape and the sentences of the answer. Rows run in order on two hosts, from before the cluster is
made until it is left. This page is written from the rows; the tests fail when it is not up to date.

    npx vitest run --project e2e tests/conformance      # CONFORMANCE=drover or =swarm asks one of them alone

What swarm mode says with \`rpc error: code = … desc = \` before it, droverd says without: the prefix belongs to a library
inside of Docker. Statuses are Docker's, also where another would be better (500 for a stale version), because clients
match on them.
`;

/** Rows of docker-api.md 1.2–1.5 that no row here speaks for, and why. */
const UNCOVERED: readonly (readonly [what: string, why: string])[] = [
  ['1.2 locked, unlock with a wrong key', 'a row restarts no daemon; `tests/e2e/autolock.test.ts` does'],
  ['1.2 no quorum', 'no second manager yet'],
  [
    '1.2 join > 20 s',
    'needs a manager that neither answers nor refuses; `tests/e2e/faults.test.ts` cuts cables instead',
  ],
  ['1.2 init, many addresses', 'a host of the lab has one address; `src/daemon/addresses.test.ts` has the sentence'],
  ['1.2 secret/config dup, in use, update non-label; 1.3 limits of their data', 'no secrets and configs yet'],
  ['1.2 ambiguous', 'ids are random; `src/api/references.test.ts` has the sentence'],
  ['1.4 volumes', 'the engine answers them; cluster volumes are above its API version'],
  ['1.5 stack deploy', '`tests/e2e/compose.test.ts` has it'],
];

export function page(rows: readonly Row[]): string {
  const differing = rows.filter((row) => row.swarm !== undefined);
  const alone = rows.filter((row) => row.notOnSwarm !== undefined);
  return `${INTRODUCTION}
${rows.length} rows; ${rows.length - differing.length - alone.length} are answered alike, ${differing.length} differ, ${alone.length} cannot be asked of swarm mode here.

## Differences

| docker-api.md | Row | droverd | Docker's swarm mode | Why |
|---|---|---|---|---|
${differing.map((row) => line(row.covers, titleOf(row), said(row), said({ ...row, ...row.swarm }), row.swarm?.why ?? '')).join('\n')}

## Not asked of swarm mode

| docker-api.md | Row | droverd | Why |
|---|---|---|---|
${alone.map((row) => line(row.covers, titleOf(row), said(row), row.notOnSwarm ?? '')).join('\n')}

## Not covered

${UNCOVERED.map(([what, why]) => `- ${what}: ${why}.`).join('\n')}

## What is covered

| docker-api.md | Rows |
|---|---|
${[...counted(rows)].map(([covers, count]) => line(covers, String(count))).join('\n')}
`;
}

function said({ status, message }: Pick<Row, 'status' | 'message'>): string {
  const sentence = message instanceof RegExp ? message.source : message;
  return sentence === undefined || sentence === null ? String(status) : `${status} ${sentence}`;
}

function line(...cells: string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`;
}

function counted(rows: readonly Row[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { covers } of rows) counts.set(covers, (counts.get(covers) ?? 0) + 1);
  return new Map([...counts].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
