/** Overlay networks (docker-api.md 1.2–1.5): create, list, inspect, use, removal, prune, an ingress of one's own. */
import { expect } from 'vitest';
import { CAPITAL, del, docker, FAULT, get, post, type Row } from '../row.ts';

const NO_IPVS = 'its overlays need IPVS, which this kernel has not: no task of it comes up';

const overlay = (Name: string, more: object = {}) => post('/networks/create', { Name, Driver: 'overlay', ...more });
const list = (filters: string, ...names: string[]): Row => ({
  covers: '1.4 GET /networks',
  call: get(`/networks?filters=${filters}`),
  status: 200,
  body: names.map((Name) => ({ Name })),
});

export const networks: Row[] = [
  {
    covers: '1.4 POST /networks/create',
    call: overlay('front', {
      CheckDuplicate: true,
      Attachable: true,
      Internal: true,
      Labels: { 'com.docker.stack.namespace': 'shop' },
      Options: { 'com.docker.network.driver.mtu': '1400' },
      IPAM: { Driver: 'default', Config: [{ Subnet: '10.91.0.0/24', Gateway: '10.91.0.1' }] },
    }),
    status: 201,
    body: { Id: expect.stringMatching(/^[0-9a-z]{25}$/), Warning: '' },
    save: { front: 'Id' },
  },
  {
    covers: '1.2 network dup',
    call: overlay('front', { CheckDuplicate: true }),
    status: 409,
    message: 'network with name front already exists',
  },
  {
    covers: '1.4 GET /networks/{id}',
    call: get('/networks/front'),
    status: 200,
    eventually: true,
    body: {
      Name: 'front',
      Id: '{front}',
      Created: expect.any(String),
      Scope: 'swarm',
      Driver: 'overlay',
      EnableIPv6: false,
      IPAM: { Driver: 'default', Config: [{ Subnet: '10.91.0.0/24', Gateway: '10.91.0.1' }] },
      Internal: true,
      Attachable: true,
      Ingress: false,
      ConfigFrom: { Network: '' },
      ConfigOnly: false,
      Containers: null,
      Options: {
        'com.docker.network.driver.mtu': '1400',
        'com.docker.network.driver.overlay.vxlanid_list': expect.stringMatching(/^\d+$/),
      },
      Labels: { 'com.docker.stack.namespace': 'shop' },
    },
  },
  {
    covers: '1.3 Reference resolution, networks',
    call: get('/networks/{front}'),
    status: 200,
    body: { Name: 'front' },
  },
  {
    covers: '1.4 GET /networks/{id}?scope',
    call: get('/networks/front?scope=swarm'),
    status: 200,
    body: { Name: 'front' },
  },
  {
    covers: '1.4 GET /networks/{id}?scope',
    call: get('/networks/front?scope=local'),
    status: 404,
    message: 'network front not found',
  },
  { covers: '1.2 not found', call: get('/networks/nobody'), status: 404, message: 'network nobody not found' },
  { covers: '1.2 not found', call: del('/networks/nobody'), status: 404, message: 'network nobody not found' },
  {
    covers: '1.4 POST /networks/create, subnet from the pool',
    call: overlay('pooled'),
    status: 201,
    save: { pooled: 'Id' },
  },
  {
    covers: '1.4 POST /swarm/init, DefaultAddrPool and SubnetSize',
    call: get('/networks/pooled'),
    status: 200,
    eventually: true,
    body: { IPAM: { Config: [{ Subnet: expect.stringMatching(/^10\.90\.\d+\.0\/24$/) }] } },
  },
  list('{"name":["front"]}', 'front'),
  list('{"id":["{front}"]}', 'front'),
  list('{"label":["com.docker.stack.namespace=shop"]}', 'front'),
  list('{"name":["front"],"driver":["overlay"],"scope":["swarm"],"type":["custom"]}', 'front'),
  list('{"name":["front"],"driver":["bridge"]}'),
  {
    covers: '1.4 GET /networks',
    call: get('/networks?filters={"wrong":["x"]}'),
    status: 400,
    message: "invalid filter 'wrong'",
    swarm: CAPITAL,
  },
  {
    covers: '1.5 network ls',
    call: docker('network', 'ls', '--filter', 'driver=overlay', '--format', '{{.Name}} {{.Scope}}'),
    status: 0,
    text: /front swarm\n(.*\n)*ingress swarm\n/,
  },
  // refusals
  {
    covers: '1.4 POST /networks/create',
    call: overlay(''),
    status: 400,
    message: /name/,
    swarm: { status: 500, why: FAULT },
  },
  {
    covers: '1.4 POST /networks/create',
    call: overlay('with space'),
    status: 400,
    message: /name must be valid as a DNS name component|invalid network name/,
  },
  {
    covers: '1.4 POST /networks/create',
    call: overlay('bad', { IPAM: { Config: [{ Subnet: '10.300.0.0/24' }] } }),
    status: 400,
    message: 'Invalid subnet 10.300.0.0/24 : invalid CIDR address: 10.300.0.0/24',
    swarm: { status: 500, why: FAULT },
  },
  {
    covers: '1.4 POST /networks/create',
    call: overlay('bad', { IPAM: { Config: [{ Subnet: '10.91.0.128/25' }] } }),
    status: 403,
    message: 'invalid pool request: Pool overlaps with other one on this address space (network front)',
    notOnSwarm: 'engine 20.10 takes it (201)',
  },
  {
    covers: '1.4 POST /networks/create',
    call: overlay('bad', { Ingress: true, Attachable: true }),
    status: 400,
  },
  { covers: '1.2 network dup, predefined', call: overlay('host'), status: 409 },
  // in use
  {
    covers: '1.2 network in use',
    call: post('/services/create', {
      Name: 'user',
      TaskTemplate: { ContainerSpec: { Image: '{image}' }, Networks: [{ Target: 'front', Aliases: ['alias1'] }] },
    }),
    status: 201,
    save: { user: 'ID' },
  },
  {
    covers: '1.5 service create, network names become ids',
    call: get('/services/user'),
    status: 200,
    eventually: true,
    body: {
      Spec: { TaskTemplate: { Networks: [{ Target: '{front}', Aliases: ['alias1'] }] } },
      Endpoint: { VirtualIPs: [{ NetworkID: '{front}', Addr: expect.stringMatching(/^10\.91\.0\.\d+\/24$/) }] },
    },
  },
  {
    covers: '1.9 Task JSON, NetworksAttachments',
    call: get('/tasks?filters={"service":["user"]}'),
    status: 200,
    eventually: true,
    body: [
      {
        NetworksAttachments: [
          {
            Network: {
              ID: '{front}',
              Spec: { Name: 'front', DriverConfiguration: { Name: 'overlay' }, Scope: 'swarm' },
            },
            Addresses: [expect.stringMatching(/^10\.91\.0\.\d+\/24$/)],
          },
        ],
      },
    ],
  },
  {
    covers: '1.2 network in use',
    call: del('/networks/front'),
    status: 400,
    message: 'network {front} is in use by service {user}',
  },
  {
    covers: '1.4 GET /networks/{id}?verbose',
    call: get('/networks/front?verbose=true'),
    status: 200,
    eventually: true,
    notOnSwarm: NO_IPVS,
    body: {
      Peers: expect.arrayContaining([{ Name: expect.any(String), IP: expect.any(String) }]),
      Services: {
        user: {
          VIP: expect.stringMatching(/^10\.91\.0\.\d+$/),
          Ports: [],
          Tasks: [{ EndpointIP: expect.stringMatching(/^10\.91\./) }],
        },
      },
    },
  },
  {
    covers: '1.5 network inspect --verbose',
    call: docker('network', 'inspect', '--verbose', 'front'),
    status: 0,
    text: /"Services": \{\s+"user"/,
    notOnSwarm: NO_IPVS,
  },
  { covers: '1.4 DELETE /services/{id}', call: del('/services/user'), status: 200 },
  { covers: '1.4 DELETE /networks/{id}', call: del('/networks/front'), status: 204, text: /^$/, eventually: true },
  {
    covers: '1.4 DELETE /networks/{id}',
    call: get('/networks/{front}?scope=swarm'),
    status: 404,
    message: 'network {front} not found',
  },
  // prune
  {
    covers: '1.4 POST /networks/prune',
    call: post('/networks/prune?filters={"label":["nobody=has"]}'),
    status: 200,
    body: { NetworksDeleted: null },
  },
  {
    covers: '1.4 POST /networks/prune',
    call: post('/networks/prune?filters={"wrong":["x"]}'),
    status: 400,
    message: "invalid filter 'wrong'",
    swarm: CAPITAL,
  },
  {
    covers: '1.4 POST /networks/prune',
    call: post('/networks/prune'),
    status: 200,
    body: { NetworksDeleted: ['pooled'] },
  },
  // predefined networks for services
  {
    covers: '1.5 network inspect, scope swarm',
    call: get('/networks/host?scope=swarm'),
    status: 200,
    body: { Name: 'host', Scope: 'swarm' },
  },
  // ingress of one's own
  {
    covers: '1.4 POST /networks/create, Ingress',
    call: overlay('mesh', { Ingress: true }),
    status: 409,
    message: /ingress network .* is already present/,
  },
  {
    covers: '1.2 network in use, ingress',
    call: post('/services/create', {
      Name: 'published',
      TaskTemplate: { ContainerSpec: { Image: '{image}' } },
      Mode: { Replicated: { Replicas: 0 } },
      EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 8097 }] },
    }),
    status: 201,
    save: { published: 'ID' },
  },
  {
    covers: '1.2 network in use, ingress',
    call: del('/networks/ingress'),
    status: 400,
    message: 'ingress network cannot be removed because service {published} depends on it',
  },
  { covers: '1.4 DELETE /services/{id}', call: del('/services/published'), status: 200 },
  { covers: '1.4 DELETE /networks/{id}, ingress', call: del('/networks/ingress'), status: 204, eventually: true },
  {
    covers: '1.4 POST /services/create, no ingress',
    call: post('/services/create', {
      Name: 'published',
      TaskTemplate: { ContainerSpec: { Image: '{image}' } },
      EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 8097 }] },
    }),
    status: 400,
    message: 'service needs ingress network, but no ingress network is present',
  },
  {
    covers: '1.4 POST /networks/create, Ingress',
    call: overlay('mesh', { Ingress: true, IPAM: { Config: [{ Subnet: '10.92.0.0/16', Gateway: '10.92.0.2' }] } }),
    status: 201,
    save: { mesh: 'Id' },
    eventually: true,
  },
  {
    covers: '1.4 POST /networks/create, Ingress',
    call: get('/networks/mesh'),
    status: 200,
    eventually: true,
    body: { Ingress: true, IPAM: { Config: [{ Subnet: '10.92.0.0/16' }] } },
  },
];
