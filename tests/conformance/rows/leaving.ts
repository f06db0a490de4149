/** The end of a cluster: a worker leaves, its node is removed, the manager leaves by force (docker-api.md 1.2, 1.4, 1.5). */
import { del, docker, get, post, type Row } from '../row.ts';

export const leaving: Row[] = [
  { covers: '1.5 stack services', call: docker('stack', 'services', 'shop'), status: 0, text: /web +replicated +2\/2/ },
  {
    covers: '1.5 stack ps',
    call: docker('stack', 'ps', 'shop', '--format', '{{.Name}}'),
    status: 0,
    text: /^web\.1$/m,
  },
  {
    covers: '1.5 stack ls',
    call: docker('stack', 'ls', '--format', '{{.Name}} {{.Services}}'),
    status: 0,
    text: /^shop 1$/m,
  },
  { covers: '1.5 stack rm', call: docker('stack', 'rm', 'shop'), status: 0, text: /Removing service web/ },
  { covers: '1.4 POST /swarm/leave', on: 'h2', call: post('/swarm/leave'), status: 200 },
  {
    covers: '1.2 leave when out',
    on: 'h2',
    call: post('/swarm/leave'),
    status: 503,
    message: 'This node is not part of a swarm',
  },
  {
    covers: '1.4 DELETE /nodes/{id}',
    call: get('/nodes/{worker}'),
    status: 200,
    eventually: true,
    body: { Status: { State: 'down' } },
  },
  { covers: '1.4 DELETE /nodes/{id}', call: del('/nodes/{worker}'), status: 200 },
  { covers: '1.4 DELETE /nodes/{id}', call: get('/nodes/{worker}'), status: 404, message: 'node {worker} not found' },
  { covers: '1.4 POST /swarm/leave, force', call: post('/swarm/leave?force=1'), status: 200 },
  { covers: '1.4 POST /swarm/leave, force', call: get('/services'), status: 503 },
];
