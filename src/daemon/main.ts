/** The entry of `droverd`: flags in, a running daemon out; SIGTERM and SIGINT end it in order. */
import { readFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { Daemon } from './daemon.ts';
import { HELP, parseOptions, UsageError, type Command } from './options.ts';
import { systemClock, systemLog, systemRandom } from './system.ts';
import { tellSystemd } from './systemd.ts';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new UsageError(`${path} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

function commandOrExit(): Command {
  try {
    return parseOptions(process.argv.slice(2), readIfThere);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`droverd: ${error.message}\nSee 'droverd --help'.\n`);
    return process.exit(125);
  }
}

async function main(): Promise<void> {
  const command = commandOrExit();
  if (command.run === 'help') return void process.stdout.write(HELP);
  if (command.run === 'validate') return void process.stdout.write('The settings are valid.\n');
  if (command.run === 'version') return void process.stdout.write(`droverd version ${version}\n`);
  const { options } = command;
  const log = systemLog(options);
  const daemon = new Daemon({ options, version, clock: systemClock, random: systemRandom, log });

  let stopping = false;
  const stop = (signal: string) => {
    if (stopping) process.exit(1); // Asked twice: whoever waits has lost patience.
    stopping = true;
    log.info({ signal }, 'stopping; containers stay');
    void daemon.stop().then(() => process.exit(0));
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  // A broken promise is a defect: better to end, be restarted and adopt what runs than to go on half.
  process.on('unhandledRejection', (error) => {
    log.error({ err: error }, 'unhandled rejection; ending');
    process.exit(70);
  });

  // The daemon's own timers hold nothing alive (see Clock.after); this does, until a signal ends it.
  setInterval(() => {}, 2 ** 30);
  try {
    await daemon.start();
    // Now, because whoever kills it must not cost the next start what was compiled for this one.
    flushCompileCache();
    tellSystemd(process.env, log);
  } catch (error) {
    process.stderr.write(`droverd: ${(error as Error).message}\n`);
    log.debug({ err: error }, 'start failed');
    process.exit(1);
  }
}

await main();
