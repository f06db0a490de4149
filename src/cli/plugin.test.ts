import { expect, test } from 'vitest';
import { calledAs, metadataCommand } from './plugin.ts';
import { execute } from './command.ts';

const byDocker = { DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND: '/usr/bin/docker' };

test.each([
  ['by a person', ['lab', 'ls'], {}, { path: 'drover', words: ['lab', 'ls'] }],
  ['by docker', ['drover', 'lab', 'ls'], byDocker, { path: 'docker drover', words: ['lab', 'ls'] }],
  [
    'by docker, its own flags first',
    ['--context', 'x', 'drover', 'version'],
    byDocker,
    { path: 'docker drover', words: ['version'] },
  ],
  [
    'by docker, to ask what it is',
    ['docker-cli-plugin-metadata'],
    byDocker,
    { path: 'drover', words: ['docker-cli-plugin-metadata'] },
  ],
  [
    'by a person who names something drover',
    ['lab', 'down', '--name', 'drover'],
    {},
    { path: 'drover', words: ['lab', 'down', '--name', 'drover'] },
  ],
])('called %s', (_how, words, env, expected) => {
  expect(calledAs(words, env)).toEqual(expected);
});

test('the metadata is what docker takes for a plugin, and help does not mention it', async () => {
  let out = '';
  const output = { out: (text: string) => void (out += text), err: () => {} };
  const drover = { name: 'drover', summary: 'Containers', commands: [metadataCommand('1.2.3', 'Containers')] };
  expect(await execute(drover, ['docker-cli-plugin-metadata'], 'drover', output)).toBe(0);
  expect(JSON.parse(out)).toEqual({
    SchemaVersion: '0.1.0',
    Vendor: 'Drover',
    Version: '1.2.3',
    ShortDescription: 'Containers',
  });
  out = '';
  await execute(drover, ['--help'], 'drover', output);
  expect(out).not.toContain('metadata');
});
