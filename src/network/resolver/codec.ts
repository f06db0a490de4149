/** DNS messages on the wire: the questions we understand, and the replies to them. */
import {
  AUTHORITATIVE_ANSWER,
  RECURSION_AVAILABLE,
  RECURSION_DESIRED,
  TRUNCATED_RESPONSE,
  decode,
  encode,
} from 'dns-packet';
import type { Answer as Resource, Packet } from 'dns-packet';
import type { Answer, Question } from './answer.ts';

/**
 * Seconds a reply may be remembered. VIPs live long, but what a name has behind it changes with every task: short
 * enough that nobody goes on with a stopped one, long enough for a burst of the same question.
 */
const TTL_SECONDS = 1;
/** What a UDP reply may have if the asker does not say (RFC 1035). */
const DEFAULT_UDP_BYTES = 512;
const SERVER_FAILURE = 2;
const NAME_ERROR = 3;

export interface Query {
  packet: Packet;
  question: Question;
  /** Bytes a UDP reply may have. */
  udpBytes: number;
}

/** A query of one question, as nearly all are; undefined if it is none, or no DNS message at all. */
export function decodeQuery(message: Buffer): Query | undefined {
  let packet: Packet;
  try {
    packet = decode(message);
  } catch {
    // Whatever came, it was no question: there is nobody to answer.
    return undefined;
  }
  const [question, ...others] = packet.questions ?? [];
  if (packet.type !== 'query' || question === undefined || others.length > 0) return undefined;
  const edns = packet.additionals?.find((each) => each.type === 'OPT');
  const udpBytes = Math.max(DEFAULT_UDP_BYTES, edns?.type === 'OPT' ? edns.udpPayloadSize : 0);
  return { packet, question: { name: question.name, type: question.type }, udpBytes };
}

/** The reply to a query; `turn` rotates addresses, so that clients that take the first do not all take the same. */
export function encodeReply(query: Query, answer: Exclude<Answer, { kind: 'forward' | 'hold' }>, turn: number): Buffer {
  const { name } = query.question;
  if (answer.kind === 'none') return reply(query, [], NAME_ERROR);
  if (answer.kind === 'pointer') return reply(query, [{ type: 'PTR', name, ttl: TTL_SECONDS, data: answer.name }], 0);
  const { addresses } = answer;
  const start = addresses.length === 0 ? 0 : turn % addresses.length;
  const inTurn = [...addresses.slice(start), ...addresses.slice(0, start)];
  return reply(
    query,
    inTurn.map((data): Resource => ({ type: 'A', name, ttl: TTL_SECONDS, data })),
    0,
  );
}

/** Nobody could say. */
export function encodeFailure(query: Query): Buffer {
  return reply(query, [], SERVER_FAILURE);
}

/** The same reply as it fits into UDP: cut to its question, with the bit that says "ask again by TCP". */
export function fitUdp(query: Query, whole: Buffer): Buffer {
  if (whole.length <= query.udpBytes) return whole;
  return reply(query, [], 0, TRUNCATED_RESPONSE);
}

function reply(query: Query, answers: Resource[], rcode: number, more = 0): Buffer {
  const { packet } = query;
  const asked = packet.flags ?? 0;
  const edns = packet.additionals?.some((each) => each.type === 'OPT') === true;
  return encode({
    type: 'response',
    id: packet.id ?? 0,
    flags: (asked & RECURSION_DESIRED) | RECURSION_AVAILABLE | AUTHORITATIVE_ANSWER | more | rcode,
    questions: packet.questions ?? [],
    answers,
    additionals: edns
      ? [
          {
            type: 'OPT',
            name: '.',
            udpPayloadSize: 1232,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ]
      : [],
  });
}
