/** Jobs: their modes, what counts of their runs, and what they refuse (docker-api.md 1.2, 1.6, 1.9). */
import { expect } from 'vitest';
import { del, docker, get, post, type Row } from '../row.ts';

/** The image runs until it is stopped, so that its tasks can be looked at. */
const job = (Mode: object, over: object = {}): Record<string, unknown> => ({
  Name: 'job',
  TaskTemplate: { ContainerSpec: { Image: '{image}' } },
  Mode,
  ...over,
});

export const jobs: Row[] = [
  {
    covers: '1.2 jobs reject UpdateConfig',
    call: post('/services/create', job({ ReplicatedJob: {} }, { UpdateConfig: { Parallelism: 2 } })),
    status: 400,
    message: 'Jobs may not have an update config',
  },
  {
    covers: '1.2 must specify only one service mode',
    call: post('/services/create', job({ ReplicatedJob: {}, GlobalJob: {} })),
    status: 400,
    message: 'must specify only one service mode',
  },
  {
    covers: '1.4 POST /services/create, ReplicatedJob',
    call: post('/services/create', job({ ReplicatedJob: { MaxConcurrent: 2, TotalCompletions: 5 } })),
    status: 201,
    save: { job: 'ID' },
  },
  {
    covers: '1.9 JobStatus',
    call: get('/services/{job}'),
    status: 200,
    body: {
      Spec: { Mode: { ReplicatedJob: { MaxConcurrent: 2, TotalCompletions: 5 } } },
      JobStatus: { JobIteration: {}, LastExecution: expect.stringMatching(/^\d{4}-\d\d-\d\dT/) },
    },
    absent: ['UpdateStatus'],
    save: { jobVersion: 'Version.Index' },
  },
  {
    covers: '1.9 ServiceStatus, ReplicatedJob',
    call: get('/services?status=true&filters={"mode":["replicated-job"]}'),
    status: 200,
    eventually: true,
    body: [{ ID: '{job}', ServiceStatus: { RunningTasks: 2, DesiredTasks: 2, CompletedTasks: 0 } }],
  },
  {
    covers: '1.6 ReplicatedJob, slots',
    call: get('/tasks?filters={"service":["job"],"desired-state":["complete"]}'),
    status: 200,
    eventually: true,
    body: expect.arrayContaining([
      expect.objectContaining({ DesiredState: 'complete', Slot: 1, JobIteration: expect.any(Object) }),
    ]),
  },
  {
    covers: '1.5 service ls',
    call: docker('service', 'ls', '--filter', 'name=job', '--format', '{{.Mode}} {{.Replicas}}'),
    status: 0,
    text: /^replicated job 2\/2 \(0\/5 completed\)\n$/,
  },
  {
    covers: '1.9 Job update',
    call: post('/services/{job}/update?version={jobVersion}', job({ ReplicatedJob: { TotalCompletions: 3 } })),
    status: 200,
  },
  {
    covers: '1.9 Job update',
    call: get('/services/{job}'),
    status: 200,
    body: {
      Spec: { Mode: { ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 3 } } },
      JobStatus: { JobIteration: { Index: 1 } },
    },
  },
  {
    covers: '1.9 Job update',
    call: get('/services?status=true&filters={"mode":["replicated-job"]}'),
    status: 200,
    eventually: true,
    body: [{ ServiceStatus: { RunningTasks: 1, DesiredTasks: 1, CompletedTasks: 0 } }],
  },
  { covers: '1.4 DELETE /services/{id}', call: del('/services/job'), status: 200 },
  {
    covers: '1.4 POST /services/create, GlobalJob',
    call: post('/services/create', job({ GlobalJob: {} })),
    status: 201,
  },
  {
    covers: '1.9 ServiceStatus, GlobalJob',
    call: get('/services?status=true&filters={"mode":["global-job"]}'),
    status: 200,
    eventually: true,
    body: [{ ServiceStatus: { RunningTasks: 2, DesiredTasks: 2, CompletedTasks: 0 } }],
  },
  { covers: '1.4 DELETE /services/{id}', call: del('/services/job'), status: 200 },
];
