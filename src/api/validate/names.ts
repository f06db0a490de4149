/** Names of services and networks: they become names in DNS. Docker's rule and sentences. */
import { badRequest } from '../errors.ts';

const DNS_NAME = /^[a-zA-Z0-9](?:[-_a-zA-Z0-9]*[a-zA-Z0-9])?$/;
const MAX_LENGTH = 63;

/** @throws ApiError 400 */
export function checkName(name: string): void {
  if (name === '') throw badRequest('meta: name must be provided');
  if (name.length > MAX_LENGTH) throw badRequest(`name must be ${MAX_LENGTH} characters or fewer`);
  if (!DNS_NAME.test(name)) throw badRequest('name must be valid as a DNS name component');
}
