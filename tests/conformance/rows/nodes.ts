/** Nodes: list, inspect, update, the guards of removal (docker-api.md 1.2–1.5). */
import { expect } from 'vitest';
import { CAPITAL, del, docker, FAULT, get, post, type Row } from '../row.ts';

const list = (filters: string, ...ids: string[]): Row => ({
  covers: '1.3 Accepted keys, nodes',
  call: get(`/nodes?filters=${filters}`),
  status: 200,
  body: ids.map((ID) => ({ ID })),
});

export const nodes: Row[] = [
  {
    covers: '1.4 GET /nodes',
    call: get('/nodes'),
    status: 200,
    eventually: true,
    body: expect.arrayContaining([
      expect.objectContaining({ ID: '{worker}', Status: expect.objectContaining({ State: 'ready' }) }),
      expect.objectContaining({ ID: '{self}', Status: expect.objectContaining({ State: 'ready' }) }),
    ]),
  },
  {
    covers: '1.4 GET /nodes/{id}',
    call: get('/nodes/{self}'),
    status: 200,
    body: {
      ID: '{self}',
      Version: { Index: expect.any(Number) },
      CreatedAt: expect.any(String),
      UpdatedAt: expect.any(String),
      Spec: { Labels: {}, Role: 'manager', Availability: 'active' },
      Description: {
        Hostname: expect.any(String),
        Platform: { Architecture: 'x86_64', OS: 'linux' },
        Resources: { NanoCPUs: expect.any(Number), MemoryBytes: expect.any(Number) },
        Engine: { EngineVersion: expect.any(String), Plugins: expect.any(Array) },
        TLSInfo: {
          TrustRoot: expect.any(String),
          CertIssuerSubject: expect.any(String),
          CertIssuerPublicKey: expect.any(String),
        },
      },
      Status: { State: 'ready', Addr: '{address}' },
      ManagerStatus: { Leader: true, Reachability: 'reachable', Addr: '{address}:2377' },
    },
    save: { hostname: 'Description.Hostname' },
  },
  {
    covers: '1.4 GET /nodes/{id}',
    call: get('/nodes/{worker}'),
    status: 200,
    body: {
      ID: '{worker}',
      Spec: { Role: 'worker', Availability: 'active' },
      Status: { State: 'ready', Addr: '{address2}' },
    },
    absent: ['ManagerStatus'],
    save: { workerHostname: 'Description.Hostname', workerVersion: 'Version.Index' },
  },
  {
    covers: '1.3 Reference resolution, node by hostname',
    call: get('/nodes/{workerHostname}'),
    status: 200,
    body: { ID: '{worker}' },
  },
  { covers: '1.2 not found', call: get('/nodes/nobody'), status: 404, message: 'node nobody not found' },
  list('{"id":["{worker}"]}', '{worker}'),
  list('{"name":["{workerHostname}"]}', '{worker}'),
  list('{"role":{"manager":true}}', '{self}'),
  list('{"role":["worker"]}', '{worker}'),
  list('{"node.label":["zone=a"]}'),
  {
    covers: '1.3 Accepted keys, nodes',
    call: get('/nodes?filters={"membership":["accepted"]}'),
    status: 200,
    body: [{}, {}],
  },
  {
    covers: '1.3 Accepted keys, nodes',
    call: get('/nodes?filters={"wrong":["x"]}'),
    status: 400,
    message: "invalid filter 'wrong'",
    swarm: CAPITAL,
  },
  { covers: '1.3 filters', call: get('/nodes?filters={'), status: 400, swarm: { status: 500, why: FAULT } },
  // update
  {
    covers: '1.4 POST /nodes/{id}/update',
    call: post('/nodes/{worker}/update?version={workerVersion}', {
      Name: 'second',
      Labels: { zone: 'a' },
      Role: 'worker',
      Availability: 'pause',
    }),
    status: 200,
  },
  {
    covers: '1.4 POST /nodes/{id}/update',
    call: get('/nodes/{worker}'),
    status: 200,
    body: { Spec: { Name: 'second', Labels: { zone: 'a' }, Availability: 'pause', Role: 'worker' } },
    save: { workerVersion2: 'Version.Index' },
  },
  list('{"node.label":["zone=a"]}', '{worker}'),
  list('{"node.label":["zone"]}', '{worker}'),
  {
    covers: '1.2 stale version',
    call: post('/nodes/{worker}/update?version={workerVersion}', { Role: 'worker', Availability: 'active' }),
    status: 500,
    message: 'update out of sequence',
  },
  {
    covers: '1.3 Version',
    call: post('/nodes/{worker}/update?version=abc', { Role: 'worker', Availability: 'active' }),
    status: 400,
    message: /^invalid node version 'abc'/,
  },
  {
    covers: '1.4 POST /nodes/{id}/update',
    call: post('/nodes/{worker}/update?version={workerVersion2}', { Role: 'boss', Availability: 'active' }),
    status: 400,
    message: /^invalid Role: "boss"$/,
  },
  {
    covers: '1.4 POST /nodes/{id}/update',
    call: post('/nodes/{worker}/update?version={workerVersion2}', { Role: 'worker', Availability: 'asleep' }),
    status: 400,
    message: /^invalid Availability: "asleep"$/,
  },
  {
    covers: '1.5 node update',
    call: docker('node', 'update', '--availability', 'active', '--label-rm', 'zone', '{worker}'),
    status: 0,
  },
  {
    covers: '1.5 node update',
    call: get('/nodes/{worker}'),
    status: 200,
    body: { Spec: { Availability: 'active', Labels: {} } },
  },
  {
    covers: '1.2 demote last manager',
    call: docker('node', 'demote', '{self}'),
    status: 1,
    text: /attempting to demote the last manager of the swarm/,
  },
  {
    covers: '1.2 node rm manager',
    call: del('/nodes/{self}'),
    status: 400,
    message:
      'node {self} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal',
  },
  {
    covers: '1.2 node rm up',
    call: del('/nodes/{worker}'),
    status: 400,
    message: "node {worker} is not down and can't be removed",
  },
  { covers: '1.2 not found', call: del('/nodes/nobody'), status: 404, message: 'node nobody not found' },
  { covers: '1.5 node ls', call: docker('node', 'ls'), status: 0, text: /^\w{25} \* .*Ready\s+Active\s+Leader/m },
  {
    covers: '1.5 node inspect self',
    call: docker('node', 'inspect', 'self', '--pretty'),
    status: 0,
    text: /Manager Status:[\s\S]*Reachable/,
  },
  { covers: '1.5 node ps', call: docker('node', 'ps', 'self'), status: 0, text: /^ID\s+NAME/ },
];
