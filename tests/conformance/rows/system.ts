/** The node's own answers with the cluster's part in them: distribution, version, df, events (docker-api.md 1.4, 1.7). */
import { expect } from 'vitest';
import { docker, get, post, type Row } from '../row.ts';

const message = (Type: string, Action: string, name: string): unknown =>
  expect.objectContaining({
    Type,
    Action,
    scope: 'swarm',
    time: expect.any(Number),
    timeNano: expect.any(Number),
    Actor: { ID: expect.stringMatching(/^[0-9a-z]{25}$/), Attributes: expect.objectContaining({ name }) },
  });

export const system: Row[] = [
  {
    covers: '1.4 GET /distribution/{name}/json',
    call: get('/distribution/{image}/json'),
    status: 200,
    body: {
      Descriptor: {
        mediaType: expect.any(String),
        digest: expect.stringMatching(/^sha256:/),
        size: expect.any(Number),
      },
      Platforms: [{ architecture: 'amd64', os: 'linux' }],
    },
  },
  {
    covers: '1.4 GET /distribution/{name}/json',
    call: get('/distribution/{registry}/nothing:1/json'),
    status: 404,
    message: /manifest unknown|not found/,
  },
  {
    covers: '1.7 /version',
    call: get('/version'),
    status: 200,
    body: {
      ApiVersion: '1.41',
      Os: 'linux',
      Arch: 'amd64',
      Components: expect.arrayContaining([expect.objectContaining({ Name: 'Engine' })]),
    },
  },
  {
    covers: '1.4 GET /system/df',
    call: get('/system/df'),
    status: 200,
    body: { Images: expect.any(Array), Volumes: expect.any(Array) },
  },
  { covers: '1.5 docker version', call: docker('version'), status: 0, text: /Server[\s\S]*Engine:/ },
  { covers: '1.5 docker system df', call: docker('system', 'df'), status: 0, text: /^TYPE/m },
  {
    covers: '1.7 /events, services',
    call: get('/events?since=1&until={now}&filters={"type":["service"],"service":["web"]}'),
    status: 200,
    headers: { 'Content-Type': 'application/json' },
    body: expect.arrayContaining([
      message('service', 'create', 'web'),
      expect.objectContaining({
        Action: 'update',
        Actor: {
          ID: '{web}',
          Attributes: expect.objectContaining({ name: 'web', 'image.old': '{image}', 'image.new': '{image2}' }),
        },
      }),
    ]),
  },
  {
    covers: '1.7 /events, networks',
    call: get('/events?since=1&until={now}&filters={"type":["network"],"scope":["swarm"]}'),
    status: 200,
    body: expect.arrayContaining([message('network', 'create', 'front'), message('network', 'remove', 'front')]),
  },
  {
    covers: '1.7 /events, nodes',
    call: get('/events?since=1&until={now}&filters={"type":["node"],"node":["{worker}"]}'),
    status: 200,
    body: expect.arrayContaining([
      expect.objectContaining({
        Type: 'node',
        Action: 'update',
        Actor: {
          ID: '{worker}',
          Attributes: expect.objectContaining({ 'availability.old': 'active', 'availability.new': 'pause' }),
        },
      }),
    ]),
  },
  { covers: '1.7 /events, until', call: get('/events?since=1&until=2'), status: 200, text: /^$/ },
  {
    covers: '1.4 POST /auth',
    call: post('/auth', { username: 'a', password: 'b', serveraddress: '{registry}' }),
    status: 200,
    body: { Status: expect.any(String) },
  },
];
