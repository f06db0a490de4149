import { expect, test } from 'vitest';
import { containerPlan, namedNetworks } from './container-plan.ts';
import type { Reservation } from '../model/attachments.ts';

const given: Reservation = {
  id: 'r1',
  networkId: 'net1',
  address: '10.0.16.7',
  engineNetwork: 'drover-1-aaaa',
  gateway: '10.0.16.2',
};

test('an engine that takes several networks gets them all, each with its MAC', () => {
  const body = { HostConfig: { NetworkMode: 'net1' }, NetworkingConfig: { EndpointsConfig: { lan: {}, net1: {} } } };
  expect(containerPlan(body, new Map([['net1', given]]), '1.44')).toEqual({
    connects: [],
    body: {
      HostConfig: { NetworkMode: 'drover-1-aaaa', Dns: ['10.0.16.2'] },
      NetworkingConfig: {
        EndpointsConfig: {
          'drover-1-aaaa': { IPAMConfig: { IPv4Address: '10.0.16.7' }, MacAddress: '02:42:0a:00:10:07' },
          lan: {},
        },
      },
    },
  });
});

test.each([
  [{}, []],
  [{ HostConfig: { NetworkMode: 'bridge' } }, []],
  [{ HostConfig: { NetworkMode: 'app' } }, ['app']],
  [
    { HostConfig: { NetworkMode: 'app' }, NetworkingConfig: { EndpointsConfig: { side: {}, app: {} } } },
    ['app', 'side'],
  ],
  [{ HostConfig: { NetworkMode: 'host' }, NetworkingConfig: { EndpointsConfig: { app: {} } } }, []],
])('%j names %j', (body, names) => {
  expect(namedNetworks(body)).toEqual(names);
});
