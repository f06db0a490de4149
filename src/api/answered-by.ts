/**
 * Where, on a manager that follows, a request is answered: here, from its replica of the state and its own host, or by the
 * manager that leads. One table of all routes; pure.
 */

/**
 * - `leader`: what writes, and what needs the sessions of agents, which the leader has.
 * - `replica`: what only reads the state. Here, unless an answer that was given here rests on more of it than is known here.
 * - `route`: the route's own code hands on what concerns the cluster, because one request is for the host's engine as well.
 */
export type AnsweredBy = 'here' | 'replica' | 'leader' | 'route';

const ROUTES: Readonly<Record<string, AnsweredBy>> = {
  'GET /_ping': 'here',
  'HEAD /_ping': 'here',
  'GET /version': 'here',
  'GET /info': 'here',
  'GET /events': 'here',
  'GET /distribution/*': 'here',

  'POST /containers/create': 'here',
  'GET /containers/json': 'here',
  'GET /containers/:id/json': 'here',

  'GET /swarm': 'replica',
  'POST /swarm/init': 'here',
  'POST /swarm/join': 'here',
  'POST /swarm/leave': 'here',
  'POST /swarm/update': 'leader',
  'GET /swarm/unlockkey': 'here',
  'POST /swarm/unlock': 'here',

  'GET /nodes': 'replica',
  'GET /nodes/:id': 'replica',
  'POST /nodes/:id/update': 'leader',
  'DELETE /nodes/:id': 'leader',

  'GET /services': 'replica',
  'GET /services/:id': 'replica',
  'POST /services/create': 'leader',
  'POST /services/:id/update': 'leader',
  'DELETE /services/:id': 'leader',
  'GET /services/:id/logs': 'leader',

  'GET /tasks': 'replica',
  'GET /tasks/:id': 'replica',
  'GET /tasks/:id/logs': 'leader',

  'GET /secrets': 'replica',
  'GET /secrets/:id': 'replica',
  'POST /secrets/create': 'leader',
  'POST /secrets/:id/update': 'leader',
  'DELETE /secrets/:id': 'leader',
  'GET /configs': 'replica',
  'GET /configs/:id': 'replica',
  'POST /configs/create': 'leader',
  'POST /configs/:id/update': 'leader',
  'DELETE /configs/:id': 'leader',

  'GET /networks': 'here',
  'GET /networks/:id': 'here',
  'POST /networks/create': 'route',
  'DELETE /networks/:id': 'route',
  'POST /networks/prune': 'route',
  // The agent of this host does that, with the leader of its session.
  'POST /networks/:id/connect': 'here',
  'POST /networks/:id/disconnect': 'here',

  // Of the manager that is asked: also when the others are gone for good.
  'GET /drover/cluster/backup': 'here',
  'POST /drover/cluster/restore': 'here',
  'POST /drover/secrets/:id/rotate': 'leader',
  'POST /drover/secrets/prune': 'leader',
  'POST /drover/configs/:id/rotate': 'leader',
  'POST /drover/configs/prune': 'leader',
  'GET /drover/rebalance': 'replica',
  'POST /drover/rebalance': 'leader',
  'POST /drover/services/:id/promote': 'leader',
  'POST /drover/services/:id/confirm': 'leader',
  'POST /drover/services/:id/abort': 'leader',
  'GET /drover/stacks': 'replica',
  'GET /drover/stacks/:name/history': 'replica',
  'GET /drover/stacks/:name/history/:revision': 'replica',
  'POST /drover/stacks/:name/rollback': 'leader',
  'GET /drover/tasks/:id/top': 'leader',
  'GET /drover/tasks/:id/stats': 'leader',
  'POST /drover/tasks/:id/exec': 'leader',
};

/** Every route that is decided on, such as `GET /nodes/:id`. */
export const DECIDED = Object.keys(ROUTES);

/** `pattern` is the route's, such as `/nodes/:id`. One that is not in the table is answered here if it only reads. */
export function answeredBy(method: string, pattern: string): AnsweredBy {
  const decided = Object.hasOwn(ROUTES, `${method} ${pattern}`) ? ROUTES[`${method} ${pattern}`] : undefined;
  return decided ?? (isRead(method) ? 'here' : 'leader');
}

/** Whether a request of this method changes nothing. */
export function isRead(method: string | undefined): boolean {
  return method === 'GET' || method === 'HEAD';
}
