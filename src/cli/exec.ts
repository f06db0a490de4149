/** `drover exec`: a command in a running task of a service, whichever node runs it. */
import type { Duplex } from 'node:stream';
import { StdDemuxer } from '../docker/stdcopy.ts';
import { dataFrame, messageFrame, StreamFrames, type StreamMessage } from '../model/streams.ts';
import { type Command, type Flags, UsageError } from './command.ts';
import { connect, HOST_FLAG } from './connection.ts';
import { runningTasks } from './targets.ts';

/** Where the command's input comes from and its output goes to: this process's own, but for tests. */
export interface Terminal {
  stdin: NodeJS.ReadStream;
  stdout: NodeJS.WriteStream;
  stderr: NodeJS.WriteStream;
}

export function execCommand(terminal: Terminal = process): Command {
  return {
    name: 'exec',
    args: ['SERVICE[.SLOT]|TASK', 'COMMAND'],
    takesRest: true,
    summary: 'Run a command in a running task of a service, on whichever node it runs',
    details:
      'Without a slot, the first running task is taken. The exit code is that of the command.\n' +
      'Example: drover exec -it web.2 -- sh',
    flags: {
      ...HOST_FLAG,
      env: { short: 'e', value: 'list', many: true, help: 'Set "NAME=value", or "NAME" as it is here' },
      interactive: { short: 'i', help: 'Keep standard input attached' },
      tty: { short: 't', help: 'Give the command a terminal' },
      user: { short: 'u', value: 'string', help: 'User name or id, and perhaps group: "name[:group]"' },
      workdir: { short: 'w', value: 'string', help: 'Directory in the container that it runs in' },
      privileged: { help: 'Give the command all privileges' },
    },
    async run(flags, args) {
      const [reference = '', ...Cmd] = args;
      const Tty = flags.isSet('tty');
      const AttachStdin = flags.isSet('interactive');
      if (Tty && AttachStdin && !terminal.stdin.isTTY) throw new UsageError('the input device is not a TTY');
      const client = connect(flags);
      try {
        const [target] = await runningTasks(client, reference);
        const { socket } = await client.hijack('POST', `/drover/tasks/${target!.taskId}/exec`, {
          unversioned: true,
          body: { Cmd, Tty, AttachStdin, ...options(flags) },
        });
        return await attached(socket, terminal, { tty: Tty, stdin: AttachStdin });
      } finally {
        client.close();
      }
    },
  };
}

function options(flags: Flags): object {
  const [User, WorkingDir] = [flags.text('user'), flags.text('workdir')];
  return {
    ...(User === '' ? {} : { User }),
    ...(WorkingDir === '' ? {} : { WorkingDir }),
    Env: flags.list('env').flatMap((entry) => environmentEntry(entry)),
    Privileged: flags.isSet('privileged'),
  };
}

/** As `docker exec` reads it: a name alone is taken from this process, or left out if it is not set here. */
function environmentEntry(entry: string): string[] {
  if (entry === '' || entry.startsWith('=')) throw new UsageError(`invalid environment variable: ${entry}`);
  if (entry.includes('=')) return [entry];
  const value = process.env[entry];
  return value === undefined ? [] : [`${entry}=${value}`];
}

/** Resolves with the command's exit code. @throws Error with the reason if it is not known */
async function attached(socket: Duplex, terminal: Terminal, mode: { tty: boolean; stdin: boolean }): Promise<number> {
  const { stdin, stdout, stderr } = terminal;
  const tell = (message: StreamMessage): void => void socket.write(messageFrame(message));
  const sized = (): void => tell({ type: 'resize', height: stdout.rows, width: stdout.columns });
  const raw = mode.tty && mode.stdin;
  if (mode.tty && stdout.isTTY) {
    stdout.on('resize', sized);
    sized();
  }
  if (raw) stdin.setRawMode(true);
  if (mode.stdin) {
    stdin.on('data', (data: Buffer) => {
      if (socket.write(dataFrame(data))) return;
      stdin.pause();
      socket.once('drain', () => stdin.resume());
    });
    stdin.once('end', () => tell({ type: 'end' }));
  } else tell({ type: 'end' });
  const demuxer = mode.tty ? undefined : new StdDemuxer();
  const show = async (data: Buffer): Promise<void> => {
    if (demuxer === undefined) await written(stdout, data);
    else for (const piece of demuxer.push(data)) await written(piece.stream === 'stdout' ? stdout : stderr, piece.data);
  };
  try {
    return await exitCode(socket, show);
  } finally {
    socket.destroy();
    stdout.off('resize', sized);
    if (raw) stdin.setRawMode(false);
    stdin.pause().removeAllListeners('data');
  }
}

async function exitCode(socket: Duplex, show: (data: Buffer) => Promise<void>): Promise<number> {
  const frames = new StreamFrames();
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    for (const frame of frames.push(chunk)) {
      if (Buffer.isBuffer(frame)) await show(frame);
      else if (frame.type === 'error') throw new Error(frame.message);
      else if (frame.type === 'end') return frame.exitCode ?? 0;
    }
  }
  throw new Error('the connection ended before the command did');
}

function written(stream: NodeJS.WriteStream, data: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(data, (error) => (error === undefined || error === null ? resolve() : reject(error)));
  });
}
