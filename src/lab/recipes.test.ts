import { expect, test } from 'vitest';
import { parseLibraries, RECIPES } from './recipes.ts';

test('the libraries of a program, without the one the kernel provides', () => {
  const printed = `\tlinux-vdso.so.1 (0x00007f1774900000)
\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f1774520000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f17748f4000)
`;
  expect(parseLibraries(printed)).toEqual(['/lib/x86_64-linux-gnu/libm.so.6', '/lib64/ld-linux-x86-64.so.2']);
  expect(parseLibraries('\tstatically linked\n')).toEqual([]);
});

test('no two images have one reference', () => {
  const references = RECIPES.map(({ reference }) => reference);
  expect(new Set(references).size).toBe(references.length);
});
