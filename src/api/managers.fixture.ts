/** For tests with several managers: the API of each, and the way between them as it is, with TLS on loopback. */
import type { RequestListener } from 'node:http';
import { managers, type Managers, type Member } from '../dispatch/managers.fixture.ts';
import { startApi, type TestApi } from './api.fixture.ts';
import type { Leadership } from './leader.ts';
import { initRequest, initShape } from './validate/swarm-requests.ts';

export interface ApiManager extends TestApi {
  member: Member;
  /** What this manager believes, if not what is so. */
  believes: Leadership | undefined;
  /** In order, as it lists them. */
  configNames(): Promise<string[]>;
}

export interface ApiManagers extends Managers {
  apis: ApiManager[];
  /** What `asked` comes to while the time of all managers goes on. */
  overTime<T>(asked: Promise<T>): Promise<T>;
}

/** The body that makes a config. */
export const config = (Name: string) => ({ Name, Labels: {}, Data: 'aGVsbG8=' });

/** `count` managers, the first of which leads; `playEngine` answers what reaches an engine. */
export async function apiManagers(
  count: number,
  playEngine?: (at: number) => RequestListener | undefined,
): Promise<ApiManagers> {
  const apis: ApiManager[] = [];
  let leader: Member | undefined;
  const all = await managers(count, (at) => ({ api: (stream) => apis[at]!.api.serveTunnel(stream) }));
  [leader] = all.members;
  await leader!.store.update((tx) => {
    const [row] = tx.clusters.all();
    tx.clusters.update({ ...row!, spec: initRequest(initShape.parse({})).spec });
  });
  for (const [at, member] of all.members.entries()) {
    const leadership = (): Leadership =>
      apis[at]?.believes ?? {
        leading: member.store.leading,
        ...(leader === undefined ? {} : { leader: { nodeId: leader.nodeId, address: leader.address } }),
      };
    const started = await startApi(playEngine?.(at), 'manager', undefined, undefined, {
      store: () => member.store,
      streams: () => member.server.streams,
      leadership,
      tunnel: (signal) => member.server.tunnel(signal),
      random: Math.random,
    });
    started.cluster.current = { ...started.cluster.current, nodeId: member.nodeId };
    const configNames = async () => {
      const { json: list } = await started.call('GET', '/configs');
      return (list as { Spec: { Name: string } }[]).map(({ Spec }) => Spec.Name).toSorted();
    };
    apis.push({ ...started, member, believes: undefined, configNames });
  }
  return {
    ...all,
    apis,
    async overTime(asked) {
      const over = new AbortController();
      const done = asked.finally(() => over.abort());
      while (!over.signal.aborted) for (const { clock } of apis) await clock.advance(100);
      return done;
    },
    async stepDown() {
      leader = undefined;
      await all.stepDown();
    },
    async elect(member) {
      leader = undefined;
      await all.elect(member);
      leader = member;
    },
    async close() {
      await Promise.all(apis.map((api) => api.close()));
      await all.close();
    },
  };
}
