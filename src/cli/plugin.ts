/**
 * `drover` as a plugin of the docker command (`docker drover …`): docker finds it as `docker-drover`, asks it once what it
 * is, and then hands it the whole command line, its own flags before `drover` included.
 */
import type { Command } from './command.ts';

/** Set by docker for every plugin that it starts. */
const BY_DOCKER = 'DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND';
const METADATA = 'docker-cli-plugin-metadata';

/** The words for `drover` itself, and what the user typed to get there. */
export function calledAs(words: readonly string[], env: NodeJS.ProcessEnv): { path: string; words: readonly string[] } {
  const name = env[BY_DOCKER] === undefined ? -1 : words.indexOf('drover');
  return name < 0 ? { path: 'drover', words } : { path: 'docker drover', words: words.slice(name + 1) };
}

/** What docker asks each file in its plugin folders. */
export function metadataCommand(version: string, summary: string): Command {
  return {
    name: METADATA,
    hidden: true,
    args: [],
    summary: 'Tell docker what this plugin is',
    flags: {},
    async run(_flags, _args, output) {
      const metadata = { SchemaVersion: '0.1.0', Vendor: 'Drover', Version: version, ShortDescription: summary };
      output.out(`${JSON.stringify(metadata)}\n`);
      return 0;
    },
  };
}
