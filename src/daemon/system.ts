/** The real clock, randomness and log: what parts get through their constructors in production. */
import { randomBytes } from 'node:crypto';
import { pino } from 'pino';
import type { Clock, Log, Random } from '../model/clock.ts';
import type { Options } from './options.ts';

const MAX_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, fn) {
    let timer: NodeJS.Timeout;
    const wait = (leftMs: number): void => {
      // One turn of Node's timer is 24.8 days at most; asked for more, it would fire at once.
      const later = (): void => (leftMs > MAX_TIMER_MS ? wait(leftMs - MAX_TIMER_MS) : fn());
      timer = setTimeout(later, Math.min(leftMs, MAX_TIMER_MS)).unref();
    };
    wait(delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};

/** Unpredictable: ids and secrets are made of it. 48 bits a call. */
export const systemRandom: Random = () => randomBytes(6).readUIntBE(0, 6) / 2 ** 48;

/** Logs to standard error: one JSON object a line, or `time LEVEL sentence field=value …` for people. */
export function systemLog(options: Pick<Options, 'logLevel' | 'logFormat'>): Log {
  const base = { level: options.logLevel, base: null, timestamp: () => `,"time":"${new Date().toISOString()}"` };
  const stream =
    options.logFormat === 'json' ? process.stderr : { write: (line: string) => process.stderr.write(asText(line)) };
  return pino({ ...base, formatters: { level: (level) => ({ level }) } }, stream);
}

function asText(line: string): string {
  const { time, level, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const words = Object.entries(fields).map(
    ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  const failure = err === undefined ? [] : [`err=${JSON.stringify((err as { message?: string }).message ?? err)}`];
  return `${[time, String(level).toUpperCase().padEnd(5), msg, ...words, ...failure].join(' ')}\n`;
}
