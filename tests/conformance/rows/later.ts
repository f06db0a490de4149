/** What a later version brings: lists of it are empty, making it is refused with a sentence (decisions-and-traps.md 2). */
import { del, docker, get, post, type Row } from '../row.ts';

const LATER = 'not built yet: decision 2, refused with a sentence and never half done';

export const later: Row[] = ['secret', 'config']
  .flatMap((kind): Row[] => [
    { covers: `1.4 GET /${kind}s`, call: get(`/${kind}s`), status: 200, body: [] },
    { covers: '1.2 not found', call: get(`/${kind}s/nobody`), status: 404, message: `${kind} nobody not found` },
    { covers: '1.2 not found', call: del(`/${kind}s/nobody`), status: 404, message: `${kind} nobody not found` },
    {
      covers: `1.4 POST /${kind}s/create`,
      call: post(`/${kind}s/create`, { Name: 'x', Labels: {}, Data: 'c2VjcmV0' }),
      status: 501,
      message: `${kind}s are not supported yet`,
      swarm: { status: 201, message: null, why: LATER },
    },
  ])
  .concat([
    {
      covers: '1.4 POST /services/create, ReplicatedJob',
      call: post('/services/create', {
        Name: 'job',
        TaskTemplate: { ContainerSpec: { Image: '{image}' } },
        Mode: { ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 1 } },
      }),
      status: 501,
      message: /jobs are not supported yet/,
      swarm: { status: 201, message: null, why: LATER },
    },
    {
      covers: '1.4 POST /services/create, Runtime',
      call: post('/services/create', {
        Name: 'plugin',
        TaskTemplate: { Runtime: 'plugin', PluginSpec: { Name: 'p', Remote: 'p' } },
        Mode: { Replicated: { Replicas: 0 } },
      }),
      status: 501,
      message: 'services of runtime plugin are not supported',
      notOnSwarm: 'only an experimental engine takes it',
    },
    {
      covers: '1.4 POST /networks/create',
      call: post('/networks/create', { Name: 'lan', Driver: 'macvlan', Scope: 'swarm' }),
      status: 501,
      message: /macvlan in the scope of the swarm are not supported yet: use the overlay driver/,
      swarm: { status: 201, message: null, why: LATER },
    },
    {
      covers: '1.4 POST /networks/create',
      call: post('/networks/create', { Name: 'secret', Driver: 'overlay', Options: { encrypted: '' } }),
      status: 501,
      message: 'encrypted overlay networks are not supported yet',
      swarm: { status: 201, message: null, why: LATER },
    },
    {
      covers: '1.4 POST /networks/create',
      call: post('/networks/create', {
        Name: 'six',
        Driver: 'overlay',
        EnableIPv6: true,
        IPAM: { Config: [{ Subnet: 'fd00:1::/64' }] },
      }),
      status: 501,
      message: 'IPv6 in overlay networks is not supported yet',
      swarm: { status: 201, message: null, why: LATER },
    },
    {
      covers: '1.4 POST /networks/create',
      call: post('/networks/create', { Name: 'att', Driver: 'overlay', Attachable: true }),
      status: 201,
    },
    {
      covers: '1.4 POST /networks/{id}/connect',
      call: post('/networks/att/connect', { Container: 'nobody' }),
      status: 501,
      message: /to connect single containers is not supported yet/,
      swarm: { status: 404, message: /No such container: nobody/, why: LATER },
    },
    {
      covers: '1.4 POST /networks/create, Attachable, and docker run',
      call: post('/containers/create', { Image: '{image}', HostConfig: { NetworkMode: 'att' } }),
      status: 501,
      message: /attaching single containers to overlays is not supported yet/,
      swarm: { status: 201, message: null, why: LATER },
    },
    { covers: '1.4 DELETE /networks/{id}', call: del('/networks/att'), status: 204 },
    {
      covers: '1.5 swarm ca --rotate',
      call: docker('swarm', 'ca', '--rotate', '--detach'),
      status: 1,
      text: /rotation of the root CA is not supported yet/,
      swarm: { status: 0, text: /^$/, why: 'comes with several managers; until then refused with a sentence' },
    },
    {
      covers: '1.5 swarm update --autolock',
      call: docker('swarm', 'update', '--autolock=true'),
      status: 1,
      text: /autolock is not supported yet/,
      swarm: { status: 0, text: /Swarm updated/, why: LATER },
    },
    {
      covers: '1.5 node promote',
      call: docker('node', 'promote', '{worker}'),
      status: 1,
      text: /several managers in one cluster are not supported yet/,
      notOnSwarm: 'it would do it; several managers come with a later version',
    },
    {
      covers: '1.4 GET /services/{id}/logs',
      call: get('/services/web/logs?stdout=1'),
      status: 501,
      message: /logs of services and tasks are not supported yet/,
      swarm: { status: 200, message: null, why: LATER },
    },
  ]);
