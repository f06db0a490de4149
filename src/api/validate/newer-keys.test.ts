import { expect, test } from 'vitest';
import type { ServiceSpec } from '../../model/specs.ts';
import { newerKeyWarnings } from './newer-keys.ts';

const spec = (container: object): ServiceSpec => ({
  Name: 'web',
  Labels: {},
  Mode: { Replicated: { Replicas: 1 } },
  TaskTemplate: { ContainerSpec: { Image: 'web', ...container } },
});
const subpath = spec({
  Mounts: [
    { Type: 'tmpfs', Target: '/t' },
    { Type: 'volume', Source: 'a', Target: '/a', VolumeOptions: { Subpath: 'x' } },
  ],
});

test.each<[string, ServiceSpec, string, string[]]>([
  ['nothing new', spec({ Env: ['A=1'] }), '1.41', []],
  ['not set', spec({ Healthcheck: { StartInterval: 0 } }), '1.41', []],
  [
    'in a list',
    subpath,
    '1.41',
    ['TaskTemplate.ContainerSpec.Mounts.VolumeOptions.Subpath needs an engine of API version 1.45'],
  ],
  ['an engine that knows it', subpath, '1.45', []],
  [
    'a number',
    spec({ Healthcheck: { StartInterval: 1e9 } }),
    '1.43',
    ['TaskTemplate.ContainerSpec.Healthcheck.StartInterval needs'],
  ],
])('%s', (_, given, apiVersion, sentences) => {
  expect(newerKeyWarnings(given, apiVersion)).toEqual(sentences.map((each) => expect.stringContaining(each)));
});
