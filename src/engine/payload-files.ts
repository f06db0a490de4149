/**
 * The files that a task gets of its secrets and configs: where, whose, and what is in them, with the templates among them
 * filled in for this task (the values of template.ts, and `env "X"`, `secret "file"`, `config "file"`). Pure.
 * No error here says anything of what a secret holds, not even of its template: errors are shown, stored and logged.
 */
import { posix } from 'node:path';
import type { PayloadAssignment, TaskAssignment } from '../model/assignments.ts';
import { PAYLOAD_KINDS, payloadReferences, type PayloadKind, type PayloadReference } from '../model/payloads.ts';
import type { TaskPlace } from './engine.ts';
import { expandWith, templateFor, valuesFor, type Lookup } from './template.ts';

/** What the node has been told of payloads. */
export type FindPayload = (kind: PayloadKind, id: string) => PayloadAssignment | undefined;

export interface PayloadFileContent {
  /** Absolute path in the container. */
  target: string;
  uid: number;
  gid: number;
  /** Permission bits. */
  mode: number;
  content: Buffer;
}

/** Where a relative name of a kind stands in the container, as in Docker. */
const ROOTS: Record<PayloadKind, string> = { secret: '/run/secrets', config: '/' };
const PERMISSIONS = 0o777;
const CALL = /^(secret|config|env)\s+(?:"([^"\\]*)"|`([^`]*)`)$/;

/** The first of the task's payloads that `find` does not know. */
export function missingPayload(
  task: TaskAssignment,
  find: FindPayload,
): { kind: PayloadKind; name: string } | undefined {
  for (const kind of PAYLOAD_KINDS) {
    for (const { id, name } of payloadReferences(task.spec, kind))
      if (find(kind, id) === undefined) return { kind, name };
  }
  return undefined;
}

/** All files of the task. @throws Error if one of them is not known, or cannot be made of its template */
export function payloadFiles(task: TaskAssignment, node: TaskPlace['node'], find: FindPayload): PayloadFileContent[] {
  const lookup = lookupFor(task, node, find);
  return PAYLOAD_KINDS.flatMap((kind) =>
    payloadReferences(task.spec, kind).flatMap((reference) => {
      const { file } = reference;
      if (file === undefined) return [];
      return {
        target: posix.resolve(ROOTS[kind], file.Name),
        uid: Number(file.UID),
        gid: Number(file.GID),
        mode: file.Mode & PERMISSIONS,
        content: contentOf(kind, reference, find, lookup),
      };
    }),
  );
}

function contentOf(kind: PayloadKind, reference: PayloadReference, find: FindPayload, lookup: Lookup): Buffer {
  const payload = find(kind, reference.id);
  if (payload === undefined) throw new Error(`${kind} ${reference.name} is not known to this node`);
  const bytes = Buffer.from(payload.data, 'base64');
  if (!payload.templated) return bytes;
  const expanded = expandWith(bytes.toString('utf8'), lookup, (placeholder) => {
    const what = kind === 'secret' ? 'one of its placeholders' : placeholder;
    const reason = placeholder === undefined ? 'a {{ has no }}' : `${what} is not known here`;
    return new Error(`the template of ${kind} ${reference.name} cannot be filled in: ${reason}`);
  });
  return Buffer.from(expanded);
}

/** The plain values, and the functions that templates of payloads have beyond them. Another payload comes as it is. */
function lookupFor(task: TaskAssignment, node: TaskPlace['node'], find: FindPayload): Lookup {
  const plain = valuesFor(task, node);
  const expand = templateFor(task, node);
  return (inside) => {
    const [, called, quoted, raw] = CALL.exec(inside) ?? [];
    const argument = quoted ?? raw ?? '';
    if (called === undefined) return plain(inside);
    if (called === 'env') return environmentOf(task, argument, expand);
    const kind = called as PayloadKind;
    const reference = payloadReferences(task.spec, kind).find(({ file }) => file?.Name === argument);
    const payload = reference && find(kind, reference.id);
    return payload && Buffer.from(payload.data, 'base64').toString('utf8');
  };
}

/** A variable that the service does not set is nothing, as in Swarm. */
function environmentOf(task: TaskAssignment, name: string, expand: (text: string) => string): string {
  const entry = task.spec.ContainerSpec?.Env?.find((each) => each.startsWith(`${name}=`));
  return entry === undefined ? '' : expand(entry.slice(name.length + 1));
}
