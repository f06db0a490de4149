/**
 * What a compose file of the wild declares is what the container is: read from the engine, and looked at from inside.
 * The untouched docker client translates the file; nothing in it is Drover's.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { everything } from './compose-file.ts';
import { eventually, get, Lab, succeed } from './lab.ts';

const hosts = ['h1', 'h2'];

/** What `docker inspect` says of a container, as far as it is looked at here. */
interface Inspected {
  Id: string;
  Name: string;
  Config: {
    Image: string;
    Entrypoint: string[] | null;
    Cmd: string[];
    Env: string[];
    User: string;
    WorkingDir: string;
    Hostname: string;
    Labels: Record<string, string>;
    StopSignal: string;
    StopTimeout: number;
    Tty: boolean;
    Healthcheck?: { Test: string[]; Interval: number; Timeout: number; Retries: number; StartPeriod: number };
  };
  HostConfig: {
    NanoCpus: number;
    Memory: number;
    MemoryReservation: number;
    PidsLimit: number;
    Init: boolean;
    ReadonlyRootfs: boolean;
    CapAdd: string[];
    CapDrop: string[];
    Dns: string[];
    DnsSearch: string[];
    DnsOptions: string[];
    ExtraHosts: string[];
    GroupAdd: string[];
    Sysctls: Record<string, string>;
    Ulimits: { Name: string; Soft: number; Hard: number }[];
    LogConfig: { Type: string; Config: Record<string, string> };
    RestartPolicy: { Name: string };
  };
  Mounts: { Type: string; Name?: string; Source: string; Destination: string; Driver?: string; RW: boolean }[];
}

describe('a compose file', () => {
  let lab: Lab;

  beforeAll(async () => {
    lab = await Lab.up('compose', { hosts: hosts.length });
  });
  afterAll(async () => {
    await lab?.down();
  });

  /** `docker stack deploy`, the file from standard input. */
  const deploy = async (stack: string, file: string) =>
    succeed('docker', ['stack', 'deploy', '--detach', '-c', '-', stack], {
      env: { DOCKER_HOST: await lab.socket('h1'), DOCKER_CONTEXT: undefined },
      input: file,
    });

  /** One line for each task, the newest first. */
  const ps = async (service: string, format: string, ...args: string[]) =>
    (await lab.docker('h1', 'service', 'ps', '--no-trunc', '--format', format, ...args, service)).split('\n');

  /** The container of the task that is wanted in a slot, and the host it is on. */
  async function containerOf(service: string, slot = 1): Promise<{ host: string; taskId: string; found: Inspected }> {
    return eventually(`the container of ${service}.${slot}`, async () => {
      const rows = await ps(service, '{{.ID}} {{.Name}} {{.Node}}', '--filter', 'desired-state=running');
      const [taskId, name, host] = rows.find((row) => row.includes(` ${service}.${slot} `))?.split(' ') ?? [];
      if (taskId === undefined || host === undefined) return undefined;
      const [found] = JSON.parse(await lab.engine(host, 'inspect', `${name}.${taskId}`)) as Inspected[];
      return found && { host, taskId, found };
    });
  }

  /** A shell command inside a container. */
  const inside = (at: { host: string; found: Inspected }, command: string) =>
    lab.engine(at.host, 'exec', at.found.Id, 'sh', '-c', command);

  describe('with everything in it', () => {
    let at: Awaited<ReturnType<typeof containerOf>>;

    beforeAll(async () => {
      await lab.docker('h1', 'node', 'update', '--label-add', 'disk=fast', 'h2');
      await deploy('wild', everything(lab.image('web:1')));
      await lab.converged('wild_web', 2);
      at = await containerOf('wild_web', 2);
    });

    test("the container has Swarm's name and labels, and container labels, not those of deploy", async () => {
      const { found, taskId } = at;
      expect(found.Name).toBe(`/wild_web.2.${taskId}`);
      const nodeId = await lab.docker('h1', 'node', 'inspect', '--format', '{{.ID}}', 'h2');
      const serviceId = await lab.docker('h1', 'service', 'inspect', '--format', '{{.ID}}', 'wild_web');
      expect(found.Config.Labels).toEqual({
        'com.docker.stack.namespace': 'wild',
        'com.docker.swarm.node.id': nodeId,
        'com.docker.swarm.service.id': serviceId,
        'com.docker.swarm.service.name': 'wild_web',
        'com.docker.swarm.task': '',
        'com.docker.swarm.task.id': taskId,
        'com.docker.swarm.task.name': `wild_web.2.${taskId}`,
        'org.example.on': 'container',
      });
      const labels = await lab.docker('h1', 'service', 'inspect', '--format', '{{json .Spec.Labels}}', 'wild_web');
      expect(JSON.parse(labels)).toEqual({
        'com.docker.stack.image': lab.image('web:1'),
        'com.docker.stack.namespace': 'wild',
        'org.example.on': 'service',
      });
      expect(found.HostConfig.RestartPolicy.Name).toBe('no');
    });

    test('command, entrypoint, user, directory, environment', async () => {
      const { Config } = at.found;
      expect(Config.Entrypoint).toEqual(['/bin/sh', '-c', 'echo "started: $*"; exec "$@"', 'entry']);
      expect(Config.Cmd).toEqual(['/bin/httpd', '-f', '-p', '0.0.0.0:8080', '-h', '/www']);
      expect(Config.User).toBe('65534:65534');
      expect(Config.WorkingDir).toBe('/tmp/work');
      const host = await inside(
        at,
        'tr "\\0" "\\n" < /proc/1/environ; echo; id -u; id -g; pwd; tr "\\0" " " < /proc/1/cmdline',
      );
      const lines = host.split('\n');
      expect(lines).toEqual(
        expect.arrayContaining([
          'PLAIN=a value',
          'EQUALS=a=b',
          'SLOT=2',
          'WHERE=h2',
          'SERVICE=wild_web',
          `TASK=wild_web.2.${at.taskId}`,
          'LABEL=service',
          'VERSION=1',
          '65534',
          '/tmp/work',
        ]),
      );
      expect(await lab.engine(at.host, 'logs', at.found.Id)).toContain('started: /bin/httpd -f');
    });

    test('hostname, extra hosts, dns', async () => {
      const { Config, HostConfig } = at.found;
      expect(Config.Hostname).toBe('web-2-h2');
      expect(HostConfig.ExtraHosts).toEqual(['db.example:192.0.2.7', 'cache.example:192.0.2.8']);
      expect(HostConfig.Dns.slice(1)).toEqual(['192.0.2.53']);
      expect(await inside(at, 'hostname')).toBe('web-2-h2');
      const files = await inside(at, 'cat /etc/hosts /etc/resolv.conf');
      expect(files).toMatch(/^192\.0\.2\.7\s+db\.example$/m);
      expect(files).toMatch(/^192\.0\.2\.8\s+cache\.example$/m);
      expect(files).toMatch(/^search corp\.example$/m);
      // Servers of one's own do not take the cluster's names away.
      expect(await inside(at, 'nslookup tasks.wild_web.')).toMatch(/Address.*: 10\.\d+\.\d+\.\d+/);
    });

    test('limits, reservations, ulimits, sysctls, capabilities, read-only', async () => {
      const { HostConfig } = at.found;
      expect(HostConfig).toMatchObject({
        NanoCpus: 500_000_000,
        Memory: 64 << 20,
        MemoryReservation: 32 << 20,
        PidsLimit: 50,
        ReadonlyRootfs: true,
        Init: true,
        Sysctls: { 'net.core.somaxconn': '1024' },
        Ulimits: [
          { Name: 'nofile', Soft: 1000, Hard: 2000 },
          { Name: 'nproc', Soft: 512, Hard: 512 },
        ],
      });
      const group = (two: string, one: string) => inside(at, `cd /sys/fs/cgroup; cat ${two} 2>/dev/null || cat ${one}`);
      expect(await group('memory.max', 'memory/memory.limit_in_bytes')).toBe(String(64 << 20));
      expect(await group('pids.max', 'pids/pids.max')).toBe('50');
      expect(await group('cpu.max', 'cpu/cpu.cfs_quota_us')).toMatch(/^50000\b/);
      expect(await inside(at, 'cat /proc/sys/net/core/somaxconn')).toBe('1024');
      expect(await inside(at, 'cat /proc/1/limits')).toMatch(/^Max open files\s+1000\s+2000/m);
      const bounding = BigInt(`0x${await inside(at, "sed -n 's/^CapBnd:\\s*//p' /proc/1/status")}`);
      const has = (capability: bigint) => ((bounding >> capability) & 1n) === 1n;
      const [MKNOD, NET_RAW, NET_ADMIN] = [27n, 13n, 12n];
      expect([has(NET_ADMIN), has(MKNOD), has(NET_RAW)]).toEqual([true, false, false]);
      await expect(inside(at, 'touch /etc/file')).rejects.toThrow('Read-only file system');
      expect(await inside(at, 'tr "\\0" " " < /proc/1/cmdline')).toContain('docker-init');
      const demand = await lab.docker(
        'h1',
        'service',
        'inspect',
        '--format',
        '{{json .Spec.TaskTemplate.Resources}}',
        'wild_web',
      );
      expect(JSON.parse(demand)).toEqual({
        Limits: { NanoCPUs: 500_000_000, MemoryBytes: 64 << 20, Pids: 50 },
        Reservations: { NanoCPUs: 100_000_000, MemoryBytes: 32 << 20 },
      });
    });

    test('bind, volumes with labels and driver options, tmpfs; templates in the name of a volume', async () => {
      const { Mounts } = at.found;
      const mount = (target: string) => Mounts.find(({ Destination }) => Destination === target);
      expect(mount('/host/etc')).toMatchObject({ Type: 'bind', Source: '/etc', RW: false });
      expect(mount('/data')).toMatchObject({ Type: 'volume', Name: 'data-wild_web-2', Driver: 'local', RW: true });
      expect(mount('/ram')).toMatchObject({ Type: 'volume', Name: 'wild_ram' });
      const volumes = JSON.parse(
        await lab.engine(at.host, 'volume', 'inspect', 'data-wild_web-2', 'wild_ram'),
      ) as object[];
      expect(volumes).toMatchObject([
        { Labels: { 'com.docker.stack.namespace': 'wild', 'org.example.keep': 'yes' } },
        {
          Labels: { 'com.docker.stack.namespace': 'wild' },
          Options: { type: 'tmpfs', device: 'tmpfs', o: 'size=1m,uid=65534' },
        },
      ]);
      const mounts = await inside(at, 'cat /proc/mounts');
      expect(mounts).toMatch(/^tmpfs \/tmp tmpfs rw,.*size=8192k/m);
      expect(mounts).toMatch(/^tmpfs \/ram tmpfs rw,.*size=1024k/m);
      expect(
        await inside(
          at,
          'test -f /host/etc/passwd && ! touch /host/etc/no 2>/dev/null && echo ok > /ram/file && cat /ram/file',
        ),
      ).toBe('ok');
    });

    test('stop signal, grace, log driver with its options', async () => {
      expect(at.found.Config).toMatchObject({ StopSignal: 'SIGUSR1', StopTimeout: 3 });
      expect(at.found.HostConfig.LogConfig).toEqual({
        Type: 'json-file',
        Config: { 'max-file': '3', 'max-size': '1m', tag: 'web' },
      });
      const none = await containerOf('wild_quiet');
      expect(none.found.HostConfig.LogConfig.Type).toBe('none');
      // A file changed in one service leaves the tasks of the others alone.
      await deploy('wild', everything(lab.image('web:1'), 'loud'));
      await eventually(
        'wild_quiet is another task',
        async () => (await containerOf('wild_quiet')).taskId !== none.taskId,
      );
      expect((await containerOf('wild_web', 2)).taskId).toBe(at.taskId);
    });

    test('docker stack deploy --prune removes what is no longer declared; docker stack rm all of it', async () => {
      const file = `services: { other: { image: "${lab.image('web:1')}" } }`;
      await succeed('docker', ['stack', 'deploy', '--detach', '--prune', '-c', '-', 'wild'], {
        env: { DOCKER_HOST: await lab.socket('h1'), DOCKER_CONTEXT: undefined },
        input: file,
      });
      expect(await lab.docker('h1', 'stack', 'services', 'wild', '--format', '{{.Name}}')).toBe('wild_other');
      await lab.docker('h1', 'stack', 'rm', 'wild');
      for (const host of hosts)
        await eventually(`no container on ${host}`, async () => (await lab.engine(host, 'ps', '-aq')) === '');
    });
  });

  // More reserved than allowed: Swarm takes that, and so must we.
  test('docker service create: its flags arrive as well', async () => {
    await lab.docker(
      'h1',
      'service',
      'create',
      '--detach',
      '--name',
      'flags',
      '--hostname',
      '{{.Service.Name}}-{{.Task.Slot}}',
      '--constraint',
      'node.hostname==h1',
      '--user',
      '0:0',
      '--group',
      '1234',
      '--workdir',
      '/work',
      '--env',
      'NODE={{.Node.ID}}',
      '--entrypoint',
      '/bin/tini -g --',
      '--tty',
      '--label',
      'where=service',
      '--container-label',
      'where=container',
      '--read-only',
      '--mount',
      'type=tmpfs,destination=/scratch,tmpfs-size=2097152,tmpfs-mode=1770',
      '--mount',
      'type=volume,source=flags,destination=/vol,volume-label=a=b,readonly',
      '--mount',
      'type=bind,source=/etc,destination=/host',
      '--limit-cpu',
      '.25',
      '--limit-memory',
      '32M',
      '--limit-pids',
      '20',
      '--reserve-memory',
      '64M',
      '--stop-signal',
      'SIGINT',
      '--stop-grace-period',
      '2s',
      '--log-driver',
      'local',
      '--log-opt',
      'max-size=2m',
      '--host',
      'db.example:192.0.2.9',
      '--dns',
      '192.0.2.53',
      '--dns-search',
      'corp.example',
      '--dns-option',
      'ndots:3',
      '--cap-add',
      'CAP_SYS_TIME',
      '--cap-drop',
      'ALL',
      '--sysctl',
      'net.ipv4.ip_unprivileged_port_start=80',
      '--ulimit',
      'nofile=100:200',
      lab.image('web:1'),
      'sleep',
      '1000',
    );
    await lab.converged('flags', 1);
    const at = await containerOf('flags');
    const nodeId = await lab.docker('h1', 'node', 'inspect', '--format', '{{.ID}}', 'h1');
    const { Config, HostConfig, Mounts } = at.found;
    expect(Config).toMatchObject({
      Hostname: 'flags-1',
      User: '0:0',
      WorkingDir: '/work',
      Tty: true,
      StopSignal: 'SIGINT',
      StopTimeout: 2,
      Entrypoint: ['/bin/tini', '-g', '--'],
      Cmd: ['sleep', '1000'],
    });
    expect(Config.Env).toContain(`NODE=${nodeId}`);
    expect(Config.Labels['where']).toBe('container');
    expect(HostConfig).toMatchObject({
      NanoCpus: 250_000_000,
      Memory: 32 << 20,
      PidsLimit: 20,
      GroupAdd: ['1234'],
      ReadonlyRootfs: true,
      CapAdd: ['CAP_SYS_TIME'],
      CapDrop: ['ALL'],
      Sysctls: { 'net.ipv4.ip_unprivileged_port_start': '80' },
      Ulimits: [{ Name: 'nofile', Soft: 100, Hard: 200 }],
      ExtraHosts: ['db.example:192.0.2.9'],
      Dns: ['192.0.2.53'],
      DnsSearch: ['corp.example'],
      DnsOptions: ['ndots:3'],
      LogConfig: { Type: 'local', Config: { 'max-size': '2m' } },
    });
    expect(Mounts.find(({ Destination }) => Destination === '/vol')).toMatchObject({ Name: 'flags', RW: false });
    // Nothing but the default bridge: its servers are the user's alone.
    expect(await inside(at, 'cat /etc/resolv.conf')).toMatch(
      /search corp\.example\nnameserver 192\.0\.2\.53\noptions ndots:3/,
    );
    expect(
      await inside(
        at,
        'stat -c %a /scratch; id -G; test -f /host/passwd && echo bound; grep -c "/scratch tmpfs.*size=2048k" /proc/mounts',
      ),
    ).toMatch(/^1770\n.*\b1234\b.*\nbound\n1$/);
    expect(await inside(at, "sed -n 's/^CapEff:\\s*//p' /proc/1/status")).toBe(
      (1n << 25n).toString(16).padStart(16, '0'),
    );
    await lab.docker('h1', 'service', 'rm', 'flags');
  });

  test('the stop signal ends a task in its own way; one that will not listen is killed after its grace', async () => {
    const common = ['service', 'create', '--detach', '--constraint', 'node.hostname==h1', '--stop-signal', 'SIGUSR1'];
    const script = (onSignal: string) => `trap "${onSignal}" USR1; echo up; while true; do sleep 0.1; done`;
    await lab.docker(
      'h1',
      ...common,
      '--name',
      'polite',
      lab.image('busybox:latest'),
      'sh',
      '-c',
      script('echo bye; exit 7'),
    );
    await lab.docker(
      'h1',
      ...common,
      '--name',
      'deaf',
      '--stop-grace-period',
      '1s',
      lab.image('busybox:latest'),
      'sh',
      '-c',
      script('echo no'),
    );
    const ended: { found: Inspected }[] = [];
    for (const name of ['polite', 'deaf']) {
      await lab.converged(name, 1);
      const old = await containerOf(name);
      await eventually(`${name} has set its trap`, async () =>
        (await lab.engine('h1', 'logs', old.found.Id)).includes('up'),
      );
      await lab.docker('h1', 'service', 'update', '--detach', '--force', name);
      ended.push(old);
    }
    const [polite, deaf] = await Promise.all(
      ended.map(({ found }) =>
        eventually(`${found.Name} has ended`, async () => {
          const said = await lab.engine('h1', 'inspect', '--format', '{{.State.Status}} {{.State.ExitCode}}', found.Id);
          return said.startsWith('exited') && `${said}: ${await lab.engine('h1', 'logs', found.Id)}`;
        }),
      ),
    );
    expect(polite).toMatch(/^exited 7: up\s+bye$/);
    expect(deaf).toMatch(/^exited 137: up\s+no$/);
    await lab.docker('h1', 'service', 'rm', 'polite', 'deaf');
  });

  test('a health check gates RUNNING and service; what turns unhealthy fails and is replaced', async () => {
    await deploy(
      'health',
      `
services:
  gate:
    image: ${lab.image('web:1')}
    ports: ["8085:8080"]
    healthcheck: { test: "test -f /tmp/ok", interval: 300ms, timeout: 5s, retries: 2, start_period: 60s }
    deploy: { restart_policy: { delay: 0s } }
  never:
    image: ${lab.image('web:1')}
    healthcheck: { test: ["CMD", "false"], interval: 100ms, timeout: 5s, retries: 2 }
    deploy: { restart_policy: { delay: 100ms } }
`,
    );
    const url = `http://${await lab.address('h2')}:8085/`;
    const gate = await eventually('a container that runs and is not yet healthy', async () => {
      const found = await containerOf('health_gate');
      return (await inside(found, 'wget -q -O - http://127.0.0.1:8080/')).includes('"host"') && found;
    });
    expect(gate.found.Config.Healthcheck).toEqual({
      Test: ['CMD-SHELL', 'test -f /tmp/ok'],
      Interval: 300e6,
      Timeout: 5e9,
      Retries: 2,
      StartPeriod: 60e9,
    });
    // A check has been made, and failed.
    await eventually(
      'a check',
      async () =>
        (await lab.engine(gate.host, 'inspect', '--format', '{{len .State.Health.Log}}', gate.found.Id)) !== '0',
    );
    expect((await ps('health_gate', '{{.CurrentState}}'))[0]).toMatch(/^Starting /);
    expect(await lab.docker('h1', 'service', 'ls', '--filter', 'name=health_gate', '--format', '{{.Replicas}}')).toBe(
      '0/1',
    );
    await expect(get(url)).rejects.toThrow(/ECONNREFUSED|ECONNRESET|no answer/);

    await inside(gate, 'touch /tmp/ok');
    await lab.converged('health_gate', 1);
    await eventually('the service answers', async () => (await get(url)).status === 200);

    await inside(gate, 'rm /tmp/ok');
    const row = await eventually('the task fails', async () => {
      const rows = await ps('health_gate', '{{.ID}} {{.DesiredState}} {{.CurrentState}} {{.Error}}');
      return rows.find((each) => each.startsWith(gate.taskId) && each.includes(' Failed '));
    });
    expect(row).toMatch(/ Shutdown Failed .* "task: non-zero exit \(143\): dockerexec: unhealthy container"$/);
    expect((await containerOf('health_gate')).taskId).not.toBe(gate.taskId);

    await eventually('what never gets healthy is replaced again and again', async () => {
      const rows = await ps('health_never', '{{.CurrentState}} {{.Error}}');
      expect(rows.filter((each) => each.startsWith('Running'))).toEqual([]);
      return rows.filter((each) => /^Failed .*unhealthy container/.test(each)).length >= 2;
    });
    await lab.docker('h1', 'stack', 'rm', 'health');
  });

  test('nothing is left over', async () => {
    await eventually('a clean audit', async () => {
      await lab.drover('audit');
      return true;
    });
  });
});
