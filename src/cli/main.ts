/** The `drover` command: what the `docker` command has no words for. Exit codes are docker's. */
import { readFileSync } from 'node:fs';
import { clusterCommands } from './cluster.ts';
import { execute } from './command.ts';
import type { Command, Group, Output } from './command.ts';
import { execCommand } from './exec.ts';
import { labCommands } from './lab.ts';
import { calledAs, metadataCommand } from './plugin.ts';
import { rebalanceCommand } from './rebalance.ts';
import { configCommands, secretCommands } from './secret.ts';
import { serviceCommands } from './service.ts';
import { stackCommands } from './stack.ts';
import { statsCommand } from './stats.ts';
import { topCommand } from './top.ts';

const manifest: { version: string } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
const SUMMARY = 'Containers on many machines, driven by the docker command line';

const version: Command = {
  name: 'version',
  args: [],
  summary: 'Show the version of Drover',
  flags: {},
  async run(_flags, _args, output) {
    output.out(`Drover version ${manifest.version}, Node ${process.version}\n`);
    return 0;
  },
};

const drover: Group = {
  name: 'drover',
  summary: SUMMARY,
  commands: [
    clusterCommands,
    configCommands,
    execCommand(),
    labCommands,
    rebalanceCommand,
    serviceCommands,
    secretCommands,
    stackCommands,
    statsCommand,
    topCommand,
    version,
    metadataCommand(manifest.version, SUMMARY),
  ],
};

// A reader that has seen enough (`drover lab up | head -1`) does not stop the work half-way.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

const terminal: Output = {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
};

const { path, words } = calledAs(process.argv.slice(2), process.env);
process.exitCode = await execute(drover, words[0] === '--version' ? ['version'] : words, path, terminal);
