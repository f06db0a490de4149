/**
 * What a request's path says before its route: the environment (`/env/NAME`, decisions-and-traps.md 13) and the API
 * version (`/v1.NN`). Pure.
 */

export interface RequestTarget {
  /** Path and query as they came. */
  url: string;
  /** The environment named, or undefined for the default one. */
  environment: string | undefined;
  /** Such as `1.41`; undefined if the path names none. */
  version: string | undefined;
  /** Path and query without environment and version: what routes match. */
  route: string;
  /** Path and query as the engine is to get them: the version as the client wrote it, no environment. */
  engineUrl: string;
}

export function parseTarget(url: string): RequestTarget {
  const inEnvironment = /^\/env\/([^/?]+)(?=[/?]|$)/.exec(url);
  const engineUrl = inEnvironment === null ? url : startingWithSlash(url.slice(inEnvironment[0].length));
  const versioned = /^\/v(\d+\.\d+)(?=[/?]|$)/.exec(engineUrl);
  return {
    url,
    environment: inEnvironment?.[1],
    version: versioned?.[1],
    route: versioned === null ? engineUrl : startingWithSlash(engineUrl.slice(versioned[0].length)),
    engineUrl,
  };
}

/** What stood before the route: environment and version. */
export function prefixOf({ environment, version }: RequestTarget): string {
  return `${environment === undefined ? '' : `/env/${environment}`}${version === undefined ? '' : `/v${version}`}`;
}

/** The paths this API answers itself, by their first segment; the rest goes to the engine. */
const OWN = new Set([
  '_ping',
  'configs',
  'distribution',
  'drover',
  'events',
  'info',
  'networks',
  'nodes',
  'secrets',
  'services',
  'swarm',
  'tasks',
  'version',
]);

/** True for a route that is answered here, whatever the request says about upgrading. */
export function isOwnRoute(route: string): boolean {
  return OWN.has(/^\/([^/?]*)/.exec(route)?.[1] ?? '');
}

function startingWithSlash(path: string): string {
  return path.startsWith('/') ? path : `/${path}`;
}
