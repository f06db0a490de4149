/** The short forms of ports, mounts and commands, taken apart as Docker does it. Pure: errors are sentences. */

/** A short form that cannot be meant. */
export class ShortFormError extends Error {
  override readonly name = 'ShortFormError';
}

export interface ShortPort {
  target: number;
  /** Absent: the cluster chooses. */
  published?: number;
  protocol: string;
  /** Absent: every address. */
  hostIp?: string;
}

const PROTOCOLS = ['tcp', 'udp', 'sctp'];

/** `[[IP:]PUBLISHED:]TARGET[/PROTOCOL]`, where both may be ranges: one port for each. */
export function parsePorts(text: string): ShortPort[] {
  const [, ip, publishedText = '', targetText = '', protocol = 'tcp'] =
    /^(?:(\[[^\]]*\]|[^:[\]]+):(?=[^:]*:))?(?:([\d-]*):)?([\d-]+)(?:\/(\w+))?$/.exec(text) ?? [];
  const target = range(targetText);
  const published = publishedText === '' ? undefined : range(publishedText);
  if (
    target === undefined ||
    (publishedText !== '' && published === undefined) ||
    !PROTOCOLS.includes(protocol.toLowerCase())
  )
    throw new ShortFormError(
      `"${text}" is no port: [PUBLISHED:]TARGET[/tcp|udp|sctp] is needed, with numbers from 1 to 65535 or ranges`,
    );
  const size = ([first, last]: [number, number]): number => last - first + 1;
  if (published !== undefined && size(published) !== size(target) && size(target) !== 1)
    throw new ShortFormError(`"${text}": both ranges must have as many ports`);
  const count = published === undefined ? size(target) : Math.max(size(published), size(target));
  return Array.from({ length: count }, (_, at) => ({
    target: size(target) === 1 ? target[0] : target[0] + at,
    ...(published === undefined ? {} : { published: published[0] + at }),
    protocol: protocol.toLowerCase(),
    ...(ip === undefined || ip === '0.0.0.0' ? {} : { hostIp: ip }),
  }));
}

/** First and last of `80` or `80-89`. */
export function range(text: string): [number, number] | undefined {
  const [, from, to = from] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? [];
  const [first, last] = [Number(from), Number(to)];
  return from !== undefined && first >= 1 && last >= first && last <= 65_535 ? [first, last] : undefined;
}

export interface ShortMount {
  type: 'volume' | 'bind';
  source?: string;
  target: string;
  readOnly: boolean;
  noCopy: boolean;
  propagation?: string;
  /** Options that mean nothing to Docker: SELinux's `z`, say. */
  ignored: string[];
}

const PROPAGATIONS = ['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave'];

/** `[SOURCE:]TARGET[:OPTION,…]`: a source that begins like a path is one of the node's, else a volume's name. */
export function parseMount(text: string): ShortMount {
  const parts = text.split(':');
  if (parts.length > 3 || parts.includes(''))
    throw new ShortFormError(`"${text}" is no mount: [SOURCE:]TARGET[:ro] is needed`);
  const [first = '', second, options = ''] = parts;
  const source = second === undefined ? undefined : first;
  const chosen = options.split(',');
  const propagation = chosen.findLast((option) => PROPAGATIONS.includes(option));
  const known = ['', 'ro', 'rw', 'nocopy', ...PROPAGATIONS];
  return {
    type: source !== undefined && /^[./~]/.test(source) ? 'bind' : 'volume',
    ...(source === undefined ? {} : { source }),
    target: second ?? first,
    readOnly: chosen.findLast((option) => option === 'ro' || option === 'rw') === 'ro',
    noCopy: chosen.includes('nocopy'),
    ...(propagation === undefined ? {} : { propagation }),
    ignored: chosen.filter((option) => !known.includes(option)),
  };
}

/** A command line as words: quotes and backslashes as in a POSIX shell, and nothing else of one. */
export function shellWords(line: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  for (const [part] of line.matchAll(/'[^']*'|"(?:\\[^]|[^"\\])*"|\\[^]|\s+|[^'"\\\s]+|['"\\]/g)) {
    if (/^\s/.test(part)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (part.length === 1 && /['"\\]/.test(part)) {
      throw new ShortFormError(`${line}: a quote is never closed, or a backslash ends the line`);
    } else word = (word ?? '') + unquoted(part);
  }
  return word === undefined ? words : [...words, word];
}

function unquoted(part: string): string {
  if (part.startsWith("'")) return part.slice(1, -1);
  if (part.startsWith('"')) return part.slice(1, -1).replace(/\\(["\\$`])/g, '$1');
  return part.startsWith('\\') ? part.slice(1) : part;
}
