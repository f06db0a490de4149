import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { spawnSync } from 'node:child_process';
import { DataDirInUse, lockDataDir } from './lock.ts';

test('a data directory is locked against another process until released', () => {
  const dir = mkdtempSync(join(tmpdir(), 'drover-lock-'));
  const script = `import { lockDataDir } from ${JSON.stringify(new URL('./lock.ts', import.meta.url).href)};
    try { lockDataDir(${JSON.stringify(dir)}); process.exit(0); } catch (error) { process.exit(error.name === 'DataDirInUse' ? 3 : 4); }`;
  const other = () => spawnSync(process.execPath, ['--input-type=module', '-e', script]).status;
  const lock = lockDataDir(dir);
  expect(other()).toBe(3);
  expect(() => lockDataDir(dir)).toThrow(DataDirInUse);
  lock.release();
  expect(other()).toBe(0);
  rmSync(dir, { recursive: true });
});
