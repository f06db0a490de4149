/** An engine that hangs, on the lab: its process is stopped and goes on. What it was to run waits, and nothing else notices. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Lab } from './lab.ts';

let lab: Lab;
beforeAll(async () => {
  lab = await Lab.up('robust', { hosts: 2 });
});
afterAll(async () => {
  await lab?.down();
});

/** Sends a signal to the engine's own process of a host, which is alone in its PID namespace. */
async function signalEngine(host: string, signal: 'STOP' | 'CONT'): Promise<void> {
  await lab.exec(host, 'sh', '-c', `kill -${signal} $(pidof dockerd)`);
}

test('an engine that hangs: its host stays, what was to start there waits, and starts when it goes on', async () => {
  await lab.docker('h1', 'service', 'create', '--detach', '--name', 'steady', '--mode', 'global', lab.image('web:1'));
  await lab.converged('steady', 2);
  const before = await lab.engine('h2', 'ps', '-q', '--no-trunc');
  await signalEngine('h2', 'STOP');
  try {
    await lab.docker('h1', 'service', 'create', '--detach', '--name', 'late', '--mode', 'global', lab.image('web:1'));
    await lab.converged('late', 1);
    expect(await lab.runningOn('steady')).toHaveLength(2);
    // The API of that host answers what is the cluster's, in time.
    const info = await lab.tryDocker('h2', 'info', '--format', '{{.Swarm.LocalNodeState}}');
    expect(info.stdout.trim()).toBe('active');
    expect(await lab.docker('h2', 'network', 'ls', '--format', '{{.Name}}')).toBe('ingress');
    // By now a lost host would have been found out: this one has its agent.
    const nodes = await lab.docker('h1', 'node', 'ls', '--format', '{{.Status}}');
    expect(nodes.split('\n')).toEqual(['Ready', 'Ready']);
  } finally {
    await signalEngine('h2', 'CONT');
  }
  await lab.converged('late', 2);
  const after = await lab.engine('h2', 'ps', '-q', '--no-trunc');
  for (const id of before.split('\n')) expect(after).toContain(id);
});
