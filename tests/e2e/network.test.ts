/**
 * What the network promises, asked from inside containers, from the hosts and from outside: names, service addresses,
 * published ports, internal networks, and nothing left over. Tests share a few services and run in order.
 */
import { createSocket } from 'node:dgram';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, get, Lab, succeed } from './lab.ts';

const hosts = ['h1', 'h2', 'h3'];

/** Answers every datagram with its own host name and what it sees of the caller. */
const UDP_WHO_AM_I = `require('dgram').createSocket('udp4', function (_, from) {
  this.send(require('os').hostname() + ' ' + from.address, from.port, from.address);
}).bind(9000)`;
/** Sends one datagram to its two arguments and prints the answer. */
const UDP_ASK = `const s = require('dgram').createSocket('udp4');
s.on('message', (m) => { console.log(String(m)); s.close(); });
s.send('who', Number(process.argv[2]), process.argv[1]); setTimeout(() => process.exit(1), 3000).unref();`;

interface Who {
  host: string;
  client: string;
}

describe('the network', () => {
  let lab: Lab;
  /** The test run itself, as the hosts see it. */
  let outside: string;
  const engines = new Map<string, string>();

  beforeAll(async () => {
    lab = await Lab.up('network');
    outside = (await lab.address('h1')).replace(/\.\d+$/, '.254');
    for (const host of hosts) {
      engines.set(host, await lab.engineSocket(host));
    }
    for (const name of ['front', 'back']) await network(name);
    await network('inner', '--internal');
    const web = lab.image('web:1');
    await Promise.all([
      service('web', '--replicas', '6', '--network', 'name=front,alias=shop', '-p', '8080:8080', web),
      service('rr', '--replicas', '3', '--endpoint-mode', 'dnsrr', '--network', 'front', web),
      service('both', '--network', 'front', '--network', 'back', web),
      service('hidden', '--replicas', '3', '--network', 'back', web),
      service('sealed', '--mode', 'global', '--network', 'inner', web),
      service('loner', '-p', '8080', web),
      service('local', '--mode', 'global', '-p', 'mode=host,target=8080,published=8088', '--network', 'front', web),
      service('client', '--mode', 'global', '--init', '--network', 'front', lab.image('busybox'), 'sleep', '100000'),
      service(
        'udp',
        '--replicas',
        '3',
        '--init',
        '-p',
        '9000:9000/udp',
        '-p',
        '9001:9001',
        lab.image('calculator:1'),
        '/usr/bin/node',
        '-e',
        UDP_WHO_AM_I,
      ),
    ]);
    await Promise.all(
      Object.entries({ web: 6, rr: 3, both: 1, hidden: 3, sealed: 3, loner: 1, local: 3, client: 3, udp: 3 }).map(
        ([name, count]) => lab.converged(name, count),
      ),
    );
  });
  afterAll(async () => {
    await lab?.down();
  });

  const network = (name: string, ...options: string[]) =>
    lab.docker('h1', 'network', 'create', '-d', 'overlay', ...options, name);
  const service = (name: string, ...rest: string[]) =>
    lab.docker('h1', 'service', 'create', '--detach', '--name', name, ...rest);
  const engine = async (host: string, ...args: string[]) =>
    (await succeed('docker', args, { env: { DOCKER_HOST: engines.get(host), DOCKER_CONTEXT: undefined } })).trim();

  const containersOf = async (host: string, name: string) => {
    const ids = await engine(host, 'ps', '-q', '--no-trunc', '--filter', `label=com.docker.swarm.service.name=${name}`);
    return ids.split('\n').filter((id) => id !== '');
  };

  /** What a shell prints inside the first container of a service on a host. */
  async function inside(host: string, name: string, script: string): Promise<string> {
    const [container] = await containersOf(host, name);
    expect(container, `${name} on ${host}`).toBeDefined();
    return engine(host, 'exec', container!, 'sh', '-c', script);
  }

  /** Name → its addresses as a container finds them, sorted; '' if it does not exist there. */
  async function lookUp(host: string, name: string, names: string[]): Promise<Record<string, string>> {
    // The first two lines of nslookup are about the name server.
    const script = names
      .map((each) => `echo ${each} $(nslookup ${each}. 2>/dev/null | sed 1,2d | sed -n 's/^Address.*: //p' | sort)`)
      .join('\n');
    const lines = (await inside(host, name, script)).split('\n').map((line) => line.split(' '));
    return Object.fromEntries(lines.map(([each, ...addresses]) => [each ?? '', addresses.join(' ')]));
  }

  async function calls(host: string, name: string, url: string, times: number): Promise<Who[]> {
    const said = await inside(host, name, `for i in $(seq ${times}); do wget -q -O - ${url}; done`);
    return said.split('\n').map((line): Who => JSON.parse(line));
  }

  async function whoami(host: string, port: number): Promise<Who> {
    const answer = await get(`http://${await lab.address(host)}:${port}/`);
    expect(answer.status).toBe(200);
    return JSON.parse(answer.body) as Who;
  }

  const inspect = (kind: string, name: string, format: string) =>
    lab.docker('h1', kind, 'inspect', name, '--format', format);
  const vipOf = async (name: string) =>
    (await inspect('service', name, '{{range .Endpoint.VirtualIPs}}{{println .Addr}}{{end}}')).trim().split('\n');
  const subnetOf = (name: string) => inspect('network', name, '{{range .IPAM.Config}}{{.Subnet}}{{end}}');

  const cleanAudit = () =>
    eventually('a clean audit', async () => {
      await lab.drover('audit');
      return true;
    });

  test('names lead to VIPs and tasks, the same on every host', async () => {
    const names = ['web', 'shop', 'web.front', 'tasks.web', 'web.1', 'web.6', 'rr', 'both', 'nobody', 'web.7'];
    const [h1, ...others] = await Promise.all(hosts.map((host) => lookUp(host, 'client', names)));
    expect(others).toEqual([h1, h1]);
    const found = h1!;
    const vips = (await vipOf('web')).map((cidr) => cidr.split('/')[0]);
    expect(vips).toContain(found['web']);
    expect([found['shop'], found['web.front']]).toEqual([found['web'], found['web']]);
    const tasks = found['tasks.web']!.split(' ');
    expect(new Set(tasks).size).toBe(6);
    expect(tasks).not.toContain(found['web']);
    expect(tasks).toEqual(expect.arrayContaining([found['web.1'], found['web.6']]));
    expect(found['web.1']).not.toBe(found['web.6']);
    expect(new Set(found['rr']!.split(' ')).size).toBe(3);
    expect(found['both']).toMatch(/^[\d.]+$/);
    expect([found['nobody'], found['web.7']]).toEqual(['', '']);
  });

  test('a VIP balances over the tasks on all hosts, for a task of its own too', async () => {
    for (const host of hosts) {
      const seen = Map.groupBy(await calls(host, 'client', 'http://web:8080/', 12), (who) => who.host);
      expect([...seen.values()].map((all) => all.length)).toEqual([2, 2, 2, 2, 2, 2]);
      const own = await calls(host, 'web', 'http://web:8080/', 6);
      expect(new Set(own.map((who) => who.host)).size).toBe(6);
    }
    // Its only task: nobody but itself can answer.
    expect(await calls((await lab.runningOn('both'))[0]!, 'both', 'http://both:8080/', 2)).toHaveLength(2);
  });

  test('names are seen only in shared networks', async () => {
    const all = ['web', 'hidden', 'sealed', 'both'];
    const seen = async (host: string, name: string) =>
      Object.entries(await lookUp(host, name, all)).flatMap(([each, addresses]) => (addresses === '' ? [] : [each]));
    expect(await seen('h2', 'client')).toEqual(['web', 'both']);
    expect(await seen('h2', 'hidden')).toEqual(['hidden', 'both']);
    expect(await seen('h2', 'sealed')).toEqual(['sealed']);
    expect(await seen((await lab.runningOn('both'))[0]!, 'both')).toEqual(['web', 'hidden', 'both']);
    expect(await seen((await lab.runningOn('loner'))[0]!, 'loner')).toEqual([]);
    const both = (await lab.runningOn('both'))[0]!;
    expect(new Set((await calls(both, 'both', 'http://hidden:8080/', 6)).map((who) => who.host)).size).toBe(3);
  });

  test('a name that nobody can resolve fails at once, and does not hurt the resolver', async () => {
    const resolver = () => lab.exec('h1', 'sh', '-c', "pgrep -f '[n]etwork/resolver/main'");
    const before = await resolver();
    const began = performance.now();
    expect(await inside('h1', 'client', 'nslookup example.com. 2>&1 || true')).toContain('SERVFAIL');
    // One that waited for an upstream would take two rounds of two seconds.
    expect(performance.now() - began).toBeLessThan(4000);
    expect(await resolver()).toBe(before);
  });

  test('an internal network has names and no way out, not even by a published port', async () => {
    const seen = await calls('h1', 'sealed', 'http://sealed:8080/', 6);
    expect(new Set(seen.map((who) => who.host)).size).toBe(3);
    const targets = [`${outside}:5000/v2/`, `${await lab.address('h2')}:8080/`, `${await lab.address('h1')}:8080/`];
    // All at once: each is dropped, which takes a time to be sure of.
    const tries = targets.map((target) => `(timeout 2 wget -q -O /dev/null http://${target} && echo ${target}) &`);
    expect(await inside('h1', 'sealed', `${tries.join('\n')}\nwait`)).toBe('');
    // The same targets answer a task that is not shut in.
    const open = targets.map((target) => `wget -q -O /dev/null http://${target} && echo ${target}`);
    expect((await inside('h1', 'client', open.slice(1).join('\n'))).split('\n')).toEqual(targets.slice(1));
  });

  test('published ports answer on every host and its localhost, and the caller keeps its address', async () => {
    const [h1, h2, h3] = await Promise.all(hosts.map((host) => lab.address(host)));
    for (const host of hosts) {
      expect((await whoami(host, 8080)).client).toBe(outside);
      const local = await lab.exec(host, 'busybox', 'wget', '-q', '-O', '-', 'http://127.0.0.1:8080/');
      expect(local).toContain('"host"');
    }
    const between: Who = JSON.parse(await lab.exec('h1', 'busybox', 'wget', '-q', '-O', '-', `http://${h3}:8080/`));
    expect(between.client).toBe(h1);
    // Out of a task, by another host's port and by its own host's.
    for (const address of [h1, h2]) {
      const seen = await calls('h1', 'client', `http://${address}:8080/`, 6);
      expect(new Set(seen.map((who) => who.host)).size).toBe(6);
    }
    // A task that publishes the port, by its own host: some of these reach itself.
    const own = await calls('h1', 'web', `http://${h1}:8080/`, 6);
    expect(new Set(own.map((who) => who.host)).size).toBe(6);
  });

  test('so do published UDP ports', async () => {
    for (const host of hosts) {
      const address = await lab.address(host);
      const seen: string[][] = [];
      for (let i = 0; i < 6; i++) seen.push((await udp(address, 9000)).split(' '));
      expect(new Set(seen.map(([task]) => task)).size).toBe(3);
      expect(new Set(seen.map(([, client]) => client))).toEqual(new Set([outside]));
      const local = await lab.exec(host, process.execPath, '-e', UDP_ASK, '127.0.0.1', '9000');
      expect(local).toMatch(/^[0-9a-f]{12} /);
    }
    const between = await lab.exec('h1', process.execPath, '-e', UDP_ASK, await lab.address('h2'), '9000');
    expect(between.trim().split(' ')[1]).toBe(await lab.address('h1'));
  });

  test('mode=host publishes on the host of the task; a port that nobody chose is shown', async () => {
    for (const host of hosts) {
      const [container] = await containersOf(host, 'local');
      expect(await whoami(host, 8088)).toEqual(
        expect.objectContaining({ host: container!.slice(0, 12), client: outside }),
      );
    }
    const ports = async (name: string) =>
      lab.docker('h1', 'service', 'ls', '--filter', `name=${name}`, '--format', '{{.Ports}}');
    expect(await ports('udp')).toBe('*:9001->9001/tcp, *:9000->9000/udp');
    const chosen = /^\*:(3\d{4})->8080\/tcp$/.exec(await ports('loner'))?.[1];
    expect(chosen).toBeDefined();
    for (const host of hosts) expect((await whoami(host, Number(chosen))).client).toBe(outside);
  });

  test('ports are added and removed', async () => {
    const closed = (port: number) =>
      get(`http://${address}:${port}/`).then(
        () => false,
        () => true,
      );
    const address = await lab.address('h3');
    await service('moving', '-p', '8501:8080', lab.image('web:1'));
    await eventually('8501 answers', async () => (await whoami('h3', 8501)).client === outside);
    await lab.docker(
      'h1',
      'service',
      'update',
      '--detach',
      '--publish-add',
      '8502:8080',
      '--publish-rm',
      '8080',
      'moving',
    );
    await eventually('8502 answers', async () => (await whoami('h3', 8502)).client === outside);
    await eventually('8501 is closed', () => closed(8501));
    await service('next', '-p', '8501:8080', lab.image('web:1'));
    await eventually('another service has 8501', async () => (await whoami('h3', 8501)).client === outside);
    await lab.docker('h1', 'service', 'rm', 'moving', 'next');
    await eventually('both are closed', async () => (await closed(8501)) && (await closed(8502)));
  });

  test('20 tasks whose first act is to call services by name: none fails', async () => {
    const act = 'wget -q -O /dev/null http://web:8080 && wget -q -O /dev/null http://hidden:8080 || exit 3';
    await service(
      'short',
      '--replicas',
      '20',
      '--restart-condition',
      'none',
      '--network',
      'front',
      '--network',
      'back',
      lab.image('busybox'),
      'sh',
      '-c',
      act,
    );
    const ended = await eventually('20 tasks ended', async () => {
      const states = (
        await lab.docker('h1', 'service', 'ps', 'short', '--no-trunc', '--format', '{{.CurrentState}} {{.Error}}')
      ).split('\n');
      const over = states.filter((state) => /^(Complete|Failed|Rejected|Shutdown)/.test(state));
      return over.length === 20 && over;
    });
    expect(ended.filter((state) => !state.startsWith('Complete'))).toEqual([]);
    await lab.docker('h1', 'service', 'rm', 'short');
  });

  test('the engine restarts: containers stay, VIPs and published ports answer throughout', async () => {
    const host = 'h2';
    const processes = async () =>
      (
        await engine(
          host,
          'inspect',
          '--format',
          '{{.Id}} {{.State.Pid}}',
          ...(await engine(host, 'ps', '-q')).split('\n'),
        )
      )
        .split('\n')
        .sort();
    const before = await processes();
    const pid = await engine(host, 'inspect', '--format', '{{.State.Pid}}', (await containersOf(host, 'client'))[0]!);
    const vip = (await lookUp('h1', 'client', ['web']))['web']!;
    const over = new AbortController();
    const failed: string[] = [];
    let made = 0;
    const asking = async (ask: () => Promise<unknown>) => {
      while (!over.signal.aborted) {
        made++;
        await ask().catch((error: unknown) => failed.push(String(error)));
      }
    };
    const askers = [
      ...hosts.map((each) => asking(() => whoami(each, 8080))),
      // The engine's own resolver in a container lives in the engine: what a task may ask meanwhile is a VIP.
      asking(() =>
        lab.exec(host, 'nsenter', '--target', pid, '--net', 'busybox', 'wget', '-q', '-O', '-', `http://${vip}:8080/`),
      ),
    ];
    await lab.drover('restart-daemon', host, '--engine');
    over.abort();
    await Promise.all(askers);
    expect(made).toBeGreaterThan(50);
    expect(failed).toEqual([]);
    expect(await processes()).toEqual(before);
    expect((await lookUp(host, 'client', ['web']))['web']).toBe(vip);
    expect(new Set((await calls(host, 'client', 'http://web:8080/', 6)).map((who) => who.host)).size).toBe(6);
    await cleanAudit();
  });

  test('docker network ls and inspect: each overlay once, and none of the bridges beneath', async () => {
    // A worker lists those that stand on it: all of them, for tasks of each run there.
    for (const host of ['h1', 'h2']) {
      const listed = (await lab.docker(host, 'network', 'ls', '--format', '{{.Name}} {{.Driver}}')).split('\n').sort();
      const overlays = ['back overlay', 'front overlay', 'ingress overlay', 'inner overlay'];
      expect(listed).toEqual([...overlays, 'bridge bridge', 'host host', 'none null'].sort());
    }
    const [verbose] = JSON.parse(await lab.docker('h1', 'network', 'inspect', '--verbose', 'front')) as {
      Peers: { IP: string }[];
      Services: Record<string, { VIP: string; Ports: string[]; Tasks: { EndpointIP: string }[] }>;
    }[];
    expect(verbose!.Peers.map((peer) => peer.IP).sort()).toEqual(
      await Promise.all(hosts.map((host) => lab.address(host))),
    );
    const { web } = verbose!.Services;
    expect(web!.VIP).toBe((await lookUp('h1', 'client', ['web']))['web']);
    expect(web!.Ports).toEqual(['Target: 8080, Publish: 8080']);
    expect(web!.Tasks).toHaveLength(6);
  });

  test('a subnet of the user: taken, refused in words where it overlaps, and free again after removal', async () => {
    const subnet = '10.99.5.0/24';
    for (let round = 0; round < 2; round++) {
      await network('mine', '--subnet', subnet);
      await service('there', '--replicas', '3', '--network', 'mine', lab.image('web:1'));
      await lab.converged('there', 3);
      expect(await subnetOf('mine')).toBe(subnet);
      const [vip] = await vipOf('there');
      expect(vip).toMatch(/^10\.99\.5\.\d+\/24$/);
      expect(new Set((await calls('h1', 'there', 'http://there:8080/', 6)).map((who) => who.host)).size).toBe(3);
      if (round === 0) {
        const inside = ['network', 'create', '-d', 'overlay', '--subnet', '10.99.5.128/25', 'inside'];
        expect(await lab.tryDocker('h1', ...inside)).toMatchObject({
          code: 1,
          stderr: expect.stringMatching(
            /Pool overlaps with other one on this address space \(network mine\)/,
          ) as string,
        });
        // What hosts have of their own is known from what they say, and may come later: the task that waits says it.
        const wanted = (await lab.address('h1')).replace(/\d+$/, '0/24');
        await network('lan', '--subnet', wanted);
        await service('waits', '--network', 'lan', lab.image('web:1'));
        await eventually('the reason in words', async () => {
          const error = await lab.docker('h1', 'service', 'ps', 'waits', '--no-trunc', '--format', '{{.Error}}');
          return (
            error.includes(`network lan has no subnet: subnet ${wanted} overlaps`) &&
            error.includes("of a node's own routes")
          );
        });
        await lab.docker('h1', 'service', 'rm', 'waits');
        await lab.docker('h1', 'network', 'rm', 'lan');
      }
      await lab.docker('h1', 'service', 'rm', 'there');
      await lab.docker('h1', 'network', 'rm', 'mine');
    }
  });

  test('docker stack rm, and at once docker stack deploy of the same stack', async () => {
    const compose = JSON.stringify({
      version: '3.8',
      services: {
        a: { image: lab.image('web:1'), ports: ['8600:8080'], deploy: { replicas: 3 } },
        b: { image: lab.image('web:1'), deploy: { replicas: 3 } },
      },
    });
    const deploy = async () =>
      succeed('docker', ['stack', 'deploy', '-c', '-', 'twice'], {
        env: { DOCKER_HOST: await lab.socket('h1'), DOCKER_CONTEXT: undefined },
        input: compose,
      });
    await deploy();
    await lab.converged('twice_a', 3);
    for (let round = 0; round < 2; round++) {
      await lab.docker('h1', 'stack', 'rm', 'twice');
      await deploy();
      await Promise.all(['twice_a', 'twice_b'].map((name) => lab.converged(name, 3)));
      // That they run is known before every node has taken them in.
      await eventually('each of a answers', async () => {
        const answers = await calls('h2', 'twice_b', 'http://a:8080/', 6);
        return new Set(answers.map((who) => who.host)).size === 3;
      });
      await eventually('its port answers', async () => (await whoami('h3', 8600)).client === outside);
    }
    await cleanAudit();
    await lab.docker('h1', 'stack', 'rm', 'twice');
  });

  test('everything removed: nothing is left but the ingress network', async () => {
    await lab.docker('h1', 'service', 'rm', 'web', 'rr', 'both', 'hidden', 'sealed', 'loner', 'local', 'client', 'udp');
    await lab.docker('h1', 'network', 'rm', 'front', 'back', 'inner');
    await cleanAudit();
    // The audit does not mind what tasks on their way out still use, and an engine takes a bridge away before it forgets it.
    for (const host of hosts) {
      await eventually(`one bridge and one VXLAN device on ${host}`, async () => {
        const links = (await lab.exec(host, 'ip', '-o', 'link')).match(/ dr[bv][0-9a-f]+(?=[:@])/g) ?? [];
        return links.length === 2;
      });
      const rules = () => lab.exec(host, 'iptables', '-S', 'DOCKER-USER');
      await eventually(`no network is closed on ${host}`, async () => !(await rules()).includes('DROP'));
      const known = () => engine(host, 'network', 'ls', '-q', '--filter', 'label=io.drover.network.id');
      await eventually(`one network on the engine of ${host}`, async () => /^\w+$/.test(await known()));
    }
  });
});

/** The answer to one datagram, sent from a socket of its own. */
function udp(address: string, port: number): Promise<string> {
  const socket = createSocket('udp4');
  return new Promise<string>((done, fail) => {
    const timer = setTimeout(() => fail(new Error(`${address}:${port}/udp: no answer within 3000 ms`)), 3000);
    socket.on('error', fail);
    socket.on('message', (message) => {
      clearTimeout(timer);
      done(String(message));
    });
    socket.send('who', port, address);
  }).finally(() => socket.close());
}
