import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { EtcdUnusable, findEtcd, isNewEnough } from './binary.ts';

const dir = mkdtempSync(join(tmpdir(), 'drover-member-'));
afterAll(() => rmSync(dir, { recursive: true }));

function fake(name: string, script: string, mode = 0o755): string {
  const folder = join(dir, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'etcd'), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, 'etcd'), mode);
  return folder;
}

test.each([
  ['3.4.23', true],
  ['3.4.0-rc.1', true],
  ['3.10.0', true],
  ['4.0.0', true],
  ['3.3.27', false],
  ['2.9.0', false],
])('version %s: %s', (version, enough) => expect(isNewEnough(version)).toBe(enough));

test('the first in the path that can be run', async () => {
  const mute = fake('not-for-running', 'exit 1', 0o644);
  const good = fake('good', "echo 'etcd Version: 3.5.16'; echo 'Git SHA: 1'");
  expect(await findEtcd(`relative:${dir}:${mute}:${good}`)).toEqual({ path: join(good, 'etcd'), version: '3.5.16' });
});

test('absent, too old or no etcd: refused in words that say what to install', async () => {
  const refused = async (path: string, words: RegExp) => {
    const error = await findEtcd(path).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(EtcdUnusable);
    expect((error as Error).message).toMatch(words);
    expect((error as Error).message).toMatch(/install the Debian package etcd-server/);
  };
  await refused(dir, /there is no etcd in PATH/);
  await refused(fake('old', "echo 'etcd Version: 3.3.25'"), /3\.4 or newer, and \S+\/old\/etcd is version 3\.3\.25/);
  await refused(fake('other', 'echo something else'), /does not tell its version/);
  await refused(fake('broken', 'exit 1'), /does not tell its version/);
});
