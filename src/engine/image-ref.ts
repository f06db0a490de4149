/** Image references as people write them, taken apart: `registry/name:tag@digest`. */

export interface ImageRef {
  /** Everything before tag and digest. */
  name: string;
  /** `latest` if the reference has neither tag nor digest. */
  tag?: string;
  /** `sha256:…` */
  digest?: string;
  /** Host (and port) it is pulled from. */
  registry: string;
}

const DEFAULT_REGISTRY = 'docker.io';

export function parseImageRef(text: string): ImageRef {
  const [tagged = '', digest] = text.split('@', 2);
  // A colon after the last slash begins a tag; before it, a port.
  const colon = tagged.indexOf(':', tagged.lastIndexOf('/') + 1);
  const name = colon === -1 ? tagged : tagged.slice(0, colon);
  const tag = colon === -1 ? undefined : tagged.slice(colon + 1);
  const [host = ''] = name.split('/', 1);
  const named = name.includes('/') && (/[.:]/.test(host) || host === 'localhost');
  const registry = named ? host : DEFAULT_REGISTRY;
  if (digest !== undefined) return { name, tag, digest, registry };
  return { name, tag: tag ?? 'latest', registry };
}
