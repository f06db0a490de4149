/** The two that are asked: droverd on a lab of its own, and the engines' own swarm mode on another. */
import { Lab } from '../e2e/lab.ts';
import type { Variables } from './row.ts';

export interface Subject {
  kind: 'drover' | 'swarm';
  sockets: { h1: string; h2: string };
  /** Facts that rows may use as `{address}`, `{address2}`, `{image}`, `{registry}`. */
  facts: Variables;
  down(): Promise<void>;
}

/** Two hosts that know nothing of a cluster, and the example images. */
export async function bringUp(kind: Subject['kind']): Promise<Subject> {
  const lab = await Lab.up(kind === 'drover' ? 'conf' : 'conf-swarm', {
    hosts: 2,
    ...(kind === 'drover' ? { bare: true } : { enginesOnly: true }),
  });
  const path = async (host: string): Promise<string> => (await lab.socket(host)).replace(/^unix:\/\//, '');
  return {
    kind,
    sockets: { h1: await path('h1'), h2: await path('h2') },
    facts: new Map([
      ['address', await lab.address('h1')],
      ['address2', await lab.address('h2')],
      ['registry', lab.registry],
      ['image', lab.image('web:1')],
      ['image2', lab.image('web:2')],
    ]),
    down: () => lab.down(),
  };
}
