/**
 * How the `drover` command line is read and explained: flags, arguments, help and errors in the manner of the docker CLI.
 * A command is data; `execute` turns words into a call of its `run` or into a message and an exit code.
 */
import { parseArgs } from 'node:util';
import type { ParseArgsOptionsConfig } from 'node:util';

/** Where a command prints. */
export interface Output {
  out(text: string): void;
  err(text: string): void;
}

export interface Flag {
  /** Placeholder of the value, such as `int`; a flag without one is a switch. */
  value?: string;
  default?: string;
  /** One letter, for `-x`. */
  short?: string;
  /** It may be given several times. */
  many?: true;
  help: string;
}

/** The flags that were given or have a default: strings, and `true` for switches. */
export class Flags {
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = values;
  }

  isSet(name: string): boolean {
    return this.#values[name] === true;
  }

  text(name: string): string {
    const value = this.#values[name];
    return typeof value === 'string' ? value : '';
  }

  /** All values of a flag that may be given several times, in order. */
  list(name: string): string[] {
    const value = this.#values[name];
    return Array.isArray(value) ? value.filter((entry) => typeof entry === 'string') : [];
  }

  /** A whole number from `min` to `max`; throws UsageError in the docker CLI's words otherwise. */
  integer(name: string, min: number, max: number): number {
    const text = this.text(name);
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new UsageError(
        `invalid argument "${text}" for "--${name}" flag: must be a whole number from ${min} to ${max}`,
      );
    }
    return value;
  }
}

export interface Command {
  name: string;
  /** Names of the arguments, as help shows them. */
  args: readonly string[];
  /** The last argument takes all words that follow, flags of other programs included. */
  takesRest?: boolean;
  summary: string;
  /** True for what programs call, not people: help does not list it. */
  hidden?: boolean;
  /** More than the summary, for `--help`. */
  details?: string;
  flags: Readonly<Record<string, Flag>>;
  /** Resolves with the exit code. */
  run(flags: Flags, args: readonly string[], output: Output): Promise<number>;
}

export interface Group {
  name: string;
  summary: string;
  commands: readonly (Command | Group)[];
}

/** The user typed something that no command understands; exit code 125, as docker's. */
export class UsageError extends Error {}

const USAGE_EXIT = 125;

function isGroup(entry: Command | Group): entry is Group {
  return 'commands' in entry;
}

/** Runs what the words name; `path` is what was read so far (`drover lab`). Failures become messages and exit codes. */
export async function execute(
  entry: Command | Group,
  words: readonly string[],
  path: string,
  output: Output,
): Promise<number> {
  if (!isGroup(entry)) return runCommand(entry, words, path, output);
  const [word, ...rest] = words;
  if (word === undefined || word === '--help' || word === '-h' || word === 'help') {
    output.out(groupHelp(entry, path));
    return 0;
  }
  const next = entry.commands.find((candidate) => candidate.name === word);
  if (next !== undefined) return execute(next, rest, `${path} ${word}`, output);
  const problem = word.startsWith('-') ? `unknown flag: ${word}` : `${path}: '${word}' is not a ${path} command.`;
  output.err(`${problem}\nSee '${path} --help'.\n`);
  return word.startsWith('-') ? USAGE_EXIT : 1;
}

async function runCommand(command: Command, words: readonly string[], path: string, output: Output): Promise<number> {
  try {
    const { flags, args } = parse(command, words);
    if (flags.isSet('help')) {
      output.out(commandHelp(command, path));
      return 0;
    }
    const problem = arityProblem(command, args);
    if (problem !== undefined) {
      output.err(`"${path}" ${problem}\nSee '${path} --help'.\n\n${usageLine(command, path)}\n\n${command.summary}\n`);
      return 1;
    }
    return await command.run(flags, args, output);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if (error instanceof UsageError) {
      output.err(`${error.message}\nSee '${path} --help'.\n`);
      return USAGE_EXIT;
    }
    output.err(`Error: ${error.message}\n`);
    return 1;
  }
}

/** Splits words into flags and arguments. */
function parse(command: Command, words: readonly string[]): { flags: Flags; args: string[] } {
  const options: ParseArgsOptionsConfig = { help: { type: 'boolean', short: 'h' } };
  for (const [name, flag] of Object.entries(command.flags)) {
    options[name] = {
      type: flag.value === undefined ? 'boolean' : 'string',
      ...(flag.default === undefined ? {} : { default: flag.default }),
      ...(flag.short === undefined ? {} : { short: flag.short }),
      ...(flag.many === undefined ? {} : { multiple: true }),
    };
  }
  const own = command.takesRest === true ? ownWords(words, options, command.args.length) : words.length;
  try {
    const { values, positionals } = parseArgs({ args: words.slice(0, own), options, allowPositionals: true });
    const rest = words.slice(own);
    return { flags: new Flags(values), args: [...positionals, ...(rest[0] === '--' ? rest.slice(1) : rest)] };
  } catch (error) {
    throw new UsageError(flagProblem(error), { cause: error });
  }
}

/** How many words are the command's own: up to `--`, or up to the argument before the one that takes the rest. */
function ownWords(words: readonly string[], options: ParseArgsOptionsConfig, args: number): number {
  const { tokens } = parseArgs({ args: [...words], options, allowPositionals: true, strict: false, tokens: true });
  let seen = 0;
  for (const token of tokens) {
    if (token.kind === 'option-terminator') return token.index;
    if (token.kind === 'positional' && (seen += 1) === args) return token.index;
  }
  return words.length;
}

function flagProblem(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const quoted = /'(-[^' ,]*)/.exec(message)?.[1] ?? '';
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION') {
    return quoted.startsWith('--')
      ? `unknown flag: ${quoted}`
      : `unknown shorthand flag: '${quoted.slice(1)}' in ${quoted}`;
  }
  if (code === 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE' && !message.includes('does not take'))
    return `flag needs an argument: ${quoted}`;
  return message;
}

function arityProblem(command: Command, args: readonly string[]): string | undefined {
  const wanted = command.args.length;
  if (command.takesRest === true ? args.length >= wanted : args.length === wanted) return undefined;
  if (wanted === 0) return 'accepts no arguments.';
  const count = `${wanted} argument${wanted === 1 ? '' : 's'}`;
  return command.takesRest === true ? `requires at least ${count}.` : `requires exactly ${count}.`;
}

function usageLine(command: Command, path: string): string {
  return ['Usage:  ' + path, '[OPTIONS]', ...command.args].join(' ') + (command.takesRest === true ? '...' : '');
}

function commandHelp(command: Command, path: string): string {
  const rows = Object.entries(command.flags)
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([name, flag]): [string, string] => [
      `${flag.short === undefined ? '    ' : `-${flag.short}, `}--${name}${flag.value === undefined ? '' : ` ${flag.value}`}`,
      flag.help + (flag.default === undefined ? '' : ` (default "${flag.default}")`),
    ]);
  const details = command.details === undefined ? '' : `\n${command.details}\n`;
  const options = rows.length === 0 ? '' : `\nOptions:\n${table(rows)}\n`;
  return `\n${usageLine(command, path)}\n\n${command.summary}\n${details}${options}`;
}

function groupHelp(group: Group, path: string): string {
  const listed = group.commands.filter((entry) => isGroup(entry) || entry.hidden !== true);
  const rows = listed.map((entry): [string, string] => [`  ${entry.name}`, entry.summary]);
  return `\nUsage:  ${path} COMMAND\n\n${group.summary}\n\nCommands:\n${table(rows)}\n\nRun '${path} COMMAND --help' for more information on a command.\n`;
}

/** Columns two or more blanks apart, as docker prints lists; a last column is not padded. */
export function table(rows: readonly (readonly string[])[], gap = 3): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, at) => (widths[at] = Math.max(widths[at] ?? 0, cell.length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, at) => (at === row.length - 1 ? cell : cell.padEnd((widths[at] ?? 0) + gap))).join('');
  return rows.map(line).join('\n');
}
