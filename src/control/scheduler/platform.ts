/** Platforms as images and hosts name them: one processor has several names. Pure. */
import type { Platform } from '../../model/specs.ts';

const ALIASES: Readonly<Record<string, string>> = {
  x86_64: 'amd64',
  'x86-64': 'amd64',
  aarch64: 'arm64',
  armv6l: 'arm',
  armv7l: 'arm',
  armhf: 'arm',
  i386: '386',
  i686: '386',
};

/** Go's name of an architecture, lower case: `x86_64` → `amd64`. */
export function normalArchitecture(name: string): string {
  const lower = name.toLowerCase();
  return ALIASES[lower] ?? lower;
}

/** True if one of `wanted` is the node's platform, or none is wanted. An empty part of a platform is any. */
export function platformFits(wanted: readonly Platform[], node: Required<Platform> | undefined): boolean {
  if (wanted.length === 0) return true;
  if (node === undefined) return false;
  return wanted.some(
    ({ OS, Architecture }) =>
      (!OS || OS.toLowerCase() === node.OS.toLowerCase()) &&
      (!Architecture || normalArchitecture(Architecture) === normalArchitecture(node.Architecture)),
  );
}
