/** A flag or setting that cannot be; the message names it and what would be right. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
