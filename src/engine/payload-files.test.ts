import { describe, expect, test } from 'vitest';
import type { TaskAssignment } from '../model/assignments.ts';
import type { ContainerSpec } from '../model/specs.ts';
import { TaskState } from '../model/states.ts';
import { missingPayload, payloadFiles, type FindPayload } from './payload-files.ts';

const NODE = { id: 'n1', hostname: 'h1', platform: { os: 'linux', architecture: 'x86_64' } };
const file = (Name: string, more: object = {}) => ({ Name, UID: '0', GID: '0', Mode: 0o444, ...more });

function task(spec: Partial<ContainerSpec>, slot = 3): TaskAssignment {
  return {
    id: 't1',
    environment: 'default',
    serviceId: 's1',
    serviceName: 'web',
    serviceLabels: { tier: 'front' },
    slot,
    nodeId: 'n1',
    desiredState: TaskState.RUNNING,
    spec: { ContainerSpec: { Image: 'i', ...spec } },
    networks: [],
    hostPorts: [],
    status: { timestamp: '', state: TaskState.ASSIGNED, message: '' },
  };
}

/** Payloads by `kind id`; those whose text has braces are templates. */
function told(texts: Record<string, string | Buffer>): FindPayload {
  return (kind, id) => {
    const text = texts[`${kind} ${id}`];
    return text === undefined
      ? undefined
      : { id, data: Buffer.from(text).toString('base64'), templated: typeof text === 'string' && text.includes('{{') };
  };
}

test.each([
  ['secret', 'db', '/run/secrets/db'],
  ['secret', 'sub/db', '/run/secrets/sub/db'],
  ['secret', '/etc/app/key', '/etc/app/key'],
  ['config', 'app.conf', '/app.conf'],
  ['config', 'etc/app.conf', '/etc/app.conf'],
  ['config', '/etc/app.conf', '/etc/app.conf'],
] as const)('a %s named %s stands at %s', (kind, name, target) => {
  const reference = { SecretID: 'p', SecretName: 'p', ConfigID: 'p', ConfigName: 'p', File: file(name) };
  const spec = kind === 'secret' ? { Secrets: [reference] } : { Configs: [reference] };
  expect(payloadFiles(task(spec), NODE, told({ [`${kind} p`]: 'x' }))).toMatchObject([{ target }]);
});

test('bytes come as they are, with owner and permission bits; what only the runtime reads is no file', () => {
  const bytes = Buffer.from([0, 255, 128, 123, 123, 10]);
  const spec = {
    Secrets: [{ SecretID: 'p', SecretName: 'p', File: file('x', { UID: '1000', GID: '20', Mode: 0x8000_01a4 }) }],
    Configs: [{ ConfigID: 'r', ConfigName: 'r', Runtime: {} }],
  };
  expect(payloadFiles(task(spec), NODE, told({ 'secret p': bytes, 'config r': 'x' }))).toEqual([
    { target: '/run/secrets/x', uid: 1000, gid: 20, mode: 0o644, content: bytes },
  ]);
});

describe('templates', () => {
  const SPEC = {
    Env: ['GREETING=hello {{.Task.Slot}}', 'EMPTY='],
    Secrets: [{ SecretID: 'key', SecretName: 'key.v1', File: file('key') }],
    Configs: [
      { ConfigID: 'c', ConfigName: 'c', File: file('/app.conf') },
      { ConfigID: 'part', ConfigName: 'part', File: file('/part') },
    ],
  };
  const filled = (text: string, more: Record<string, string> = {}, slot = 3): string => {
    const find = told({ 'secret key': 'hunter2', 'config part': 'piece', 'config c': text, ...more });
    return payloadFiles(task(SPEC, slot), NODE, find)
      .find(({ target }) => target === '/app.conf')!
      .content.toString();
  };

  test.each([
    ['{{.Service.Name}} {{ .Service.ID }}', 'web s1'],
    ['{{.Node.Hostname}}/{{.Node.ID}}', 'h1/n1'],
    ['{{.Task.Name}} {{.Task.Slot}}', 'web.3.t1 3'],
    ['{{.Service.Labels.tier}}{{index .Service.Labels "none"}}', 'front'],
    ['{{env "GREETING"}}|{{env "EMPTY"}}|{{env "MISSING"}}', 'hello 3||'],
    ['a={{secret "key"}}\nb={{config "/part"}}', 'a=hunter2\nb=piece'],
    ['{{secret `key`}}', 'hunter2'],
    ['100 % {no} template: {{.Task.Slot}}', '100 % {no} template: 3'],
  ])('%s', (text, expected) => expect(filled(text)).toBe(expected));

  test('of a global service, the slot is the node', () => expect(filled('{{.Task.Slot}}', {}, 0)).toBe('n1'));

  test('what another payload holds is not read as a template again', () => {
    expect(filled('{{secret "key"}}', { 'secret key': '{{.Task.Slot}}' })).toBe('{{.Task.Slot}}');
  });

  test.each([
    ['{{.Nonsense}}', 'the template of config c cannot be filled in: {{.Nonsense}} is not known here'],
    ['{{secret "other"}}', 'the template of config c cannot be filled in: {{secret "other"}} is not known here'],
    ['{{if true}}x{{end}}', 'the template of config c cannot be filled in: {{if true}} is not known here'],
    ['{{.Task.Slot', 'the template of config c cannot be filled in: a {{ has no }}'],
  ])('%s: %s', (text, sentence) => expect(() => filled(text)).toThrow(sentence));

  test('an error tells nothing of a secret, not even of its template', () => {
    for (const text of ['hunter2 {{hunter2}}', 'hunter2 {{ hunter2']) {
      expect(() => filled('{{.Task.Slot}}', { 'secret key': text })).toThrow(
        /^the template of secret key\.v1 cannot be filled in: (?!.*hunter2)/,
      );
    }
  });
});

test('the first that is not known is named', () => {
  const spec = {
    Secrets: [{ SecretID: 'a', SecretName: 'A', File: file('a') }],
    Configs: [{ ConfigID: 'b', ConfigName: 'B', File: file('b') }],
  };
  expect(missingPayload(task(spec), told({}))).toEqual({ kind: 'secret', name: 'A' });
  expect(missingPayload(task(spec), told({ 'secret a': 'x' }))).toEqual({ kind: 'config', name: 'B' });
  expect(missingPayload(task(spec), told({ 'secret a': 'x', 'config b': 'y' }))).toBeUndefined();
  expect(() => payloadFiles(task(spec), NODE, told({}))).toThrow('secret A is not known to this node');
});
