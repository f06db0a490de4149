/** What a compose tree says, read and checked, for a stack of a given name: what is to be made through Docker's API. */
import type { ServiceSpec } from '../../model/specs.ts';

export const NAMESPACE_LABEL = 'com.docker.stack.namespace';
export const IMAGE_LABEL = 'com.docker.stack.image';

export interface NetworkPlan {
  name: string;
  /** The body of `POST /networks/create`. */
  body: Record<string, unknown>;
}

/** A secret or a config to be made. */
export interface PayloadPlan {
  name: string;
  labels: Record<string, string>;
  data: Uint8Array;
  driver?: { Name: string; Options?: Record<string, string> };
  templating?: { Name: string };
}

export interface ServicePlan {
  /** Its name in the file. */
  key: string;
  /**
   * Its networks are names; its secrets and configs are named, and their ids are '' until they are known.
   * Image: as in the file.
   */
  spec: ServiceSpec;
}

export interface StackPlan {
  name: string;
  networks: NetworkPlan[];
  /** Names of networks that must be there. */
  externalNetworks: string[];
  secrets: PayloadPlan[];
  configs: PayloadPlan[];
  /** Those that others depend on come first. */
  services: ServicePlan[];
}

/** How names of the file become names in the cluster, and what says that something belongs to the stack. */
export class Namespace {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  scope(name: string): string {
    return `${this.name}_${name}`;
  }

  labels(own: Record<string, string> = {}): Record<string, string> {
    return { ...own, [NAMESPACE_LABEL]: this.name };
  }
}

/** An object without the members that say nothing: as Go writes what it may leave out. */
export function said<T extends object>(object: T): T {
  const kept = Object.entries(object).filter(([, value]) => {
    if (value === undefined || value === '' || value === 0 || value === false) return false;
    return !Array.isArray(value) || value.length > 0;
  });
  return Object.fromEntries(kept) as T;
}
