/** The bad input of issue 2, with the real client and with raw requests: a clear error, nothing changed, nobody harmed. */
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, Lab, succeed } from './lab.ts';

describe('bad input', () => {
  let lab: Lab;
  let other: Lab;
  let token: string;

  beforeAll(async () => {
    lab = await Lab.up('bad', { hosts: 2, bare: true });
    other = await Lab.up('bad2', { hosts: 1, images: false });
    await lab.docker('h1', 'swarm', 'init', '--advertise-addr', await lab.address('h1'));
    token = await lab.docker('h1', 'swarm', 'join-token', '-q', 'worker');
    await lab.docker('h1', 'service', 'create', '--detach', '--name', 'web', '-p', '8080:8080', lab.image('web:1'));
  });
  afterAll(async () => {
    await Promise.all([lab?.down(), other?.down()]);
  });

  /** What a cluster has been told, as far as users can: must be the same after every refusal. */
  async function declared(): Promise<string> {
    const lists = [
      ['node', 'ls', '-q'],
      ['service', 'ls', '-q'],
      ['network', 'ls', '-q', '--no-trunc', '--filter', 'scope=swarm'],
    ];
    const parts = await Promise.all(lists.map((args) => lab.docker('h1', ...args)));
    return [
      ...parts,
      await lab.docker('h1', 'service', 'inspect', '--format', '{{.Version.Index}} {{json .Spec}}', 'web'),
    ].join('\n');
  }

  async function refused(host: string, args: string[], message: RegExp): Promise<void> {
    const before = await declared();
    const answer = await lab.tryDocker(host, ...args);
    expect(answer.stderr).toMatch(message);
    expect(answer.code).not.toBe(0);
    expect(await declared()).toBe(before);
  }

  const manager = async () => `${await lab.address('h1')}:2377`;

  test('a wrong token', async () => {
    const wrong = `${token.slice(0, token.lastIndexOf('-'))}-${'0'.repeat(25)}`;
    await refused('h2', ['swarm', 'join', '--token', wrong, await manager()], /A valid join token is necessary/);
  });

  test('a token of another cluster', async () => {
    const foreign = await other.docker('h1', 'swarm', 'join-token', '-q', 'worker');
    await refused('h2', ['swarm', 'join', '--token', foreign, await manager()], /remote CA does not match fingerprint/);
  });

  test('something that is no token', async () => {
    await refused('h2', ['swarm', 'join', '--token', 'please', await manager()], /invalid join token/);
  });

  test('nobody listens there', async () => {
    await refused(
      'h2',
      ['swarm', 'join', '--token', token, `${await lab.address('h2')}:2377`],
      /refused|unreachable|could not reach/i,
    );
  });

  test('joining twice, initialising twice', async () => {
    await lab.docker('h2', 'swarm', 'join', '--token', token, await manager());
    await eventually('two nodes', async () => (await lab.docker('h1', 'node', 'ls', '-q')).split('\n').length === 2);
    await refused('h2', ['swarm', 'join', '--token', token, await manager()], /This node is already part of a swarm/);
    await refused('h1', ['swarm', 'init'], /This node is already part of a swarm/);
  });

  test('leaving as the last manager without force', async () => {
    await refused(
      'h1',
      ['swarm', 'leave'],
      /You are attempting to leave the swarm on a node that is participating as a manager/,
    );
  });

  test('unknown names', async () => {
    await refused('h1', ['service', 'inspect', 'nobody'], /no such service|nobody/i);
    await refused('h1', ['service', 'scale', 'nobody=3'], /service nobody not found|no such service/i);
    await refused('h1', ['service', 'rm', 'nobody'], /service nobody not found|no such service/i);
    await refused('h1', ['node', 'inspect', 'nobody'], /no such node|node nobody not found/i);
    await refused('h1', ['node', 'rm', 'h2'], /is not down and can't be removed/);
    await refused('h1', ['network', 'rm', 'nobody'], /network nobody not found/i);
  });

  test('duplicate names', async () => {
    await refused('h1', ['service', 'create', '--name', 'web', lab.image('web:1')], /service web already exists/);
    await refused('h1', ['network', 'create', '-d', 'overlay', 'ingress'], /already exists/);
  });

  test('a port in use', async () => {
    await refused(
      'h1',
      ['service', 'create', '--name', 'second', '-p', '8080:80', lab.image('web:1')],
      /port '8080' is already in use by service 'web'/,
    );
  });

  test('ports the cluster lives on; that of SSH is taken, with a warning', async () => {
    const publish = (port: string) => [
      'service',
      'create',
      '--detach',
      '--name',
      'own',
      '-p',
      port,
      lab.image('web:1'),
    ];
    await refused('h1', publish('2377:80'), /port '2377\/tcp' cannot be published: nodes reach their managers by it/);
    await refused(
      'h1',
      publish('4789:80/udp'),
      /port '4789\/udp' cannot be published: it carries the overlay networks/,
    );
    const taken = await lab.tryDocker('h1', ...publish('22:80'));
    expect(taken).toMatchObject({ code: 0 });
    expect(taken.stderr).toMatch(/port 22\/tcp is published on every node/);
    await lab.docker('h1', 'service', 'rm', 'own');
  });

  test('a subnet that another overlay has, or the routing mesh', async () => {
    const create = (subnet: string, name: string) => ['network', 'create', '-d', 'overlay', '--subnet', subnet, name];
    await lab.docker('h1', ...create('10.98.0.0/24', 'first'));
    await refused('h1', create('10.98.0.128/25', 'second'), /Pool overlaps with other one on this address space/);
    await lab.docker('h1', 'network', 'rm', 'first');
    const ingress = await lab.docker('h1', 'network', 'inspect', '-f', '{{(index .IPAM.Config 0).Subnet}}', 'ingress');
    await refused('h1', create(ingress, 'second'), /Pool overlaps .*\(network ingress\)/);
  });

  test('a nonsense constraint', async () => {
    await refused(
      'h1',
      ['service', 'create', '--name', 'x', '--constraint', 'node.role~manager', lab.image('web:1')],
      /constraint/,
    );
  });

  test('an external network that is missing', async () => {
    await refused(
      'h1',
      ['service', 'create', '--name', 'x', '--network', 'missing', lab.image('web:1')],
      /network missing not found/,
    );
  });

  test('macvlan, or any network of one host, for a service', async () => {
    await refused('h1', ['network', 'create', '-d', 'macvlan', '--scope', 'swarm', 'lan'], /macvlan.*overlay/);
    // Not every kernel has macvlan; to a service, every network of one host is alike.
    await lab.docker('h1', 'network', 'create', '-d', 'bridge', 'local');
    await refused(
      'h1',
      ['service', 'create', '--name', 'x', '--network', 'local', lab.image('web:1')],
      /network local not found/,
    );
    // The docker client asks for overlays only; other clients do not.
    const spec = { Name: 'x', TaskTemplate: { ContainerSpec: { Image: 'web' }, Networks: [{ Target: 'local' }] } };
    expect(await raw(post('/services/create', JSON.stringify(spec)))).toMatch(
      /^HTTP\/1.1 400 [\s\S]*cannot be used with services/,
    );
    await lab.docker('h1', 'network', 'rm', 'local');
  });

  test('a network that is in use', async () => {
    await lab.docker('h1', 'network', 'create', '-d', 'overlay', 'used');
    await lab.docker('h1', 'service', 'create', '--detach', '--name', 'user', '--network', 'used', lab.image('web:1'));
    await refused('h1', ['network', 'rm', 'used'], /is in use by/);
    await lab.docker('h1', 'service', 'rm', 'user');
    await lab.docker('h1', 'network', 'rm', 'used');
  });

  test('an image that does not exist: the task says so, and the service can be removed', async () => {
    await lab.docker('h1', 'service', 'create', '--detach', '--name', 'ghost', lab.image('no-such-image:1'));
    await eventually('the reason', async () => {
      const tasks = await lab.docker(
        'h1',
        'service',
        'ps',
        'ghost',
        '--no-trunc',
        '--format',
        '{{.CurrentState}} {{.Error}}',
      );
      return /Rejected .*No such image/.test(tasks);
    });
    await lab.docker('h1', 'service', 'rm', 'ghost');
  });

  test('what is not built yet says so', async () => {
    expect(await lab.docker('h1', 'secret', 'ls', '-q')).toBe('');
    await refused('h1', ['secret', 'create', '--driver', 'vault', 'x'], /not supported/i);
  });

  /** Sends bytes as they are; resolves with all that came back when the server has closed, or after hanging up. */
  async function raw(text: string, hangUp = false): Promise<string> {
    const socket = connect((await lab.socket('h1')).slice('unix://'.length));
    let answer = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => (answer += chunk));
    const closed = new Promise<void>((done, fail) => socket.on('close', () => done()).on('error', fail));
    await new Promise<void>((done) => socket.write(text, () => done()));
    if (hangUp) socket.destroy();
    await closed;
    return answer;
  }

  const post = (path: string, body: string, length = Buffer.byteLength(body)) =>
    `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n${body}`;

  test('a body that is no JSON', async () => {
    const before = await declared();
    expect(await raw(post('/services/create', '{"Name": '))).toMatch(/^HTTP\/1.1 400 [\s\S]*\{"message":"[^"]*JSON/);
    expect(await raw(post('/services/create', '[]'))).toMatch(/^HTTP\/1.1 400 /);
    expect(await raw(post('/services/create', '{"Name":7}'))).toMatch(/^HTTP\/1.1 400 [\s\S]*Name/);
    expect(await declared()).toBe(before);
  });

  test('a client that hangs up in the middle', async () => {
    const before = await declared();
    await raw(post('/services/create', '{"Name":"half"', 1000), true);
    await raw('GET /events HTTP/1.1\r\nHost: x\r\n\r\n', true);
    expect(await declared()).toBe(before);
  });

  test('the daemons live', async () => {
    for (const host of ['h1', 'h2']) {
      const socket = (await lab.socket(host)).slice('unix://'.length);
      expect(await succeed('curl', ['-sS', '--unix-socket', socket, 'http://x/_ping'])).toBe('OK');
    }
  });
});
