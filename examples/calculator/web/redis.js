/**
 * GET and SET on a redis server: one connection, commands answered in the order in which they were sent. A command fails
 * when the connection does; the next one connects anew.
 */
import { connect } from 'node:net';

/** The first complete reply in `buffer` and what follows it, or undefined while more bytes must come. */
function parseReply(buffer) {
  const end = buffer.indexOf('\r\n');
  if (end < 0) return undefined;
  const head = buffer.toString('utf8', 1, end);
  if (buffer[0] === 0x2d) return { error: new Error(`redis: ${head}`), rest: buffer.subarray(end + 2) };
  if (buffer[0] !== 0x24) return { value: head, rest: buffer.subarray(end + 2) };
  const length = Number(head);
  if (length < 0) return { value: undefined, rest: buffer.subarray(end + 2) };
  const stop = end + 2 + length;
  if (buffer.length < stop + 2) return undefined;
  return { value: buffer.toString('utf8', end + 2, stop), rest: buffer.subarray(stop + 2) };
}

export class Redis {
  #host;
  #port;
  #timeoutMs;
  #socket;
  #waiting = [];

  constructor(host, port = 6379, timeoutMs = 2_000) {
    this.#host = host;
    this.#port = port;
    this.#timeoutMs = timeoutMs;
  }

  /** The value of a key, or undefined. */
  get(key) {
    return this.#send(['GET', key]);
  }

  set(key, value) {
    return this.#send(['SET', key, value]);
  }

  close() {
    this.#socket?.end();
  }

  #send(words) {
    this.#socket ??= this.#connect();
    const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#socket.write(`*${words.length}\r\n${parts.join('')}`);
    });
  }

  #connect() {
    const socket = connect(this.#port, this.#host);
    let buffer = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      buffer = Buffer.concat([buffer, chunk]);
      for (let reply = parseReply(buffer); reply !== undefined; reply = parseReply(buffer)) {
        buffer = reply.rest;
        const { resolve, reject } = this.#waiting.shift();
        if (reply.error) reject(reply.error);
        else resolve(reply.value);
      }
    });
    socket.setTimeout(this.#timeoutMs, () => {
      if (this.#waiting.length > 0) socket.destroy(new Error('redis does not answer'));
    });
    let failure = new Error('redis closed the connection');
    socket.on('error', (error) => (failure = error));
    socket.on('close', () => {
      this.#socket = undefined;
      for (const { reject } of this.#waiting.splice(0)) reject(failure);
    });
    return socket;
  }
}
