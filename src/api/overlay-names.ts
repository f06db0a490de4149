/**
 * The engine's names for its parts of overlays, and the names that users gave: what users read has the latter. Pure.
 * Texts are changed where they stand instead of being written anew, so that nothing else in an answer can change.
 */
import type { OverlayHere } from '../model/attachments.ts';

interface EndpointJson {
  NetworkID?: string;
}

/** A JSON answer of the engine about containers, its networks called by their overlays' names and ids. */
export function withOverlayNames(text: string, overlays: readonly OverlayHere[]): string {
  const concerned = overlays.filter(({ engineNetwork }) => text.includes(`"${engineNetwork}"`));
  if (concerned.length === 0) return text;
  const ids = networkIds(parsedOr(text, {}));
  let changed = text;
  for (const { engineNetwork, name, id } of concerned) {
    changed = changed.replaceAll(JSON.stringify(engineNetwork), () => JSON.stringify(name));
    for (const engineId of ids.get(engineNetwork) ?? [])
      changed = changed.replaceAll(`"NetworkID":"${engineId}"`, `"NetworkID":"${id}"`);
  }
  return changed;
}

/** A sentence of the engine, its networks called by their overlays' names. */
export function inUserWords(message: string, overlays: readonly OverlayHere[]): string {
  return overlays.reduce((text, { engineNetwork, name }) => text.replaceAll(engineNetwork, () => name), message);
}

/** The `filters` of a request for containers: networks called by the engine's names. What is no filter stays as it is. */
export function withEngineNetworks(filters: string, overlays: readonly OverlayHere[]): string {
  const parsed = parsedOr(filters, undefined);
  if (typeof parsed !== 'object' || parsed === null || !('network' in parsed)) return filters;
  const { network } = parsed;
  const called = (said: unknown): unknown =>
    overlays.find(({ id, name }) => said === name || said === id)?.engineNetwork ?? said;
  // In the form it came in: the engine takes both of Docker's, but not mixed.
  const names = Array.isArray(network)
    ? network.map(called)
    : Object.fromEntries(Object.entries(network ?? {}).map(([name, value]) => [called(name), value]));
  return JSON.stringify({ ...parsed, network: names });
}

/** What the text says; what is no JSON is for the engine to refuse, or for the client to read. */
function parsedOr(text: string, otherwise: unknown): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return otherwise;
  }
}

/** Engine network → the ids it has in `value`, one container or a list of them. */
function networkIds(value: unknown): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  for (const container of Array.isArray(value) ? value : [value]) {
    const { NetworkSettings } = container as { NetworkSettings?: { Networks?: Record<string, EndpointJson | null> } };
    const networks = NetworkSettings?.Networks;
    for (const [name, endpoint] of Object.entries(networks ?? {})) {
      const id = endpoint?.NetworkID;
      if (id) found.set(name, (found.get(name) ?? new Set<string>()).add(id));
    }
  }
  return found;
}
