/** For the tests of this folder: compose files as texts, with files beside them that are not there. */
import type { ServiceSpec } from '../../model/specs.ts';
import { loadCompose } from './load.ts';
import { planStack } from './plan.ts';
import type { StackPlan } from './project.ts';

const TOP = `
networks: {n: , ext: {external: true, name: real}, h: {external: true, name: host}}
volumes: {v: , lab: {labels: [a], driver: d, driver_opts: {o: 1}}, ext: {external: true}, named: {name: other}}
secrets: {s: {file: s.txt}, out: {external: true, name: realsecret}}
configs: {c: {content: hi}}
`;

/** The plan of a file's text, and what was warned of. */
export function plan(text: string, profiles: string[] = []): { plan: StackPlan; warnings: string[] } {
  const warnings: string[] = [];
  const warn = (line: string): unknown => warnings.push(line);
  const lookup = (name: string): string | undefined => ({ KNOWN: 'k' })[name];
  const tree = loadCompose({ files: ['f.yml'], directory: '/dir', lookup, read: () => text, warn });
  const readBytes = (path: string): Uint8Array => {
    if (path.endsWith('.txt')) return Buffer.from('content');
    if (path.endsWith('.env')) return Buffer.from('A=file\nKNOWN\n');
    throw new Error('ENOENT');
  };
  return { plan: planStack(tree, { stack: 'app', profiles: new Set(profiles), lookup, readBytes, warn }), warnings };
}

/** The spec of a service with one more key. */
export function service(text: string): { spec: ServiceSpec; warnings: string[] } {
  const { plan: made, warnings } = plan(`services:\n  web:\n    image: i\n    ${text}\n  db: {image: d}${TOP}`);
  return { spec: specOf(made, 'web'), warnings };
}

export function specOf(made: StackPlan, key: string): ServiceSpec {
  const found = made.services.find((one) => one.key === key);
  if (found === undefined) throw new Error(`no service ${key}`);
  return found.spec;
}
