import { describe, expect, test } from 'vitest';
import { CONFIG_FILE, parseOptions, UsageError, type Options } from './options.ts';

const noFile = () => undefined;

function options(...args: string[]): Options {
  return withFile(undefined, ...args);
}

/** As `options`, with a config file in the default place. */
function withFile(settings: object | undefined, ...args: string[]): Options {
  const files: Record<string, string> = settings === undefined ? {} : { [CONFIG_FILE]: JSON.stringify(settings) };
  const command = parseOptions(args, (path) => files[path]);
  if (command.run !== 'daemon') throw new Error(`expected to run, got ${command.run}`);
  return command.options;
}

describe('parseOptions', () => {
  test('without flags: the documented defaults', () => {
    expect(options()).toEqual({
      hosts: [{ kind: 'unix', path: '/run/drover/drover.sock' }],
      engine: 'unix:///var/run/docker.sock',
      dataDir: '/var/lib/drover',
      listenAddr: '0.0.0.0:2377',
      advertiseAddr: '',
      dataPathAddr: '',
      logLevel: 'info',
      logFormat: 'text',
      tls: undefined,
      etcd: undefined,
    });
  });

  test('--validate checks all of it and runs nothing', () => {
    expect(parseOptions(['--validate'], noFile)).toEqual({ run: 'validate' });
    expect(() => parseOptions(['--validate'], () => '{')).toThrow(UsageError);
  });

  test('--host may be given several times', () => {
    expect(options('--host', 'unix:///a', '--host=tcp://[::1]:2375', '--insecure-api').hosts).toEqual([
      { kind: 'unix', path: '/a' },
      { kind: 'tcp', host: '::1', port: 2375 },
    ]);
  });

  test.each([
    [['--host', 'tcp://0.0.0.0:2375'], /needs --tlscert/],
    [['--host', 'unix://relative'], /absolute path/],
    [['--host', `unix:///${'x'.repeat(107)}`], /107 bytes at most/],
    [['--host', 'http://x'], /expected unix:\/\/\/path or tcp:\/\/host:port/],
    [['--host', 'tcp://h:99999', '--insecure-api'], /expected unix/],
    [['--log-level', 'loud'], /--log-level loud: expected one of debug, info, warn, error/],
    [['--tlscert', 'c'], /give all three/],
    [['--no-such'], /no-such/],
    [['extra'], /extra/],
  ])('%j is refused by name', (args, message) => {
    expect(() => parseOptions(args, noFile)).toThrow(UsageError);
    expect(() => parseOptions(args, noFile)).toThrow(message);
  });
});

describe('the config file', () => {
  test('sets what no flag sets', () => {
    const file = {
      hosts: ['unix:///a', 'tcp://h:2376'],
      'log-level': 'debug',
      'data-dir': '/d',
      tlscert: 'c',
      tlskey: 'k',
      tlscacert: 'a',
    };
    expect(withFile(file, '--log-level', 'warn')).toMatchObject({
      hosts: [{ path: '/a' }, { host: 'h', port: 2376 }],
      logLevel: 'warn',
      dataDir: '/d',
      tls: { certFile: 'c', keyFile: 'k', caFile: 'a' },
      engine: 'unix:///var/run/docker.sock',
    });
  });

  test('--host replaces all of its hosts', () => {
    expect(withFile({ hosts: ['unix:///a', 'unix:///b'] }, '--host', 'unix:///c').hosts).toEqual([
      { kind: 'unix', path: '/c' },
    ]);
  });

  test('is another one with --config, and none with --config ""', () => {
    const read = (path: string) => (path === '/mine.json' ? '{"log-level":"error"}' : '{"log-level":"debug"}');
    expect(parseOptions(['--config', '/mine.json'], read)).toMatchObject({ options: { logLevel: 'error' } });
    expect(parseOptions(['--config', ''], read)).toMatchObject({ options: { logLevel: 'info' } });
  });

  test('may be missing in its default place, not where it was named', () => {
    expect(options().logLevel).toBe('info');
    expect(() => parseOptions(['--config', '/gone.json'], noFile)).toThrow(
      /--config \/gone.json: there is no such file/,
    );
  });

  test.each([
    ['{', /droverd.json is not JSON/],
    ['[]', /droverd.json: expected an object of settings/],
    [
      '{"loglevel":"debug","engine":1}',
      /"loglevel" is not a setting; "engine" must be a text \(settings: hosts, engine, .*log-level/,
    ],
    ['{"hosts":"unix:///a"}', /"hosts" must be a list of addresses/],
    ['{"hosts":[]}', /"hosts" must be a list of addresses/],
    ['{"insecure-api":"yes"}', /"insecure-api" must be true or false/],
    ['{"log-level":"loud"}', /droverd.json: log-level loud: expected one of debug/],
    ['{"hosts":["unix://relative"]}', /droverd.json: hosts unix:\/\/relative: give an absolute path/],
    ['{"hosts":["tcp://h:1"]}', /droverd.json: hosts tcp:\/\/… needs --tlscert/],
    ['{"config":"/x"}', /"config" is not a setting/],
  ])('%s is refused by name', (text, message) => {
    expect(() => parseOptions([], () => text)).toThrow(UsageError);
    expect(() => parseOptions([], () => text)).toThrow(message);
  });
});
