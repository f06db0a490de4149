/** Where an engine listens: a unix socket or a TCP port. */

export type EngineAddress = { socketPath: string } | { host: string; port: number };

/**
 * Reads `unix:///path`, `tcp://host:port`, `http://host:port` or a plain absolute path.
 * @throws RangeError with a sentence for anything else.
 */
export function parseEngineAddress(text: string): EngineAddress {
  if (text.startsWith('/')) return { socketPath: text };
  if (text.startsWith('unix://')) {
    const socketPath = text.slice('unix://'.length);
    if (!socketPath.startsWith('/')) throw new RangeError(`not an absolute socket path: ${text}`);
    return { socketPath };
  }
  const match = /^(?:tcp|http):\/\/(\[[^\]]+\]|[^:/]+)(?::(\d+))?\/?$/.exec(text);
  if (match?.[1] === undefined) throw new RangeError(`not an engine address: ${text}`);
  return { host: match[1].replace(/^\[|\]$/g, ''), port: Number(match[2] ?? 2375) };
}

export function formatEngineAddress(address: EngineAddress): string {
  return 'socketPath' in address ? `unix://${address.socketPath}` : `tcp://${address.host}:${address.port}`;
}
