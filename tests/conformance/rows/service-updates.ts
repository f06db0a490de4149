/** What becomes of services: update, roll back, the commands of the docker client (docker-api.md 1.2–1.5, 1.9). */
import { expect } from 'vitest';
import { docker, FAULT, get, post, type Row } from '../row.ts';
import { spec } from './services.ts';

export const serviceUpdates: Row[] = [
  // update
  { covers: '1.9 Update', call: get('/services/{web}'), status: 200, save: { v1: 'Version.Index' } },
  {
    covers: '1.3 Version',
    call: post('/services/{web}/update?version=abc', spec()),
    status: 400,
    message: /^invalid service version 'abc'/,
  },
  {
    covers: '1.2 stale version',
    call: post('/services/{web}/update?version=99999999', spec()),
    status: 500,
    message: 'update out of sequence',
  },
  {
    covers: '1.2 no previous spec',
    call: post('/services/{web}/update?version={v1}&rollback=previous', spec()),
    status: 400,
    message: 'service {web} does not have a previous spec',
  },
  {
    covers: '1.9 Any other rollback value',
    call: post('/services/{web}/update?version={v1}&rollback=sideways', spec()),
    status: 400,
    message: 'unrecognized rollback option sideways',
    swarm: { status: 500, why: FAULT },
  },
  {
    covers: '1.2 rename',
    call: post('/services/{web}/update?version={v1}', spec({ Name: 'other' })),
    status: 501,
    message: 'renaming services is not supported',
  },
  {
    covers: '1.2 mode change',
    call: post('/services/{web}/update?version={v1}', spec({ Mode: { Global: {} } })),
    status: 501,
    message: 'service mode change is not allowed',
  },
  {
    covers: '1.4 POST /services/{id}/update',
    call: post(
      '/services/{web}/update?version={v1}&registryAuthFrom=spec',
      spec({ UpdateConfig: { Parallelism: 0, Monitor: 1e9 } }, '{image2}'),
    ),
    status: 200,
    body: { Warnings: null },
  },
  {
    covers: '1.9 Update',
    call: get('/services/{web}'),
    status: 200,
    eventually: true,
    body: {
      Spec: { TaskTemplate: { ContainerSpec: { Image: '{image2}' } } },
      PreviousSpec: { TaskTemplate: { ContainerSpec: { Image: '{image}' } } },
      UpdateStatus: {
        State: 'completed',
        StartedAt: expect.any(String),
        CompletedAt: expect.any(String),
        Message: 'update completed',
      },
    },
    save: { v2: 'Version.Index' },
  },
  {
    covers: '1.9 rollback=previous',
    call: post('/services/{web}/update?version={v2}&rollback=previous', spec({}, '{image2}')),
    status: 200,
  },
  {
    covers: '1.9 rollback=previous',
    call: get('/services/{web}'),
    status: 200,
    eventually: true,
    body: {
      Spec: { TaskTemplate: { ContainerSpec: { Image: '{image}' } } },
      PreviousSpec: { TaskTemplate: { ContainerSpec: { Image: '{image2}' } } },
      UpdateStatus: { State: 'rollback_completed', Message: 'rollback completed' },
    },
  },
  // commands
  {
    covers: '1.5 service create',
    call: docker('service', 'create', '--name', 'cli', '--replicas', '1', '--label', 'from=cli', '{image}'),
    status: 0,
    text: /verify: Service \w+ converged/,
  },
  {
    covers: '1.5 service ls',
    call: docker('service', 'ls', '--filter', 'name=cli'),
    status: 0,
    text: /cli +replicated +1\/1 +\S+web:1/,
  },
  {
    covers: '1.5 service ps',
    call: docker('service', 'ps', 'cli', '--format', '{{.Name}} {{.CurrentState}}'),
    status: 0,
    text: /^cli\.1 Running/,
  },
  {
    covers: '1.5 service inspect',
    call: docker('service', 'inspect', '--pretty', 'cli'),
    status: 0,
    text: /Service Mode:\s+Replicated\n Replicas:\s+1[\s\S]*Endpoint Mode:\s+vip/,
  },
  {
    covers: '1.5 service inspect, pinned by digest',
    call: docker(
      'service',
      'inspect',
      '--format',
      '{{.Spec.TaskTemplate.ContainerSpec.Image}} {{json .Spec.TaskTemplate.Placement}}',
      'cli',
    ),
    status: 0,
    text: /web:1@sha256:[0-9a-f]{64} .*"Architecture":"amd64","OS":"linux"/,
  },
  {
    covers: '1.5 service scale',
    call: docker('service', 'scale', 'cli=2'),
    status: 0,
    text: /cli scaled to 2[\s\S]*converged/,
  },
  {
    covers: '1.5 service update',
    call: docker('service', 'update', '--env-add', 'X=1', '--update-monitor', '1s', '--update-parallelism', '0', 'cli'),
    status: 0,
    text: /converged/,
  },
  { covers: '1.5 service rollback', call: docker('service', 'rollback', 'cli'), status: 0, text: /rollback|converged/ },
  { covers: '1.5 service rm', call: docker('service', 'rm', 'cli'), status: 0, text: /^cli$/m },
  // global
  {
    covers: '1.4 POST /services/create, Global',
    call: post('/services/create', {
      Name: 'everywhere',
      TaskTemplate: { ContainerSpec: { Image: '{image}' } },
      Mode: { Global: {} },
    }),
    status: 201,
  },
  {
    covers: '1.9 ServiceStatus',
    call: get('/services?status=true&filters={"mode":["global"]}'),
    status: 200,
    eventually: true,
    body: [{ Spec: { Mode: { Global: {} } }, ServiceStatus: { RunningTasks: 2, DesiredTasks: 2 } }],
  },
];
