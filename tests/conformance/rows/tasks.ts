/** Tasks: what they show and how they are filtered (docker-api.md 1.3, 1.4, 1.9). They stand on the services of services.ts. */
import { expect } from 'vitest';
import { CAPITAL, FAULT, get, type Row } from '../row.ts';

const some = (filters: string, count: number): Row => ({
  covers: '1.3 Accepted keys, tasks',
  call: get(`/tasks?filters=${filters}`),
  status: 200,
  eventually: true,
  body: Array.from({ length: count }, () => ({})),
});

export const tasks: Row[] = [
  {
    covers: '1.9 Task JSON',
    call: get('/tasks?filters={"service":["web"],"desired-state":["running"]}'),
    status: 200,
    eventually: true,
    body: [1, 2].map(() => ({
      ID: expect.stringMatching(/^[0-9a-z]{25}$/),
      Version: { Index: expect.any(Number) },
      CreatedAt: expect.any(String),
      UpdatedAt: expect.any(String),
      Labels: {},
      Spec: { ContainerSpec: { Image: '{image}' }, ForceUpdate: 0 },
      ServiceID: '{web}',
      Slot: expect.any(Number),
      NodeID: expect.stringMatching(/^[0-9a-z]{25}$/),
      Status: {
        Timestamp: expect.any(String),
        State: 'running',
        Message: 'started',
        ContainerStatus: { ContainerID: expect.stringMatching(/^[0-9a-f]{64}$/), PID: expect.any(Number), ExitCode: 0 },
        PortStatus: {},
      },
      DesiredState: 'running',
    })),
    absent: ['0.Name', '0.Status.Err', '0.Spec.ContainerSpec.PullOptions'],
    save: { task: '0.ID', taskNode: '0.NodeID', slot: '0.Slot' },
  },
  {
    covers: '1.4 GET /tasks/{id}',
    call: get('/tasks/{task}'),
    status: 200,
    body: { ID: '{task}', ServiceID: '{web}' },
  },
  {
    covers: '1.3 Reference resolution, task by name',
    call: get('/tasks/web.{slot}.{task}'),
    status: 200,
    body: { ID: '{task}' },
  },
  {
    covers: '1.3 Reference resolution, svc.slot',
    call: get('/tasks/web.1'),
    status: 404,
    message: 'task web.1 not found',
  },
  { covers: '1.2 not found', call: get('/tasks/nobody'), status: 404, message: 'task nobody not found' },
  some('{"id":["{task}"]}', 1),
  some('{"name":["web.1"],"desired-state":["running"]}', 1),
  some('{"service":["web"],"node":["{taskNode}"],"desired-state":["running"],"id":["{task}"]}', 1),
  some('{"service":["web"],"_up-to-date":["true"],"desired-state":["running"]}', 2),
  some('{"service":["full"]}', 1),
  some('{"label":["com.docker.stack.namespace=shop"],"desired-state":["running"]}', 2),
  some('{"label":["nobody=has"]}', 0),
  some('{"service":["everywhere"],"runtime":["container"],"desired-state":["running"]}', 2),
  {
    covers: '1.9 Task JSON, Slot of a global service',
    call: get('/tasks?filters={"service":["everywhere"]}'),
    status: 200,
    absent: ['0.Slot', '1.Slot'],
  },
  {
    covers: '1.3 Accepted keys, tasks',
    call: get('/tasks?filters={"service":["nobody"]}'),
    status: 404,
    message: 'service nobody not found',
  },
  {
    covers: '1.3 Accepted keys, tasks',
    call: get('/tasks?filters={"node":["nobody"]}'),
    status: 404,
    message: 'node nobody not found',
  },
  {
    covers: '1.3 Accepted keys, tasks',
    call: get('/tasks?filters={"desired-state":["asleep"]}'),
    status: 400,
    message: "Invalid desired-state filter: 'asleep'",
    swarm: { status: 500, why: FAULT },
  },
  {
    covers: '1.3 Accepted keys, tasks',
    call: get('/tasks?filters={"wrong":["x"]}'),
    status: 400,
    message: "invalid filter 'wrong'",
    swarm: CAPITAL,
  },
];
