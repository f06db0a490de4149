/**
 * A service's privileges as security options of a container. Promises: what is set and cannot be done here is refused
 * with its name, never dropped, because dropping it would give the task more rights, or fewer, than its author said.
 */
import type { ContainerSpec } from '../model/specs.ts';
import { UnsupportedTask } from './unsupported.ts';

type Translate = (value: unknown) => string[];

const TRANSLATIONS: Record<string, Translate> = {
  NoNewPrivileges: (value) => (value === true ? ['no-new-privileges'] : unknown('NoNewPrivileges', value)),
  SELinuxContext: seLinuxOptions,
  Seccomp: seccompOptions,
  AppArmor: appArmorOptions,
  CredentialSpec: () => {
    throw new UnsupportedTask('credential specs are for Windows containers, and this node runs Linux');
  },
};

/** The value of `SecurityOpt`; undefined if everything is as the engine has it. @throws UnsupportedTask */
export function securityOptions(privileges: ContainerSpec['Privileges']): string[] | undefined {
  const options = Object.entries(privileges ?? {}).flatMap(([name, value]) => {
    if (value === null || value === false) return [];
    return (TRANSLATIONS[name] ?? ((other) => unknown(name, other)))(value);
  });
  return options.length === 0 ? undefined : options;
}

function seLinuxOptions(value: unknown): string[] {
  if (!isObject(value)) return unknown('SELinuxContext', value);
  if (value.Disable === true) return ['label=disable'];
  return ['User', 'Role', 'Type', 'Level'].flatMap((part) => {
    const label = value[part];
    return typeof label === 'string' && label !== '' ? [`label=${part.toLowerCase()}:${label}`] : [];
  });
}

/** A profile is JSON; Docker's API carries it as base64. */
function seccompOptions(value: unknown): string[] {
  const { Mode: mode, Profile: profile } = isObject(value) ? value : {};
  if (isDefault(value)) return [];
  if (mode === 'unconfined') return ['seccomp=unconfined'];
  if (mode !== 'custom') return unknown('Seccomp', value);
  if (typeof profile !== 'string' || profile === '') throw new UnsupportedTask('seccomp mode custom needs a profile');
  return [`seccomp=${Buffer.from(profile, 'base64').toString('utf8')}`];
}

function appArmorOptions(value: unknown): string[] {
  if (isDefault(value)) return [];
  return isObject(value) && value.Mode === 'disabled' ? ['apparmor=unconfined'] : unknown('AppArmor', value);
}

/** Go clients write the default as a mode, as an empty one, or not at all. */
function isDefault(value: unknown): boolean {
  return isObject(value) && ['default', '', undefined].some((mode) => mode === value.Mode);
}

function unknown(name: string, value: unknown): never {
  throw new UnsupportedTask(`privilege ${name} of ${JSON.stringify(value)} is not supported`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
