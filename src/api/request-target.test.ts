import { expect, test } from 'vitest';
import { isOwnRoute, parseTarget } from './request-target.ts';

test.each([
  ['/v1.41/services?x=1', undefined, '1.41', '/services?x=1', '/v1.41/services?x=1'],
  ['/services', undefined, undefined, '/services', '/services'],
  ['/env/prod/v1.51/info', 'prod', '1.51', '/info', '/v1.51/info'],
  ['/env/prod/_ping', 'prod', undefined, '/_ping', '/_ping'],
  ['/env/prod', 'prod', undefined, '/', '/'],
  ['/environment/x', undefined, undefined, '/environment/x', '/environment/x'],
  ['/v1.41', undefined, '1.41', '/', '/v1.41'],
  ['/v1.41x/info', undefined, undefined, '/v1.41x/info', '/v1.41x/info'],
  ['/v1.41?a=/v1.2/', undefined, '1.41', '/?a=/v1.2/', '/v1.41?a=/v1.2/'],
  ['/images/v1.2/json', undefined, undefined, '/images/v1.2/json', '/images/v1.2/json'],
])('%s', (url, environment, version, route, engineUrl) => {
  expect(parseTarget(url)).toEqual({ url, environment, version, route, engineUrl });
});

test('own are the cluster routes, whatever follows', () => {
  expect(['/services/create', '/networks?x', '/_ping', '/info'].map(isOwnRoute)).toEqual([true, true, true, true]);
  expect(['/containers/x/attach', '/session', '/', '/infox', '/servicesx/create'].map(isOwnRoute)).toEqual([
    false,
    false,
    false,
    false,
    false,
  ]);
});
