import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { StdDemuxer, stdFrame } from '../../docker/stdcopy.ts';
import { LineFormat } from './format.ts';
import { lineTime, LogLines, NotALog, secondsAt, type LogLine } from './lines.ts';
import { engineQuery, parseLogQuery } from './query.ts';

const AT = '2026-01-01T00:00:00.123456789Z';
const TASK = { id: 't1', serviceId: 's1', nodeId: 'n1' };
const OWN = 'com.docker.swarm.node.id=n1,com.docker.swarm.service.id=s1,com.docker.swarm.task.id=t1';

function linesOf(bytes: Buffer, cuts: readonly number[], tty: boolean): LogLine[] {
  const reader = new LogLines(tty);
  const lines: LogLine[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = 1 + (cuts[i % Math.max(1, cuts.length)] ?? 1000);
    lines.push(...reader.push(Buffer.from(bytes.subarray(at, (at += size)))));
  }
  return [...lines, ...reader.end()];
}

describe('lines', () => {
  test('come out as they went in, however the bytes are cut', () => {
    const line = fc.record({ stream: fc.constantFrom(1, 2), text: fc.string({ maxLength: 90 }) });
    fc.assert(
      fc.property(fc.array(line), fc.array(fc.nat(70)), fc.boolean(), (lines, cuts, tty) => {
        const texts = lines.map(({ text }) => `${text.replaceAll('\n', '')}${tty ? '\r\n' : '\n'}`);
        const parts = texts.map((text, i) => {
          const bytes = Buffer.from(`${AT} ${text}`);
          return tty ? bytes : stdFrame(lines[i]!.stream === 1 ? 'stdout' : 'stderr', bytes);
        });
        const out = linesOf(Buffer.concat(parts), cuts, tty);
        expect(out.map(({ rest }) => rest.toString())).toEqual(texts);
        expect(out.every(({ at }) => at === AT)).toBe(true);
        if (!tty) expect(out.map(({ stream }) => stream)).toEqual(lines.map(({ stream }) => stream));
      }),
    );
  });

  test('of a terminal: the last may lack its end; of frames: it may not', () => {
    expect(linesOf(Buffer.from(`${AT} $ `), [], true).map(({ rest }) => rest.toString())).toEqual(['$ ']);
    const whole = stdFrame('stdout', Buffer.from(`${AT} x\n`));
    expect(() => linesOf(whole.subarray(0, -1), [], false)).toThrow(NotALog);
  });

  test('what is no log is said so, before it is held', () => {
    const huge = Buffer.alloc(8);
    huge.writeUInt32BE(1 << 24, 0);
    huge.writeUInt32BE(1 << 30, 4);
    expect(() => linesOf(huge, [], false)).toThrow(/a line of more than/);
    expect(() => linesOf(Buffer.from([7, 0, 0, 0, 0, 0, 0, 1, 0]), [], false)).toThrow(/unknown stream 7/);
    expect(() => linesOf(stdFrame('stdout', Buffer.from('no time\n')), [], false)).toThrow(/without its time/);
  });

  test('times as engines read and write them', () => {
    expect(lineTime(Date.parse('2026-01-01T00:00:00.5Z'))).toBe('2026-01-01T00:00:00.500000000Z');
    expect(secondsAt(AT)).toBe('1767225600.123456789');
  });
});

describe('as the docker client reads them', () => {
  const written = (format: { timestamps: boolean; details: boolean; raw: boolean }, rest: string): string => {
    const out: Buffer[] = [];
    const bytes = new LineFormat(format, TASK).append({ at: AT, stream: 2, rest: Buffer.from(rest) }, out);
    const all = Buffer.concat(out);
    expect(all.length).toBe(bytes);
    if (format.raw) return all.toString();
    const [piece, ...more] = new StdDemuxer().push(all);
    expect([piece!.stream, more]).toEqual(['stderr', []]);
    return piece!.data.toString();
  };

  test('time, details and message, each if it is asked for', () => {
    expect(written({ timestamps: false, details: false, raw: false }, 'hello\n')).toBe('hello\n');
    expect(written({ timestamps: true, details: false, raw: false }, 'hello\n')).toBe(`${AT} hello\n`);
    expect(written({ timestamps: true, details: true, raw: false }, ' hello you\n')).toBe(`${AT} ${OWN} hello you\n`);
    expect(written({ timestamps: false, details: true, raw: true }, ' hello\r\n')).toBe(`${OWN} hello\r\n`);
  });

  test("a log driver's own details are sorted in", () => {
    expect(written({ timestamps: false, details: true, raw: false }, 'zone=a,app=b hello\n')).toBe(
      `app=b,${OWN},zone=a hello\n`,
    );
  });
});

describe('the query', () => {
  test('as the docker client sends it', () => {
    const query = { stdout: '1', stderr: '1', details: '1', follow: '1', tail: '10', since: '1700000000.000000001' };
    expect(engineQuery(parseLogQuery(query))).toEqual({
      stdout: 'true',
      stderr: 'true',
      follow: 'true',
      details: 'true',
      timestamps: 'true',
      tail: '10',
      since: '1700000000.000000001',
    });
  });

  test.each([
    [{}, 'Bad parameters: you must choose at least one stream'],
    [{ stdout: '1', tail: 'x' }, 'tail value must be a positive integer or "all"'],
    [{ stdout: '1', tail: '-1' }, 'negative tail values not supported'],
    [{ stdout: '1', since: 'yesterday' }, /could not parse since timestamp: "yesterday"/],
    [{ stdout: '1', until: '1h' }, /could not parse until timestamp: "1h"/],
  ])('%o', (query, message) => {
    expect(() => parseLogQuery(query)).toThrow(message);
  });
});
