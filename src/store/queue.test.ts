import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Queue } from './queue.ts';

test('what was put in comes out in order, however many wait and whenever they are taken', () => {
  // Enough of them that spent places are given back several times.
  const step = fc.record({ puts: fc.nat(1_500), takes: fc.nat(1_500) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const queue = new Queue<number>();
      const model: number[] = [];
      let next = 0;
      for (const { puts, takes } of steps) {
        for (let i = 0; i < puts; i++) {
          queue.push(next);
          model.push(next++);
        }
        for (let i = 0; i < takes; i++) expect(queue.shift()).toBe(model.shift());
        expect(queue.length).toBe(model.length);
      }
    }),
    { numRuns: 50 },
  );
});

test('an empty one gives nothing, and can be filled again', () => {
  const queue = new Queue<string>();
  expect(queue.shift()).toBeUndefined();
  queue.push('a');
  expect(queue.shift()).toBe('a');
  expect(queue.shift()).toBeUndefined();
  expect(queue.length).toBe(0);
});
