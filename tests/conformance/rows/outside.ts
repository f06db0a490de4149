/** Transport and errors, and what a node that is in no cluster says (docker-api.md 1.1, 1.2). */
import { expect } from 'vitest';
import { del, docker, FAULT, get, post, type Row } from '../row.ts';

const NOT_IN_SWARM =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';

const MANAGERS_ONLY: Row[] = [
  get('/swarm'),
  get('/services'),
  get('/services/x'),
  del('/services/x'),
  get('/nodes'),
  get('/nodes/x'),
  del('/nodes/x'),
  get('/tasks'),
  get('/tasks/x'),
  get('/secrets'),
  get('/configs'),
  get('/swarm/unlockkey'),
].map((call) => ({ covers: '1.2 Not in swarm', call, status: 503, message: NOT_IN_SWARM }));

export const outside: Row[] = [
  {
    covers: '1.1 Ping',
    call: get('/_ping'),
    status: 200,
    text: /^OK$/,
    headers: {
      'Api-Version': '1.41',
      Ostype: 'linux',
      'Docker-Experimental': /^(true|false)$/,
      'Cache-Control': 'no-cache, no-store, must-revalidate',
      Pragma: 'no-cache',
      'Content-Type': 'text/plain; charset=utf-8',
    },
  },
  { covers: '1.1 Ping', call: { method: 'HEAD', path: '/_ping' }, status: 200, headers: { 'Api-Version': '1.41' } },
  {
    covers: '1.1 Ping, header Swarm',
    call: get('/_ping'),
    status: 200,
    headers: { Swarm: 'inactive' },
    swarm: { headers: {}, why: 'engine 20.10 does not know the header yet; newer engines send it' },
  },
  {
    covers: '1.1 Every response',
    call: get('/v1.41/info'),
    status: 200,
    headers: {
      'Api-Version': '1.41',
      Ostype: 'linux',
      Server: /^Docker\/.* \(linux\)$/,
      'Content-Type': 'application/json',
    },
    body: {
      Swarm: {
        NodeID: '',
        NodeAddr: '',
        LocalNodeState: 'inactive',
        ControlAvailable: false,
        Error: '',
        RemoteManagers: null,
      },
    },
  },
  {
    covers: '1.1 Version too new',
    call: get('/v1.99/info'),
    status: 400,
    message: 'client version 1.99 is too new. Maximum supported API version is 1.41',
  },
  {
    covers: '1.1 Version too old',
    call: get('/v1.11/info'),
    status: 400,
    message:
      'client version 1.11 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version',
    swarm: {
      message: null,
      text: /Minimum supported API version is 1.12, please upgrade/,
      why: 'clients below 1.24 cannot speak to swarm mode; and the answer is JSON, as in later engines',
    },
  },
  { covers: '1.1 Unknown route', call: get('/nothing'), status: 404, message: 'page not found' },
  { covers: '1.1 Wrong method', call: { method: 'PUT', path: '/services' }, status: 404, message: 'page not found' },
  { covers: '1.1 OPTIONS', call: { method: 'OPTIONS', path: '/services' }, status: 200 },
  { covers: '1.1 Unversioned paths', call: get('/version'), status: 200, body: { ApiVersion: '1.41', Os: 'linux' } },
  {
    covers: '1.1 Version too old',
    call: get('/version'),
    status: 200,
    body: { MinAPIVersion: '1.24' },
    swarm: { body: { MinAPIVersion: '1.12' }, why: 'clients below 1.24 cannot speak to swarm mode' },
  },
  ...MANAGERS_ONLY,
  {
    covers: '1.2 Not in swarm',
    call: post('/services/create', { Name: 'x', TaskTemplate: { ContainerSpec: { Image: 'x' } } }),
    status: 503,
    message: NOT_IN_SWARM,
  },
  {
    covers: '1.2 Not in swarm',
    call: post('/networks/create', { Name: 'x', Driver: 'overlay' }),
    status: 503,
    message: NOT_IN_SWARM,
    swarm: { status: 500, why: 'engine 20.10 says 500 here and 503 everywhere else' },
  },
  { covers: '1.2 Not in swarm', call: post('/swarm/update?version=1', {}), status: 503, message: NOT_IN_SWARM },
  {
    covers: '1.2 leave when out',
    call: post('/swarm/leave'),
    status: 503,
    message: 'This node is not part of a swarm',
  },
  {
    covers: '1.2 unlock, not locked',
    call: post('/swarm/unlock', { UnlockKey: 'SWMKEY-1-x' }),
    status: 503,
    message: NOT_IN_SWARM,
  },
  { covers: '1.3 Request body', call: post('/swarm/init'), status: 400, message: /EOF/ },
  { covers: '1.3 Request body', call: post('/swarm/init', '{"ListenAddr":'), status: 400 },
  {
    covers: '1.3 Request body',
    call: post('/swarm/init', 'ListenAddr=x', { 'Content-Type': 'text/plain' }),
    status: 400,
    message: /Content-Type/,
    swarm: { message: /^invalid character/, why: 'engine 20.10 does not look at the type; newer ones do' },
  },
  {
    covers: '1.2 init, an address that is none',
    call: post('/swarm/init', { ListenAddr: '0.0.0.0:2377', AdvertiseAddr: '0.0.0.0' }),
    status: 400,
    message: 'advertise address must be a non-zero IP address or network interface (with optional port number)',
  },
  {
    covers: '1.2 init, an address that is none',
    call: post('/swarm/init', { ListenAddr: '0.0.0.0:2377', AdvertiseAddr: '{address}', DataPathAddr: '0.0.0.0' }),
    status: 400,
    message: 'data path address must be a non-zero IP address or network interface (without a port number)',
  },
  {
    covers: '1.2 init, data path port',
    call: post('/swarm/init', { ListenAddr: '0.0.0.0:2377', AdvertiseAddr: '{address}', DataPathPort: 80 }),
    status: 400,
    message: 'Datapath port number is not in valid range (1024-49151) : 80',
    swarm: { status: 500, why: FAULT },
  },
  {
    covers: '1.3 Limits, cluster spec name',
    call: post('/swarm/init', { ListenAddr: '0.0.0.0:2377', AdvertiseAddr: '{address}', Spec: { Name: 'mine' } }),
    status: 400,
    message: 'swarm spec must be named "default"',
  },
  {
    covers: '1.4 POST /swarm/init, Availability',
    call: post('/swarm/init', { ListenAddr: '0.0.0.0:2377', AdvertiseAddr: '{address}', Availability: 'asleep' }),
    status: 400,
    message: 'invalid Availability: "asleep"',
    swarm: { status: 500, why: FAULT },
  },
  {
    covers: '1.4 POST /swarm/join',
    call: post('/swarm/join', { ListenAddr: '0.0.0.0:2377', JoinToken: 'x' }),
    status: 400,
    message: 'at least 1 RemoteAddr is required to join',
  },
  {
    covers: '1.4 POST /swarm/join, token',
    call: post('/swarm/join', { ListenAddr: '0.0.0.0:2377', RemoteAddrs: ['{address}:2377'], JoinToken: 'x' }),
    status: 400,
    message: /^invalid join token/,
    swarm: { status: 500, why: FAULT },
  },
  {
    covers: '1.5 node ls',
    call: docker('node', 'ls'),
    status: 1,
    text: /^Error response from daemon: This node is not a swarm manager\. Use "docker swarm init"/,
  },
  {
    covers: '1.4 GET /networks',
    call: get('/networks?filters={"scope":["swarm"]}'),
    status: 200,
    body: expect.any(Array),
  },
];
