import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { afterLook, afterProbe, isReachable, isStalled, quorumAfter, type MembershipChange } from './quorum.ts';

/** `a+ b- l+?`: voter a answers, voter b does not, learner l answers. */
function parse(text: string) {
  const parts = text.split(' ').filter(Boolean);
  const members = parts.map((part) => ({ id: part[0]!, learner: part.endsWith('?') }));
  return { members, reachable: new Set(parts.filter((part) => part[1] === '+').map((part) => part[0]!)) };
}

describe('quorumAfter', () => {
  const cases: [string, MembershipChange | undefined, boolean][] = [
    ['', undefined, false],
    ['a+', undefined, true],
    ['a-', undefined, false],
    ['a+ b-', undefined, false],
    ['a+ b+ c-', undefined, true],
    ['a+', { remove: 'a' }, false],
    ['a+ b+', { remove: 'b' }, true],
    ['a+ b-', { remove: 'a' }, false],
    ['a+ b-', { remove: 'b' }, true],
    ['a+ b+ c-', { remove: 'c' }, true],
    ['a+ b+ c-', { remove: 'b' }, false],
    ['a+ b+ c+', { remove: 'c' }, true],
    ['a+ b+ c+ d- e-', { remove: 'c' }, false],
    ['a+ b+ c+ d- e-', { remove: 'd' }, true],
    ['a+ b+ c+ d+ e-', { remove: 'a' }, true],
    // A learner has no vote, before it is promoted.
    ['a+ l-?', undefined, true],
    ['a+ l-?', { remove: 'l' }, true],
    ['a+ b- l+?', { remove: 'l' }, false],
    ['a+ l-?', { promote: 'l' }, false],
    ['a+ l+?', { promote: 'l' }, true],
    ['a+ b+ c- l-?', { promote: 'l' }, false],
    ['a+ b+ c- l+?', { promote: 'l' }, true],
    ['a+', { addLearner: 'l' }, true],
    ['a+ b-', { addLearner: 'l' }, false],
  ];
  test.each(cases)('%s, %o: %s', (text, change, holds) => {
    const { members, reachable } = parse(text);
    expect(quorumAfter(members, reachable, change).holds).toBe(holds);
  });

  test('it holds exactly if more than half of the voters answer', () => {
    const member = fc.record({ learner: fc.boolean(), answers: fc.boolean() });
    fc.assert(
      fc.property(fc.array(member, { maxLength: 9 }), (all) => {
        const members = all.map(({ learner }, at) => ({ id: String(at), learner }));
        const reachable = new Set(members.filter((_, at) => all[at]!.answers).map(({ id }) => id));
        const voters = members.filter(({ learner }) => !learner);
        const count = voters.filter(({ id }) => reachable.has(id)).length;
        expect(quorumAfter(members, reachable).holds).toBe(count * 2 > voters.length);
      }),
    );
  });
});

describe('probes', () => {
  const seen = (answers: string) =>
    answers.split('').reduce((probes, answer, at) => afterProbe(probes, at * 500, answer === '+'), { failures: 0 });
  test.each([
    ['', undefined],
    ['-', undefined],
    ['--', false],
    ['+', true],
    ['+-', true],
    ['+--', false],
    ['--+', true],
    ['+-+-+-', true],
  ])('%s: %s', (answers, reachable) => expect(isReachable(seen(answers))).toBe(reachable));
});

describe('a learner is stalled', () => {
  const looks = (indexes: (number | undefined)[]) =>
    indexes.reduce(
      (progress: ReturnType<typeof afterLook> | undefined, index, at) => afterLook(progress, index, at),
      undefined,
    )!;

  test('when it gets no further, or never answers, for so long', () => {
    expect(isStalled(looks([undefined, undefined, undefined]), 10, 10)).toBe(true);
    expect(isStalled(looks([5, 5, 4]), 10, 10)).toBe(true);
    expect(isStalled(looks([5, 5]), 9, 10)).toBe(false);
  });
  test('counted anew from each step', () => {
    expect(isStalled(looks([5, undefined, 6]), 11, 10)).toBe(false);
    expect(isStalled(looks([undefined, 0]), 10, 10)).toBe(false);
  });
});
