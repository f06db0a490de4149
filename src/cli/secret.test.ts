import { expect, test } from 'vitest';
import type { ServiceSpec, TaskSpec } from '../model/specs.ts';
import { progressOf } from './secret.ts';

const spec = (version: string): TaskSpec => ({
  ContainerSpec: { Image: 'i', Secrets: [{ SecretID: version, SecretName: 'pw' }] },
});
const uses = (each: TaskSpec): boolean => each.ContainerSpec?.Secrets?.[0]?.SecretID === 'new';
const task = (version: string, State: string) => ({ DesiredState: 'running', Spec: spec(version), Status: { State } });
const service = (over: object = {}, Mode: ServiceSpec['Mode'] = { Replicated: { Replicas: 2 } }, version = 'new') => ({
  Spec: { Name: 'web', Labels: {}, TaskTemplate: spec(version), Mode },
  ServiceStatus: { DesiredTasks: 2 },
  ...over,
});
const update = (State: string) => ({ UpdateStatus: { State, Message: 'why' } });

test.each([
  ['nothing yet', service(), [task('old', 'running'), task('old', 'running')], '0 of 2 tasks use it', undefined],
  ['half of it', service(), [task('new', 'running'), task('old', 'running')], '1 of 2 tasks use it', undefined],
  [
    'all, but one of the old still stops',
    service(update('updating')),
    [task('new', 'running'), task('new', 'running'), task('old', 'running')],
    '2 of 2 tasks use it',
    undefined,
  ],
  [
    'one is being started',
    service(),
    [task('new', 'running'), task('new', 'starting'), task('old', 'shutdown')],
    '1 of 2 tasks use it',
    undefined,
  ],
  [
    'all',
    service(update('completed')),
    [task('new', 'running'), task('new', 'running'), task('old', 'shutdown'), task('old', 'failed')],
    '2 of 2 tasks use it',
    true,
  ],
  ['nothing to run', service({ ServiceStatus: { DesiredTasks: 0 } }), [], '0 of 0 tasks use it', true],
  ['paused', service(update('paused')), [task('new', 'failed')], 'update paused: why', false],
  ['rolled back', service(update('rollback_completed')), [], 'update rollback_completed: why', false],
  ['another update came', service({}, undefined, 'other'), [], 'updated to something else meanwhile', false],
  ['a job', service({}, { ReplicatedJob: {} }), [], 'a job: its next run uses it', true],
])('%s', (_, seen, tasks, line, end) => {
  expect(progressOf(seen, tasks, uses)).toEqual(end === undefined ? { line } : { line, end });
});
