/** How the members of an etcd are, each by its own word. */
import { endpointOf, type Connect, type Member, type MemberApi, type MemberStatus } from './api.ts';

/** How one member is, and where it was asked: host:port. */
export interface Asked extends MemberStatus {
  endpoint: string;
}

/** What `ask` makes of the member at `endpoint` (host:port). */
export async function askAt<T>(connect: Connect, endpoint: string, ask: (api: MemberApi) => Promise<T>): Promise<T> {
  const api = connect([endpoint]);
  try {
    return await ask(api);
  } finally {
    api.close();
  }
}

/** Of those that answer, whatever became of the others. */
export async function statusesOf(connect: Connect, members: readonly Member[]): Promise<Asked[]> {
  const asked = members
    .filter(({ clientUrls }) => clientUrls.length > 0)
    .map(async ({ clientUrls }) => {
      const endpoint = endpointOf(clientUrls[0]!);
      const status = await askAt(connect, endpoint, (api) => api.status()).catch(() => undefined);
      return status && { ...status, endpoint };
    });
  return (await Promise.all(asked)).filter((status) => status !== undefined);
}
