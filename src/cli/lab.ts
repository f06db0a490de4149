/** `drover lab …`: several hosts on one machine. What the words mean is in `src/lab`; here is how they are typed. */
import { MAX_HOSTS } from '../lab/addresses.ts';
import { socketOf } from '../lab/daemons.ts';
import { execIn, powerOff, poweredOn, setCable } from '../lab/host.ts';
import { listLabs, openLab } from '../lab/lab.ts';
import type { HostPlan, Lab, Parts } from '../lab/lab.ts';
import * as lab from '../lab/operations.ts';
import { RECIPES } from '../lab/recipes.ts';
import { table, UsageError } from './command.ts';
import type { Command, Flag, Flags, Group } from './command.ts';

const NAME: Record<'name', Flag> = { name: { value: 'string', default: 'default', help: 'Name of the lab' } };

/** A command on one host of a lab. */
function onHost(
  name: string,
  summary: string,
  run: (lab: Lab, host: HostPlan, flags: Flags) => Promise<string | void>,
  more: { flags?: Record<string, Flag>; details?: string } = {},
): Command {
  return {
    name,
    args: ['HOST'],
    summary,
    ...(more.details === undefined ? {} : { details: more.details }),
    flags: { ...NAME, ...more.flags },
    async run(flags, [hostName = ''], output) {
      const opened = await openLab(flags.text('name'));
      const printed = await run(opened, opened.host(hostName), flags);
      output.out(`${printed ?? hostName}\n`);
      return 0;
    },
  };
}

const up: Command = {
  name: 'up',
  args: [],
  summary: 'Make a lab, or bring up what is missing of it',
  details:
    'Hosts are called h1, h2 and so on. Without --bare they form one cluster with h1 as its manager, or the first of them (--managers).',
  flags: {
    ...NAME,
    hosts: { value: 'int', default: '3', help: 'Number of hosts' },
    managers: { value: 'int', default: '1', help: 'How many of the hosts, the first ones, manage the cluster' },
    bare: { help: 'Engines and droverd on each host, but no cluster' },
    'engines-only': { help: 'Engines alone, no droverd' },
  },
  async run(flags, _args, output) {
    if (flags.isSet('bare') && flags.isSet('engines-only'))
      throw new UsageError('--bare and --engines-only exclude each other');
    const parts: Parts = flags.isSet('engines-only') ? 'engines' : flags.isSet('bare') ? 'daemons' : 'cluster';
    const hosts = flags.integer('hosts', 1, MAX_HOSTS);
    const managers = flags.integer('managers', 1, hosts);
    const made = await lab.up(flags.text('name'), { hosts, parts, managers }, (line) => output.out(`${line}\n`));
    output.out(howToUse(made));
    return 0;
  },
};

function howToUse(made: Lab): string {
  const name = made.name === 'default' ? '' : ` --name ${made.name}`;
  const rows = made.hosts.map((host) => [`  ${host.name}`, host.address, `unix://${socketOf(host, made.parts)}`]);
  const steps =
    made.parts === 'daemons'
      ? [`docker swarm init --advertise-addr ${made.host('h1').address}`]
      : made.parts === 'cluster'
        ? [
            'docker node ls',
            `drover lab images${name}`,
            'docker stack deploy -c examples/calculator/docker-compose.yml app',
          ]
        : ['docker ps'];
  return `\n${table(rows)}\n\nUse it with:\n\n    eval "$(drover lab env h1${name})"\n${steps.map((step) => `    ${step}\n`).join('')}\nRemove it with: drover lab down${name}\n`;
}

const down: Command = {
  name: 'down',
  args: [],
  summary: 'Remove a lab with everything that belongs to it',
  flags: NAME,
  async run(flags, _args, output) {
    await lab.checkMachine();
    if (!(await lab.down(flags.text('name')))) output.err(`No such lab: ${flags.text('name')}\n`);
    return 0;
  },
};

const ls: Command = {
  name: 'ls',
  args: [],
  summary: 'List all labs and their hosts',
  flags: {},
  async run(_flags, _args, output) {
    const rows = [['LAB', 'HOST', 'ADDRESS', 'POWER', 'RUNNING', 'SOCKET']];
    for (const opened of await listLabs()) {
      for (const { host, power, running } of await lab.survey(opened)) {
        rows.push([
          opened.name,
          host.name,
          host.address,
          power,
          running.join(',') || '-',
          socketOf(host, opened.parts),
        ]);
      }
    }
    output.out(`${table(rows)}\n`);
    return 0;
  },
};

const env = onHost(
  'env',
  'Print the shell line that points docker at a host',
  async (opened, host, flags) =>
    `export DOCKER_HOST=unix://${flags.isSet('engine') ? host.engineSocket : socketOf(host, opened.parts)}`,
  {
    flags: { engine: { help: "The host's engine instead of its droverd" } },
    details: 'Use it as: eval "$(drover lab env h1)"',
  },
);

const addr = onHost('addr', "Print a host's address", async (_opened, host) => host.address);

const kill = onHost('kill', "Cut a host's power", async (_opened, host) => powerOff(host), {
  details: 'Nobody gets a FIN, every process ends at once; what is on disk stays. "start" turns the host on again.',
});

const start = onHost('start', 'Turn a host on, or start what is missing on it', async (opened, host) =>
  lab.startHost(opened, host),
);

const restartDaemon = onHost(
  'restart-daemon',
  "Kill a host's droverd and start it again",
  async (opened, host, flags) => {
    const signal = flags
      .text('signal')
      .toUpperCase()
      .replace(/^(?!SIG)/, 'SIG');
    if (signal !== 'SIGKILL' && signal !== 'SIGTERM')
      throw new UsageError(`invalid argument "${flags.text('signal')}" for "--signal" flag: KILL or TERM`);
    await lab.restartDaemon(
      opened,
      host,
      flags.isSet('engine') || opened.parts === 'engines' ? 'engine' : 'droverd',
      signal,
    );
  },
  {
    flags: {
      signal: { value: 'string', default: 'KILL', help: 'KILL or TERM' },
      engine: { help: 'The engine instead of droverd' },
    },
  },
);

const cut = onHost('cut', "Pull a host's network cable", async (_opened, host) => {
  await poweredOn(host);
  await setCable(host, 'down');
});

const mend = onHost('mend', "Plug a host's network cable in again", async (_opened, host) => {
  await poweredOn(host);
  await setCable(host, 'up');
});

const exec: Command = {
  name: 'exec',
  args: ['HOST', 'COMMAND'],
  takesRest: true,
  summary: 'Run a command in a host: in its network, its processes, its /run',
  details: "Files are those of this machine, but for /run and /proc. DOCKER_HOST points at the host's droverd.",
  flags: NAME,
  async run(flags, [hostName = '', ...command]) {
    const opened = await openLab(flags.text('name'));
    const socket = opened.parts === 'engines' ? 'engine.sock' : 'drover.sock';
    return execIn(opened.host(hostName), command[0] === '--' ? command.slice(1) : command, {
      ...process.env,
      DOCKER_HOST: `unix:///run/${socket}`,
    });
  },
};

const registry: Command = {
  name: 'registry',
  args: [],
  summary: 'Start the registry that all hosts pull from; print its address',
  flags: NAME,
  async run(flags, _args, output) {
    output.out(`${await lab.registry(flags.text('name'))}\n`);
    return 0;
  },
};

const images: Command = {
  name: 'images',
  args: [],
  summary: "Build the example images and push them to the lab's registry",
  details:
    'They are made of files of this machine; nothing is downloaded. Every engine gets "busybox" under its plain name.',
  flags: NAME,
  async run(flags, _args, output) {
    const built = new Set(await lab.images(flags.text('name')));
    const { registry: address } = await openLab(flags.text('name'));
    output.out(
      RECIPES.map(({ reference }) => `${address}/${reference}${built.has(reference) ? ' (built)' : ''}\n`).join(''),
    );
    return 0;
  },
};

const audit: Command = {
  name: 'audit',
  args: [],
  summary: 'Compare the store with what is really on the hosts',
  details:
    'Looks at containers, addresses, published ports, networks, devices, forwarding entries, nft tables and firewall rules of\nevery host that is on.\nPrints a line per difference or leftover, and ends with 1 if there is any.',
  flags: NAME,
  async run(flags, _args, output) {
    const found = await lab.audit(flags.text('name'));
    output.out(found.length === 0 ? 'No differences.\n' : found.map((line) => `${line}\n`).join(''));
    return found.length === 0 ? 0 : 1;
  },
};

export const labCommands: Group = {
  name: 'lab',
  summary: 'Several hosts on one machine, each with its own network, engine and droverd',
  commands: [up, down, ls, env, addr, start, kill, restartDaemon, cut, mend, exec, registry, images, audit],
};
