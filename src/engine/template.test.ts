import { describe, expect, test } from 'vitest';
import { task } from './engine.contract.ts';
import { TemplateError, templateFor } from './template.ts';

const made = task('node1', { Image: 'app' }, { id: 'tid', serviceLabels: { tier: 'front', 'a.b': 'dotted' } });
const node = { id: 'node1', hostname: 'h1', platform: { os: 'linux', architecture: 'x86_64' } };
const expand = templateFor(made, node);

test.each([
  ['', ''],
  ['plain } text {', 'plain } text {'],
  ['{{.Service.ID}}', 'service'],
  ['{{ .Service.Name }}', 'web'],
  ['{{.Service.Labels.tier}}', 'front'],
  ['{{.Service.Labels.a.b}}', 'dotted'],
  ['{{index .Service.Labels "a.b"}}', 'dotted'],
  ['[{{.Service.Labels.absent}}]', '[]'],
  ['{{.Node.ID}}/{{.Node.Hostname}}', 'node1/h1'],
  ['{{.Node.Platform.OS}}-{{.Node.Platform.Architecture}}', 'linux-x86_64'],
  ['{{.Task.ID}} {{.Task.Name}} {{.Task.Slot}}', 'tid web.1.tid 1'],
])('%s', (template, text) => {
  expect(expand(template)).toBe(text);
});

test('a global task has its node for a slot', () => {
  expect(templateFor({ ...made, slot: 0 }, node)('{{.Task.Slot}}')).toBe('node1');
});

describe('errors name the template', () => {
  test.each(['{{.Task.Nope}}', '{{', 'a {{.Task.ID}} {{.Task', '{{}}', '{{env "HOME"}}', '{{.Service.Labels}}'])(
    '%s',
    (bad) => {
      expect(() => expand(bad)).toThrow(TemplateError);
      expect(() => expand(bad)).toThrow(JSON.stringify(bad));
    },
  );
});

test('what a label holds is not expanded again', () => {
  const odd = { ...made, serviceLabels: { x: '{{.Task.ID}} {{' } };
  expect(templateFor(odd, node)('{{.Service.Labels.x}}')).toBe('{{.Task.ID}} {{');
});
