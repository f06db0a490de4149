/** Makes one cluster of several daemons by plain Docker API calls; what is in it already stays. */
import { callJson, callText } from './api.ts';
import { waitUntil } from './processes.ts';

export interface Member {
  name: string;
  address: string;
  socket: string;
}

interface Info {
  Swarm: { LocalNodeState: string; NodeID: string };
}

interface NodeAnswer {
  ID: string;
  Description?: { Hostname?: string };
  Status: { State: string };
}

const READY_MS = 30_000;
const LISTEN = '0.0.0.0:2377';

/**
 * The first member begins the cluster and the others join it, the first `managers` of all as managers, one after the other.
 * Resolves when every member's node is ready.
 */
export async function formCluster(members: readonly Member[], managers: number): Promise<void> {
  const [manager, ...others] = members;
  if (manager === undefined) return;
  if (!(await isMember(manager))) {
    await callText(manager.socket, 'POST', '/swarm/init', {
      body: { ListenAddr: LISTEN, AdvertiseAddr: manager.address },
    });
  }
  const { JoinTokens: tokens } = await callJson<{ JoinTokens: { Worker: string; Manager: string } }>(
    manager.socket,
    'GET',
    '/swarm',
  );
  for (const other of others.slice(0, managers - 1)) await join(other, manager, tokens.Manager);
  await Promise.all(others.slice(managers - 1).map((worker) => join(worker, manager, tokens.Worker)));
  const ids = await Promise.all(members.map(nodeId));
  let waiting: NodeAnswer[] = [];
  await waitUntil(
    async () => {
      const nodes = await callJson<NodeAnswer[]>(manager.socket, 'GET', '/nodes');
      waiting = nodes.filter((node) => ids.includes(node.ID) && node.Status.State !== 'ready');
      return waiting.length === 0 && ids.every((id) => nodes.some((node) => node.ID === id));
    },
    READY_MS,
    () =>
      `after ${READY_MS / 1000} s these nodes are not ready: ${waiting.map((node) => node.Description?.Hostname ?? node.ID).join(', ')}`,
  );
}

async function join(member: Member, manager: Member, token: string): Promise<void> {
  if (await isMember(member)) return;
  await callText(member.socket, 'POST', '/swarm/join', {
    body: {
      ListenAddr: LISTEN,
      AdvertiseAddr: member.address,
      RemoteAddrs: [`${manager.address}:2377`],
      JoinToken: token,
    },
  });
}

async function isMember(member: Member): Promise<boolean> {
  return (await callJson<Info>(member.socket, 'GET', '/info')).Swarm.LocalNodeState !== 'inactive';
}

/** The id of the node that a daemon is in its cluster. */
async function nodeId(member: Member): Promise<string> {
  return (await callJson<Info>(member.socket, 'GET', '/info')).Swarm.NodeID;
}
