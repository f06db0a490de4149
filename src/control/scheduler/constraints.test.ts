import { describe, expect, test } from 'vitest';
import { ConstraintError, nodeMatches, parseConstraints } from './constraints.ts';
import { nodeRow } from './rows.fixture.ts';

describe('parseConstraints', () => {
  test.each([
    ['node.role==manager', 'node.role', '==', 'manager'],
    [' node.labels.a-b_c.d != x y ', 'node.labels.a-b_c.d', '!=', 'x y'],
    ['node.ip==10.0.0.0/8', 'node.ip', '==', '10.0.0.0/8'],
    ['anything.else==1', 'anything.else', '==', '1'],
  ])('%s', (expression, key, operator, value) => {
    expect(parseConstraints([expression])).toEqual([{ key, operator, value }]);
  });

  test.each([
    ['node.role', 'constraint expected one operator from ==, !='],
    ['', 'constraint expected one operator from ==, !='],
    ['node.role=manager', 'constraint expected one operator from ==, !='],
    ['1node==a', "key '1node' is invalid"],
    ['==a', "key '' is invalid"],
    ['a b==c', "key 'a b' is invalid"],
    ['node.role!==manager', "key 'node.role!' is invalid"],
    ['node.role==', "value '' is invalid"],
    ['node.role==a,b', "value 'a,b' is invalid"],
    ['node.role==a==b', "value 'a==b' is invalid"],
  ])('%j is refused: %s', (expression, message) => {
    expect(() => parseConstraints(['node.role==worker', expression])).toThrow(new ConstraintError(message));
  });
});

describe('nodeMatches', () => {
  const node = nodeRow('n1', {
    spec: { Role: 'manager', Labels: { zone: 'East', Upper: 'x' } },
    status: { address: '10.77.1.5' },
    description: { hostname: 'H1', engine: { version: '', labels: { storage: 'ssd' }, plugins: [] } },
  });
  test.each([
    ['node.id==N1', true],
    ['node.id!=n1', false],
    ['node.hostname==h1', true],
    ['node.hostname==h', false],
    ['NODE.ROLE==Manager', true],
    ['node.role!=worker', true],
    ['node.platform.os==Linux', true],
    ['node.platform.arch==x86_64', true],
    ['node.platform.arch==amd64', true],
    ['node.platform.arch!=amd64', false],
    ['node.platform.arch==aarch64', false],
    ['node.ip==10.77.1.5', true],
    ['node.ip==10.77.0.0/16', true],
    ['node.ip!=10.77.0.0/16', false],
    ['node.ip==10.78.0.0/16', false],
    ['node.ip==nonsense', false],
    ['node.ip!=nonsense', false],
    ['node.labels.zone==east', true],
    ['Node.Labels.zone==east', true],
    ['node.labels.upper==x', false],
    ['node.labels.missing==x', false],
    ['node.labels.missing!=x', true],
    ['engine.labels.storage==ssd', true],
    ['engine.labels.storage!=ssd', false],
    ['node.labels.==x', false],
    ['node.nothing==x', false],
    ['node.nothing!=x', false],
  ])('%s: %s', (expression, expected) => {
    expect(nodeMatches(parseConstraints([expression]), node)).toBe(expected);
  });

  test('all have to be met; none are met by every node', () => {
    expect(nodeMatches(parseConstraints(['node.role==manager', 'node.id==n2']), node)).toBe(false);
    expect(nodeMatches([], node)).toBe(true);
  });
});
