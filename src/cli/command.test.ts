import { describe, expect, test } from 'vitest';
import type { Command, Flags, Group } from './command.ts';
import { execute, table } from './command.ts';

interface Ran {
  flags: Flags;
  args: readonly string[];
}

/** A small command line, and what became of a call of it. */
async function call(words: string[]): Promise<{ code: number; out: string; err: string; ran?: Ran }> {
  const result: { code: number; out: string; err: string; ran?: Ran } = { code: -1, out: '', err: '' };
  const remember = async (flags: Flags, args: readonly string[]): Promise<number> => {
    result.ran = { flags, args };
    flags.integer('hosts', 1, 9);
    return 0;
  };
  const flags = {
    name: { value: 'string', default: 'default', help: 'Name' },
    hosts: { value: 'int', default: '3', help: 'Number' },
    bare: { help: 'Bare' },
  };
  const up: Command = { name: 'up', args: [], summary: 'Make it', flags, run: remember };
  const kill: Command = { name: 'kill', args: ['HOST'], summary: 'End it', flags, run: remember };
  const exec: Command = {
    name: 'exec',
    args: ['HOST', 'COMMAND'],
    takesRest: true,
    summary: 'Run in it',
    flags,
    run: remember,
  };
  const fails: Command = {
    name: 'fails',
    args: [],
    summary: 'Fails',
    flags: {},
    run: () => Promise.reject(new Error('No such lab: x')),
  };
  const lab: Group = { name: 'lab', summary: 'Hosts', commands: [up, kill, exec, fails] };
  const output = { out: (text: string) => void (result.out += text), err: (text: string) => void (result.err += text) };
  result.code = await execute({ name: 'drover', summary: 'Drover', commands: [lab] }, words, 'drover', output);
  return result;
}

describe('what is understood', () => {
  test('flags, their defaults, and arguments', async () => {
    const { code, ran } = await call(['lab', 'kill', '--name', 'x', 'h2', '--bare']);
    expect([
      code,
      ran?.args,
      ran?.flags.text('name'),
      ran?.flags.isSet('bare'),
      ran?.flags.integer('hosts', 1, 9),
    ]).toEqual([0, ['h2'], 'x', true, 3]);
  });

  test.each([
    [['lab', 'exec', 'h1', '--', 'ls', '-l'], ['h1', 'ls', '-l'], 'default'],
    [['lab', 'exec', 'h1', 'ls', '-l', '--name', 'y'], ['h1', 'ls', '-l', '--name', 'y'], 'default'],
    [['lab', 'exec', '--name', 'x', 'h1', 'sh', '-c', 'a -- b'], ['h1', 'sh', '-c', 'a -- b'], 'x'],
    [['lab', 'exec', 'h1', '--name', 'x', '--', 'ls', '--', 'z'], ['h1', 'ls', '--', 'z'], 'x'],
    [['lab', 'exec', 'h1', 'ls', '--', 'z'], ['h1', 'ls', '--', 'z'], 'default'],
  ])('%j leaves the words of the other program alone', async (words, args, name) => {
    const { code, ran } = await call(words);
    expect([code, ran?.args, ran?.flags.text('name')]).toEqual([0, args, name]);
  });
});

describe('what is not', () => {
  test.each([
    [['lab', 'up', '--foo'], 125, "unknown flag: --foo\nSee 'drover lab up --help'.\n"],
    [['lab', 'up', '-x'], 125, "unknown shorthand flag: 'x' in -x\nSee 'drover lab up --help'.\n"],
    [['lab', 'up', '--name'], 125, "flag needs an argument: --name\nSee 'drover lab up --help'.\n"],
    [
      ['lab', 'up', '--hosts', '0'],
      125,
      'invalid argument "0" for "--hosts" flag: must be a whole number from 1 to 9\nSee \'drover lab up --help\'.\n',
    ],
    [['--foo'], 125, "unknown flag: --foo\nSee 'drover --help'.\n"],
    [['lab', 'foo'], 1, "drover lab: 'foo' is not a drover lab command.\nSee 'drover lab --help'.\n"],
    [
      ['lab', 'up', 'h1'],
      1,
      '"drover lab up" accepts no arguments.\nSee \'drover lab up --help\'.\n\nUsage:  drover lab up [OPTIONS]\n\nMake it\n',
    ],
    [
      ['lab', 'kill'],
      1,
      '"drover lab kill" requires exactly 1 argument.\nSee \'drover lab kill --help\'.\n\nUsage:  drover lab kill [OPTIONS] HOST\n\nEnd it\n',
    ],
    [
      ['lab', 'exec', 'h1'],
      1,
      '"drover lab exec" requires at least 2 arguments.\nSee \'drover lab exec --help\'.\n\nUsage:  drover lab exec [OPTIONS] HOST COMMAND...\n\nRun in it\n',
    ],
    [['lab', 'fails'], 1, 'Error: No such lab: x\n'],
  ])('%j', async (words, code, err) => {
    expect(await call(words)).toMatchObject({ code, err, out: '' });
  });
});

test.each([[[]], [['lab']], [['lab', '--help']], [['lab', 'up', '--help']], [['lab', 'kill', '-h']]])(
  '%j is answered with help',
  async (words) => {
    const { code, out, err, ran } = await call(words);
    expect([code, err, ran]).toEqual([0, '', undefined]);
    expect(out).toMatch(/^\nUsage: {2}drover/);
  },
);

test('help lists flags in order with their defaults', async () => {
  expect((await call(['lab', 'up', '--help'])).out).toBe(`
Usage:  drover lab up [OPTIONS]

Make it

Options:
    --bare          Bare
    --hosts int     Number (default "3")
    --name string   Name (default "default")
`);
});

test('columns are as wide as their widest cell', () => {
  expect(
    table([
      ['A', 'LONGER', 'x'],
      ['bbb', 'c', 'y'],
    ]),
  ).toBe('A     LONGER   x\nbbb   c        y');
});
