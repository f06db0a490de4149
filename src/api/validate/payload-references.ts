/** What a service says of the secrets and configs that it uses: Docker's rules and sentences. Pure. */
import { PAYLOAD_KINDS, PAYLOAD_TABLES, payloadReferences, type PayloadKind } from '../../model/payloads.ts';
import type { ContainerSpec, TaskSpec } from '../../model/specs.ts';
import type { View } from '../../store/store.ts';
import { badRequest } from '../errors.ts';

const MAX_ID = 0xffff_ffff;

/** @throws ApiError 400 at the first reference that no task could be given */
export function checkPayloadReferences(container: ContainerSpec): void {
  for (const { File, Runtime } of container.Configs ?? []) {
    if (File === undefined && Runtime === undefined)
      throw badRequest('invalid Config: either File or Runtime should be set');
    if (File !== undefined && Runtime !== undefined)
      throw badRequest('invalid Config: cannot specify both File and Runtime');
  }
  for (const kind of PAYLOAD_KINDS) checkReferences(kind, container);
  const credentials = container.Privileges?.['CredentialSpec'];
  const config =
    typeof credentials === 'object' && credentials !== null && 'Config' in credentials && credentials.Config;
  if (typeof config !== 'string' || config === '') return;
  if (!(container.Configs ?? []).some(({ ConfigID, Runtime }) => ConfigID === config && Runtime !== undefined))
    throw badRequest(
      `CredentialSpec references config '${config}', but that config isn't in config references with RuntimeTarget`,
    );
}

function checkReferences(kind: PayloadKind, container: ContainerSpec): void {
  const targets = new Map<string, string>();
  for (const { id, name, file } of payloadReferences({ ContainerSpec: container }, kind)) {
    if (id === '' || name === '') throw badRequest(`malformed ${kind} reference`);
    if (file === undefined) {
      // A config without a file is for the runtime.
      if (kind === 'config') continue;
      throw badRequest('malformed secret reference, no target provided');
    }
    if (file.Name === '') throw badRequest(`malformed file ${kind} reference, invalid target file name provided`);
    const other = targets.get(file.Name);
    if (other !== undefined)
      throw badRequest(`${kind} references '${other}' and '${name}' have a conflicting target: '${file.Name}'`);
    targets.set(file.Name, name);
    for (const [what, owner] of [['uid', file.UID] as const, ['gid', file.GID] as const]) {
      if (!/^\d+$/.test(owner) || Number(owner) > MAX_ID)
        throw badRequest(`${kind} reference '${name}': its ${what} must be a number, not ${JSON.stringify(owner)}`);
    }
  }
}

/** @throws ApiError 400 if one that `spec` refers to is not there, or has another name than it says */
export function checkPayloadsExist(view: View, environment: string, spec: TaskSpec): void {
  for (const kind of PAYLOAD_KINDS) {
    const missing = payloadReferences(spec, kind).filter(({ id, name }) => {
      const payload = view[PAYLOAD_TABLES[kind]].get(id);
      if (payload?.environment !== environment) return true;
      // Whoever still uses an earlier version knows it by the name that it had.
      return payload.spec.Name !== name && payload.formerName !== name;
    });
    if (missing.length === 0) continue;
    const names = missing.map(({ name }) => name).join(', ');
    throw badRequest(`${kind}${missing.length === 1 ? '' : 's'} not found: ${names}`);
  }
}
