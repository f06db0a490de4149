/** Makes a row's call and compares the answer with what the row expects. */
import { expect } from 'vitest';
import { eventually, run } from '../e2e/lab.ts';
import { request } from 'node:http';
import { filledIn, isMatcher, memberAt, type Answer, type HttpCall, type Row, type Variables } from './row.ts';
import type { Subject } from './subjects.ts';

/** decisions-and-traps.md 3: Docker's sentence without the prefix of the library it uses inside. */
const RPC_PREFIX = /^rpc error: code = \w+ desc = /;
const CALL_TIMEOUT_MS = 120_000;
const EVENTUALLY_MS = 120_000;

/** @throws AssertionError if the answer is not what `row` expects of this subject */
export async function check(row: Row, subject: Subject, variables: Variables): Promise<void> {
  variables.set('now', String(Date.now() / 1000));
  const { why: _, ...otherwise } = (subject.kind === 'swarm' && row.swarm) || { why: '' };
  const expected = { ...row, ...otherwise };
  const once = async (): Promise<Answer> => {
    const answer = await ask(row, subject, variables);
    verify(expected, answer, variables);
    return answer;
  };
  let answer: Answer | undefined;
  if (row.eventually === true) {
    await eventually(
      JSON.stringify(row.call),
      async () => {
        answer = await once();
        return true;
      },
      EVENTUALLY_MS,
    );
  } else answer = await once();
  for (const [name, path] of Object.entries(row.save ?? {})) {
    const value = memberAt(answer?.json, path);
    expect(value, `${path} of ${answer?.text}`).toBeDefined();
    variables.set(name, value);
  }
}

function verify(expected: Row, answer: Answer, variables: Variables): void {
  const message = memberAt(answer.json, 'message');
  expect(answer.status, answer.text).toBe(expected.status);
  if (expected.message === null) expect(message).toBeUndefined();
  else if (expected.message !== undefined) {
    const sentence = String(message).trim().replace(RPC_PREFIX, '');
    if (expected.message instanceof RegExp) expect(sentence).toMatch(expected.message);
    else expect(sentence).toBe(filledIn(expected.message, variables));
  }
  if (expected.text !== undefined) expect(answer.text).toMatch(expected.text);
  if (expected.body !== undefined) {
    const body = filledIn(expected.body, variables);
    if (isMatcher(body)) expect(answer.json).toEqual(body);
    else if (typeof body === 'object' && body !== null) expect(answer.json).toMatchObject(body);
    else expect(answer.json).toEqual(body);
  }
  for (const path of expected.absent ?? []) expect(memberAt(answer.json, path), path).toBeUndefined();
  for (const [name, value] of Object.entries(expected.headers ?? {})) {
    if (value instanceof RegExp) expect(String(answer.headers[name.toLowerCase()])).toMatch(value);
    else expect(answer.headers[name.toLowerCase()]).toBe(value);
  }
}

async function ask(row: Row, subject: Subject, variables: Variables): Promise<Answer> {
  const socketPath = subject.sockets[row.on ?? 'h1'];
  const call = filledIn(row.call, variables);
  if (!('docker' in call)) return http(socketPath, call);
  const env = { DOCKER_HOST: `unix://${socketPath}`, DOCKER_CONTEXT: undefined };
  const { code, stdout, stderr } = await run('docker', call.docker, { env, timeoutMs: CALL_TIMEOUT_MS });
  return { status: code, headers: {}, text: stdout + stderr, json: undefined };
}

/** A path with `filters={…}` is written as people read it; it is encoded here. */
function http(socketPath: string, call: HttpCall): Promise<Answer> {
  const text = typeof call.body === 'string' ? call.body : JSON.stringify(call.body);
  const path = encodeURI(call.path);
  const headers = { ...(text === undefined ? {} : { 'Content-Type': 'application/json' }), ...call.headers };
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, method: call.method, path, headers, agent: false, timeout: CALL_TIMEOUT_MS });
    sent.on('timeout', () => sent.destroy(new Error(`no answer within ${CALL_TIMEOUT_MS} ms`)));
    sent.on('error', reject);
    sent.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const body = Buffer.concat(chunks).toString();
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text: body, json: parsed(body) });
      });
    });
    sent.end(text);
  });
}

/** JSON, a stream of JSON lines as a list, or undefined. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    const lines = text.trim().split('\n');
    if (lines.length < 2 || !lines.every((line) => line.startsWith('{'))) return undefined;
    return lines.map((line): unknown => JSON.parse(line));
  }
}
