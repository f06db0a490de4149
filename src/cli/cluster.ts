/** `drover cluster …`: the cluster as a whole: its backup into one file, and a machine that takes it over from there. */
import { createReadStream, createWriteStream } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { DockerClient } from '../docker/client.ts';
import type { Command, Group, Output } from './command.ts';
import { UsageError } from './command.ts';
import { connect, HOST_FLAG } from './connection.ts';

const TYPE = 'application/vnd.drover.backup';
const PRIVATE = 0o600;

/** The answer of `POST /drover/cluster/restore`. */
interface RestoreAnswer {
  ClusterID: string;
  NodeID: string;
  BackupAt: string;
  Locked: boolean;
  AddrBefore: string;
  Addr: string;
  FormerManagers: { NodeID: string; Hostname: string; Addr: string }[];
}

const backup: Command = {
  name: 'backup',
  args: ['FILE'],
  summary: "Write all of the cluster's state to a file, or with - to standard output",
  details: `Taken from the manager that is asked, as of one moment, while all goes on. The file holds the keys of the cluster: who has it
has the cluster, unless its managers are locked (--autolock).`,
  flags: HOST_FLAG,
  async run(flags, [file = ''], output) {
    if (file === '-' && process.stdout.isTTY)
      throw new UsageError('a backup holds keys, and is not shown on a terminal: name a file, or pipe it on');
    const client = connect(flags);
    try {
      if (file === '-') await pipeline(await begin(client, output), process.stdout, { end: false });
      else {
        await toFile(await begin(client, output), file);
        output.err(`${file} holds the cluster's state and its keys: keep it as you keep a key\n`);
      }
      return 0;
    } finally {
      client.close();
    }
  },
};

const restore: Command = {
  name: 'restore',
  args: ['FILE'],
  summary: 'Make this node the one manager of the cluster in a backup; with - it is read from standard input',
  details: `The node must be in no swarm, and the managers of the time of the backup must be gone for good. Workers come back by themselves if
the manager's address is the same as it was.`,
  flags: {
    ...HOST_FLAG,
    'advertise-addr': {
      value: 'string',
      help: 'Address by which the other nodes reach this one (default: that of the backup, if this host has it)',
    },
    'listen-addr': { value: 'string', help: 'Address to listen on (default: as in the backup)' },
    'data-path-addr': { value: 'string', help: "Address of this host's overlay traffic (default: as advertised)" },
  },
  async run(flags, [file = ''], output) {
    const client = connect(flags);
    try {
      const query = {
        advertiseAddr: flags.text('advertise-addr') || undefined,
        listenAddr: flags.text('listen-addr') || undefined,
        dataPathAddr: flags.text('data-path-addr') || undefined,
      };
      const body = file === '-' ? process.stdin : createReadStream('', { fd: await open(file) });
      const answer = await client.request<RestoreAnswer>('POST', '/drover/cluster/restore', {
        unversioned: true,
        query,
        headers: { 'Content-Type': TYPE },
        body,
      });
      report(answer, output);
      return 0;
    } finally {
      client.close();
    }
  },
};

export const clusterCommands: Group = {
  name: 'cluster',
  summary: 'Back up and restore the cluster',
  commands: [backup, restore],
};

/** The lines as they come. A manager that is cut off from the others says that what it knows may be old. */
async function begin(client: DockerClient, output: Output): Promise<Readable> {
  const lines = await client.stream('GET', '/drover/cluster/backup', { unversioned: true });
  const said = /"(.*)"/.exec(lines.headers.warning ?? '')?.[1];
  if (said !== undefined) output.err(`Warning: ${said}\n`);
  return lines;
}

/** The whole file or none: what is there under that name already is replaced when the new one is on the disk. */
async function toFile(lines: Readable, file: string): Promise<void> {
  const draft = `${file}.new`;
  try {
    await rm(draft, { force: true });
    await pipeline(lines, createWriteStream(draft, { flags: 'wx', mode: PRIVATE, flush: true }));
    await rename(draft, file);
  } catch (error) {
    lines.destroy();
    await rm(draft, { force: true });
    throw error;
  }
}

function report(answer: RestoreAnswer, output: Output): void {
  output.out(`${restoredText(answer)}\n`);
}

/** What is said of a cluster that was restored. Pure. */
export function restoredText(answer: RestoreAnswer): string {
  const { ClusterID, NodeID, BackupAt, Locked, AddrBefore, Addr, FormerManagers } = answer;
  return [
    `Cluster ${ClusterID} is as it was at ${BackupAt}; its manager is this node (${NodeID}), at ${Addr}.`,
    ...(Locked ? ['It is locked: use "docker swarm unlock" with the unlock key of that time.'] : []),
    ...(Addr === AddrBefore
      ? []
      : [
          `Nodes look for their manager at ${AddrBefore}: those that do not find this one have to leave and join again.`,
        ]),
    ...FormerManagers.map(
      (node) =>
        `${node.Hostname} (${node.NodeID}) is no manager any more: on it, use "docker swarm leave --force" and join again.`,
    ),
  ].join('\n');
}
