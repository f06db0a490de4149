import { expect, test } from 'vitest';
import { z } from 'zod';
import { checked, struct } from './body.ts';

const shape = struct({ Name: z.string().optional(), Mode: struct({ Global: z.object({}).optional() }).default({}) });

test.each<[object, object]>([
  [
    { name: 'a', MODE: { global: {} } },
    { Name: 'a', Mode: { Global: {} } },
  ],
  [{ Other: 1 }, { Other: 1, Mode: {} }],
  [
    { Name: 'a', name: 'b' },
    { Name: 'a', name: 'b', Mode: {} },
  ],
])('names of members are read in any case: %j', (given, expected) => {
  expect(checked(shape, given)).toEqual(expected);
});

test('the place of a complaint has the right name', () => {
  expect(() => checked(shape, { mode: { GLOBAL: 1 } })).toThrow(/^invalid value for Mode.Global: /);
});
