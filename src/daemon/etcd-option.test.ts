import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ETCD_SETTINGS, isExposed, parseEtcdOption, readEtcdSettings } from './etcd-option.ts';
import { parseOptions } from './options.ts';
import { UsageError } from './usage-error.ts';

type Said = Partial<Record<(typeof ETCD_SETTINGS)[number], string>>;

const parsed = (said: Said) => parseEtcdOption({ text: (name) => said[name], said: (name) => `--${name}` });

describe('the settings of an etcd that stands elsewhere', () => {
  test.each<[Said, object | undefined]>([
    [{}, undefined],
    [{ 'etcd-endpoints': 'https://10.0.0.5' }, { endpoints: ['10.0.0.5:2379'], tls: true, prefix: '/drover/' }],
    [
      { 'etcd-endpoints': 'http://[::1]:4001/, http://etcd.example:2379', 'etcd-prefix': '/a/b-1/' },
      { endpoints: ['[::1]:4001', 'etcd.example:2379'], tls: false, prefix: '/a/b-1/' },
    ],
    [
      { 'etcd-endpoints': 'https://e:1', 'etcd-cacert': 'ca', 'etcd-cert': 'crt', 'etcd-key': 'key' },
      { endpoints: ['e:1'], tls: true, prefix: '/drover/', caFile: 'ca', certFile: 'crt', keyFile: 'key' },
    ],
  ])('%j', (said, expected) => expect(parsed(said)).toEqual(expected));

  test.each<[Said, string | RegExp]>([
    [{ 'etcd-endpoints': '' }, /--etcd-endpoints : expected https:\/\/host:port/],
    [{ 'etcd-endpoints': '10.0.0.5:2379' }, /10\.0\.0\.5:2379: expected https:\/\/host:port/],
    [{ 'etcd-endpoints': 'https://a:2379,' }, /expected https/],
    [{ 'etcd-endpoints': 'https://a:0' }, /expected https/],
    [{ 'etcd-endpoints': 'https://a:65536' }, /expected https/],
    [{ 'etcd-endpoints': 'https://root:pw@a:2379' }, /expected https/],
    [{ 'etcd-endpoints': 'https://a/v3' }, /expected https/],
    [{ 'etcd-endpoints': 'https://a,http://b' }, 'all of them https, or all http'],
    [{ 'etcd-endpoints': 'https://a', 'etcd-prefix': '/' }, '--etcd-prefix /: expected letters'],
    [{ 'etcd-endpoints': 'https://a', 'etcd-prefix': 'drover/' }, 'between slashes'],
    [{ 'etcd-endpoints': 'https://a', 'etcd-prefix': '/drover' }, 'between slashes'],
    [{ 'etcd-endpoints': 'https://a', 'etcd-cert': 'crt' }, '--etcd-cert and --etcd-key go together'],
    [{ 'etcd-endpoints': 'http://a', 'etcd-cacert': 'ca' }, 'need --etcd-endpoints with https'],
    [{ 'etcd-prefix': '/x/' }, '--etcd-prefix is of no use without --etcd-endpoints'],
  ])('%j is refused by name', (said, message) => {
    expect(() => parsed(said)).toThrow(UsageError);
    expect(() => parsed(said)).toThrow(message);
  });

  test('come from flags and from the config file alike', () => {
    const file = JSON.stringify({ 'etcd-endpoints': 'https://a:1', 'etcd-prefix': '/x/' });
    const command = parseOptions(['--etcd-endpoints', 'https://b:2'], () => file);
    const etcd = { endpoints: ['b:2'], tls: true, prefix: '/x/' };
    expect(command).toMatchObject({ run: 'daemon', options: { etcd } });
  });
});

test.each([
  ['http://127.0.0.1:2379,http://localhost,http://[::1]', false],
  ['http://127.0.0.1:2379,http://10.0.0.5:2379', true],
  ['http://127.example:2379', true],
  ['https://10.0.0.5:2379', false],
])('%s can be read on its way: %s', (endpoints, exposed) =>
  expect(isExposed(parsed({ 'etcd-endpoints': endpoints })!)).toBe(exposed),
);

test('files are read as they are now; one that cannot be is named with its flag', () => {
  const dir = mkdtempSync(join(tmpdir(), 'drover-etcd-option-'));
  try {
    const caFile = join(dir, 'ca.pem');
    const option = { endpoints: ['a:1'], tls: true, prefix: '/x/', caFile };
    expect(() => readEtcdSettings(option)).toThrow(`--etcd-cacert ${caFile} cannot be read: ENOENT`);
    writeFileSync(caFile, 'pem');
    expect(readEtcdSettings(option)).toEqual({ endpoints: ['a:1'], prefix: '/x/', tls: { caCertificate: 'pem' } });
  } finally {
    rmSync(dir, { recursive: true });
  }
  expect(readEtcdSettings({ endpoints: ['a:1'], tls: false, prefix: '/x/' })).toEqual({
    endpoints: ['a:1'],
    prefix: '/x/',
  });
});
