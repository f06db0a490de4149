/** Single containers in attachable overlays (docker-api.md 1.3, 1.4), on the manager and on a worker. */
import { expect } from 'vitest';
import { del, get, post, type Row } from '../row.ts';

const AT_START =
  'refused before the container is made; Swarm makes it, refuses its start, and leaves it behind for its user to remove';
const FROM_CREATE = 'its address is its own from the create to the removal; Swarm gives one at each start';

const container = (name: string, network: string, more: object = {}) =>
  post(`/containers/create?name=${name}`, { Image: 'busybox:latest', HostConfig: { NetworkMode: network }, ...more });
const refusal = (covers: string, call: Row['call'], status: number, message: string, on?: 'h2'): Row => ({
  covers,
  call,
  status,
  message,
  ...(on === undefined ? {} : { on }),
  swarm: { status: 201, message: null, why: AT_START },
});
const NOT_ATTACHABLE =
  'Could not attach to network shut: rpc error: code = PermissionDenied desc = network shut not manually attachable';

export const attachments: Row[] = [
  {
    covers: '1.4 POST /networks/create, Attachable',
    call: post('/networks/create', {
      Name: 'att',
      Driver: 'overlay',
      Attachable: true,
      IPAM: { Config: [{ Subnet: '10.93.0.0/24' }] },
    }),
    status: 201,
    save: { att: 'Id' },
  },
  {
    covers: '1.4 POST /networks/create',
    call: post('/networks/create', { Name: 'shut', Driver: 'overlay' }),
    status: 201,
  },
  {
    covers: '1.4 POST /containers/create, on an attachable overlay',
    call: container('single', 'att'),
    status: 201,
    save: { single: 'Id' },
  },
  {
    covers: '1.4 GET /containers/{id}/json, of one in an overlay',
    call: get('/containers/single/json'),
    status: 200,
    body: { HostConfig: { NetworkMode: 'att' }, NetworkSettings: { Networks: { att: expect.any(Object) } } },
  },
  {
    covers: '1.4 GET /containers/json, filter network',
    call: get('/containers/json?all=1&filters={"network":["att"]}'),
    status: 200,
    body: [{ Id: '{single}' }],
  },
  refusal(
    '1.4 POST /containers/create, on an overlay that is not attachable',
    container('refused1', 'shut'),
    403,
    NOT_ATTACHABLE,
  ),
  refusal(
    '1.4 POST /containers/create, on an overlay that is not attachable',
    container('refused2', 'shut'),
    403,
    NOT_ATTACHABLE,
    'h2',
  ),
  refusal(
    '1.4 POST /containers/create, an address outside the subnet',
    container('refused3', 'att', {
      NetworkingConfig: { EndpointsConfig: { att: { IPAMConfig: { IPv4Address: '10.94.0.9' } } } },
    }),
    400,
    "Invalid address 10.94.0.9: It does not belong to any of this network's subnets",
  ),
  {
    covers: '1.4 POST /networks/{id}/connect',
    call: post('/networks/att/connect', { Container: 'nobody' }),
    status: 404,
    message: 'No such container: nobody',
  },
  {
    covers: '1.4 POST /networks/{id}/disconnect',
    call: post('/networks/att/disconnect', { Container: 'nobody' }),
    status: 404,
    message: 'No such container: nobody',
  },
  {
    covers: '1.3 Accepted keys, tasks runtime',
    call: get('/tasks?filters={"runtime":["attachment"]}'),
    status: 200,
    eventually: true,
    body: [
      {
        Spec: { NetworkAttachmentSpec: { ContainerID: '{single}' }, Runtime: 'attachment' },
        NetworksAttachments: [{ Addresses: [expect.stringMatching(/^10\.93\.0\.\d+\/24$/)] }],
      },
    ],
    swarm: { body: [], why: FROM_CREATE },
  },
  {
    covers: '1.3 Accepted keys, tasks runtime',
    call: get('/tasks?filters={"id":["{single}"]}'),
    status: 200,
    body: [],
  },
  { covers: '1.4 DELETE /containers/{id}', call: del('/containers/single?force=1'), status: 204 },
  { covers: '1.4 DELETE /networks/{id}', call: del('/networks/att'), status: 204, eventually: true },
  { covers: '1.4 DELETE /networks/{id}', call: del('/networks/shut'), status: 204 },
];
