import { expect, test } from 'vitest';
import { newServiceName } from './service-names.ts';

test('a name that nobody has, also when many are taken', () => {
  const taken = new Set<string>();
  for (let made = 0; made < 3_000; made++) {
    const name = newServiceName(Math.random, (candidate) => taken.has(candidate));
    expect(name).toMatch(/^[a-z]+-[a-z]+(-\d+)?$/);
    expect(taken).not.toContain(name);
    taken.add(name);
  }
});
