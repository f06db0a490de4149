/**
 * What `make dist` builds, as a real host gets it: unpacked away from the clone it runs a cluster with its own Node and its
 * own scripts, is replaced by another version without a container noticing, and installs and uninstalls cleanly.
 */
import { appendFileSync, copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, Lab, run, succeed } from './lab.ts';

const clone = resolve(import.meta.dirname, '../..');

describe('the bundle', () => {
  let temp: string;
  let root: string;
  let lab: Lab;
  let asker: string;

  beforeAll(async () => {
    temp = mkdtempSync(join(tmpdir(), 'drover-dist-'));
    await succeed(join(clone, 'scripts/dist'), [], { env: { DIST_DIR: temp } });
    const [archive = ''] = readdirSync(temp);
    await succeed('tar', ['--extract', '--file', join(temp, archive), '--directory', temp]);
    root = join(temp, archive.replace('.tar.gz', ''));
    lab = await Lab.up('dist', { hosts: 1, bare: true, images: false, drover: join(root, 'bin/drover') });
    await importBusybox();
  });
  afterAll(async () => {
    await lab?.down();
    rmSync(temp, { recursive: true, force: true });
  });

  /** One small image; the lab's own are more than is needed here. */
  async function importBusybox(): Promise<void> {
    const bin = join(temp, 'image/bin');
    mkdirSync(bin, { recursive: true });
    copyFileSync('/usr/bin/busybox', join(bin, 'busybox'));
    for (const applet of ['sh', 'httpd', 'nslookup', 'sleep']) symlinkSync('busybox', join(bin, applet));
    await succeed('tar', ['--create', '--file', join(temp, 'image.tar'), '--directory', join(temp, 'image'), 'bin']);
    await lab.engine('h1', 'import', '--change', 'ENV PATH=/bin', join(temp, 'image.tar'), 'busybox');
  }

  /** The PID and command of the only process whose command line ends in what `pattern` says. */
  const processOf = (pattern: string) =>
    eventually(`one process ${pattern}`, async () => {
      const found = await lab.exec('h1', 'pgrep', '-af', `^[^ ]*/lib/node .*${pattern}`);
      // A child that it is just starting has its command line for a moment.
      const [, pid, command] = /^(\d+) (.*)\n$/.exec(found) ?? [];
      return pid !== undefined && { pid, command };
    });
  const daemon = () => processOf('/lib/daemon/main.mjs');
  const resolver = () => processOf('/lib/network/resolver/main.mjs');
  /** Asked through the engine, for droverd is to be away meanwhile. */
  const lookUp = () => lab.engine('h1', 'exec', asker, 'nslookup', 'web.');
  const started = () => lab.engine('h1', 'inspect', '--format', '{{.Id}} {{.State.StartedAt}}', ...containers);
  let containers: string[];

  test('a service runs and is found by its name', async () => {
    await lab.docker('h1', 'swarm', 'init', '--advertise-addr', await lab.address('h1'));
    await lab.docker('h1', 'network', 'create', '-d', 'overlay', 'backend');
    for (const [name, ...command] of [
      ['web', 'httpd', '-f'],
      ['asker', 'sleep', '1000000'],
    ] as const) {
      await lab.docker(
        'h1',
        'service',
        'create',
        '--detach',
        '--init',
        '--name',
        name,
        '--network',
        'backend',
        'busybox',
        ...command,
      );
    }
    await lab.converged('web', 1);
    await lab.converged('asker', 1);
    containers = (await lab.docker('h1', 'ps', '-q', '--no-trunc')).split('\n');
    asker = await lab.docker('h1', 'ps', '-q', '--filter', 'label=com.docker.swarm.service.name=asker');
    const vip = /"Addr": *"([0-9.]+)\//.exec(await lab.docker('h1', 'service', 'inspect', 'web'))![1]!;
    expect(await eventually('the name', lookUp)).toContain(vip);
  });

  test('runs nothing but what is in it', async () => {
    for (const { command } of [await daemon(), await resolver()]) {
      expect(command).toContain(`${root}/lib/node `);
      expect(command).not.toContain(clone);
    }
  });

  test('stopped and started: containers and the resolver stay', async () => {
    const [before, containersBefore, daemonBefore] = [await resolver(), await started(), await daemon()];
    await lab.drover('restart-daemon', 'h1', '--signal', 'TERM');
    await eventually('the cluster', () => lab.docker('h1', 'service', 'ls'));
    expect(await started()).toBe(containersBefore);
    expect(await resolver()).toEqual(before);
    expect(await daemon()).not.toEqual(daemonBefore);
  });

  test('another version takes over: another resolver answers, no look-up fails, no container notices', async () => {
    const [before, containersBefore] = [await resolver(), await started()];
    const over = new AbortController();
    let asked = 0;
    const asking = (async () => {
      for (; !over.signal.aborted; asked++) await lookUp();
    })();
    // As install.sh does it: other files in the same place while the old version still runs from there.
    appendFileSync(join(root, 'lib/network/resolver/main.mjs'), '\n// another version\n');
    const replaced = async () => {
      await lab.drover('restart-daemon', 'h1', '--signal', 'TERM');
      const askedBefore = await eventually(
        'another resolver',
        async () => (await resolver()).pid !== before.pid && asked,
      );
      await eventually('more look-ups', async () => asked > askedBefore + 10);
      over.abort();
    };
    // A look-up that fails ends the test at once.
    await Promise.all([asking, replaced()]);
    expect(await started()).toBe(containersBefore);
  });

  test('is a plugin of the docker command', async () => {
    const config = join(temp, 'docker-config');
    mkdirSync(join(config, 'cli-plugins'), { recursive: true });
    symlinkSync(join(root, 'bin/drover'), join(config, 'cli-plugins/docker-drover'));
    const env = { DOCKER_CONFIG: config };
    expect(await succeed('docker', ['drover', 'version'], { env })).toMatch(/^Drover version \d/);
    expect(await succeed('docker', ['drover', 'lab', 'addr', 'h1', '--name', 'dist'], { env })).toBe(
      `${await lab.address('h1')}\n`,
    );
    expect(await succeed('docker', ['--help'], { env })).toContain('drover*');
    expect((await run('docker', ['drover', 'no-such'], { env })).stderr).toContain(
      "'no-such' is not a docker drover command",
    );
  });

  /** Runs a script where what install.sh writes to is empty or a private copy, and no systemd is to be seen; `$1` is the bundle. */
  const onCleanHost = (script: string) => {
    const prepare = `set -eu
      for dir in /opt /usr/local /run/systemd; do [ ! -d "$dir" ] || mount -t tmpfs none "$dir"; done
      mkdir -p "$1.etc"; mount -t tmpfs none "$1.etc"; mkdir "$1.etc/upper" "$1.etc/work"
      mount -t overlay -o "lowerdir=/etc,upperdir=$1.etc/upper,workdir=$1.etc/work" none /etc
      rm -rf /etc/drover /etc/systemd/system/droverd.service; mkdir -p /etc/systemd/system /etc/drover`;
    return run('unshare', ['--mount', 'sh', '-c', `${prepare}\n${script}`, 'sh', join(temp, 'bundle')]);
  };

  test('installs, installs again over itself, and uninstalls', async () => {
    await succeed('cp', ['-R', root, join(temp, 'bundle')]);
    const install = await onCleanHost(`
      "$1/install.sh"; "$1/install.sh" --no-start
      /usr/local/bin/droverd --version; /usr/local/bin/drover version; /usr/local/lib/docker/cli-plugins/docker-drover version
      ls -A /opt; ls /etc/systemd/system/droverd.service
      /opt/drover/uninstall.sh --force
      find /opt /usr/local /etc/systemd/system/droverd* -mindepth 1 ! -type d 2>/dev/null || true`);
    expect(install.stderr).toBe('');
    expect(install.code).toBe(0);
    expect(install.stdout).toMatch(
      /no systemd runs here[\s\S]*droverd version \d[\s\S]*Drover version \d[\s\S]*Drover version \d/,
    );
    expect(install.stdout).toContain('\ndrover\n/etc/systemd/system/droverd.service\n');
    expect(install.stdout.trim().split('\n').at(-1)).toContain('drover: removed.');
  });

  test.each([
    [
      'a program that is missing',
      'mount --bind /dev/null "$(readlink -f "$(command -v nft)")"',
      /not installed: nft[\s\S]*apt-get install nftables\n/,
    ],
    [
      'settings it would not start with',
      'echo "{" >/etc/drover/droverd.json',
      /droverd\.json is not JSON[\s\S]*Nothing was changed/,
    ],
    ["somebody else's folder", 'mkdir -p /opt/drover/photos', /\/opt\/drover is there already/],
    [
      "somebody else's drover",
      'mkdir /usr/local/bin; echo mine >/usr/local/bin/drover',
      /\/usr\/local\/bin\/drover is there already/,
    ],
    ['a wrong flag', 'set -- "$1" --no-such', /Usage: {2}\.\/install\.sh/],
  ])('refuses %s and changes nothing', async (_what, given, message) => {
    const refused = await onCleanHost(`${given}
      bundle=$1; shift
      "$bundle/install.sh" "$@" && exit 9
      [ ! -e /opt/drover/bin ]; [ ! -e /usr/local/bin/droverd ]`);
    expect(refused.stderr).toMatch(message);
    expect(refused.stdout).toBe('');
    expect(refused.code).toBe(0);
  });
});
