/** A task that asks for what this node cannot do; the message is for its author. */
export class UnsupportedTask extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UnsupportedTask';
  }
}
