/** What a later version brings: lists of it are empty, making it is refused with a sentence (decisions-and-traps.md 2). */
import { docker, post, type Row } from '../row.ts';

const LATER = 'not built yet: decision 2, refused with a sentence and never half done';

export const later: Row[] = [
  {
    covers: '1.4 POST /services/create, Runtime',
    call: post('/services/create', {
      Name: 'plugin',
      TaskTemplate: { Runtime: 'plugin', PluginSpec: { Name: 'p', Remote: 'p' } },
      Mode: { Replicated: { Replicas: 0 } },
    }),
    status: 501,
    message: 'services of runtime plugin are not supported',
    notOnSwarm: 'only an experimental engine takes it',
  },
  {
    covers: '1.4 POST /networks/create',
    call: post('/networks/create', { Name: 'lan', Driver: 'macvlan', Scope: 'swarm' }),
    status: 501,
    message: /macvlan in the scope of the swarm are not supported yet: use the overlay driver/,
    swarm: { status: 201, message: null, why: LATER },
  },
  {
    covers: '1.4 POST /networks/create',
    call: post('/networks/create', { Name: 'secret', Driver: 'overlay', Options: { encrypted: '' } }),
    status: 501,
    message: 'encrypted overlay networks are not supported yet',
    swarm: { status: 201, message: null, why: LATER },
  },
  {
    covers: '1.4 POST /networks/create',
    call: post('/networks/create', {
      Name: 'six',
      Driver: 'overlay',
      EnableIPv6: true,
      IPAM: { Config: [{ Subnet: 'fd00:1::/64' }] },
    }),
    status: 501,
    message: 'IPv6 in overlay networks is not supported yet',
    swarm: { status: 201, message: null, why: LATER },
  },
  { covers: '1.5 swarm ca --rotate', call: docker('swarm', 'ca', '--rotate', '--detach'), status: 0, text: /^$/ },
];
