import { expect, test } from 'vitest';
import type { ContainerStatus } from '../engine/engine.ts';
import { TaskState } from '../model/states.ts';
import { endingOf, HOST_RESTARTED, unhealthyBecause } from './task-exit.ts';

const { COMPLETE, FAILED } = TaskState;

const UNHEALTHY = unhealthyBecause('');

test.each<[string, string, string]>([
  ['nothing said', ' \n', ''],
  ['one line', 'connection refused', ': connection refused'],
  ['the last of many', 'trying\r\nno route to host\n\n', ': no route to host'],
  ['nothing that a terminal would act on', 'a\u001b[31mb\tc', ': a [31mb c'],
  ['a long one is cut', 'x'.repeat(5000), `: ${'x'.repeat(200)}…`],
])('unhealthyBecause: %s', (_, output, added) => {
  expect(unhealthyBecause(output)).toBe(`dockerexec: unhealthy container${added}`);
});

test.each<[string, Partial<ContainerStatus>, string | undefined, object]>([
  ['success', {}, undefined, { state: COMPLETE }],
  ['a failure', { exitCode: 3 }, undefined, { state: FAILED, error: 'task: non-zero exit (3)' }],
  [
    'an error of the engine',
    { exitCode: 128, error: 'OCI runtime create failed' },
    undefined,
    { state: FAILED, error: 'task: non-zero exit (128): OCI runtime create failed' },
  ],
  [
    'out of memory',
    { exitCode: 137, oomKilled: true },
    undefined,
    { state: FAILED, error: 'task: non-zero exit (137): out of memory' },
  ],
  ['killed from outside', { exitCode: 137 }, undefined, { state: FAILED, error: 'task: non-zero exit (137)' }],
  ['a child of it took too much, it did not fail', { oomKilled: true }, undefined, { state: COMPLETE }],
  [
    'unhealthy',
    { exitCode: 143 },
    UNHEALTHY,
    { state: FAILED, error: 'task: non-zero exit (143): dockerexec: unhealthy container' },
  ],
  ['unhealthy, and then without an error', {}, UNHEALTHY, { state: FAILED, error: 'dockerexec: unhealthy container' }],
  ['the host went down', {}, HOST_RESTARTED, { state: FAILED, error: 'the host was restarted' }],
])('%s', (_, seen, cause, ending) => {
  const exited: ContainerStatus = {
    containerId: 'c',
    taskId: 't',
    state: 'exited',
    pid: 0,
    exitCode: 0,
    oomKilled: false,
    error: '',
    health: 'none',
    address: '',
    ports: [],
  };
  expect(endingOf({ ...exited, ...seen }, cause)).toEqual(ending);
});
