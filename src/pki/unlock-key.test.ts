import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { createUnlockKey, InvalidUnlockKey, parseUnlockKey } from './unlock-key.ts';

test('an unlock key is its 32 bytes in the form that Docker gives them', () => {
  const bytes = Buffer.from(Array.from({ length: 32 }, (_, i) => 255 - i));
  const key = createUnlockKey(() => bytes);
  expect(key).toBe('SWMKEY-1-//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA');
  expect(parseUnlockKey(` ${key}\n`)).toEqual(bytes);
  expect(createUnlockKey(randomBytes)).not.toBe(createUnlockKey(randomBytes));
});

test.each(['', 'SWMKEY-1-', 'x', 'SWMKEY-2-//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA', `SWMKEY-1-${'A'.repeat(44)}`])(
  '%j is none',
  (text) => {
    expect(() => parseUnlockKey(text)).toThrow(InvalidUnlockKey);
    expect(() => parseUnlockKey(text)).toThrow(/^invalid key string$/);
  },
);
