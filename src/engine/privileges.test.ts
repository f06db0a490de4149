import { expect, test } from 'vitest';
import type { ContainerSpec } from '../model/specs.ts';
import { securityOptions } from './privileges.ts';

const profile = '{"defaultAction":"SCMP_ACT_ALLOW"}';
const custom = { Mode: 'custom', Profile: Buffer.from(profile).toString('base64') };

test.each<[string, ContainerSpec['Privileges'], string[] | undefined]>([
  ['none said', undefined, undefined],
  ['what an older client sends', { CredentialSpec: null, SELinuxContext: null }, undefined],
  ['new privileges as ever', { NoNewPrivileges: false }, undefined],
  ['no new privileges', { NoNewPrivileges: true }, ['no-new-privileges']],
  ['SELinux off', { SELinuxContext: { Disable: true, User: 'u' } }, ['label=disable']],
  [
    'SELinux labels',
    { SELinuxContext: { User: 'u', Role: 'r', Type: 't', Level: 's0:c1,c2' } },
    ['label=user:u', 'label=role:r', 'label=type:t', 'label=level:s0:c1,c2'],
  ],
  ['some SELinux labels', { SELinuxContext: { Disable: false, User: '', Type: 't' } }, ['label=type:t']],
  ['seccomp by default', { Seccomp: { Mode: 'default' } }, undefined],
  ['seccomp without a mode', { Seccomp: {} }, undefined],
  ['seccomp off', { Seccomp: { Mode: 'unconfined' } }, ['seccomp=unconfined']],
  ['a seccomp profile', { Seccomp: custom }, [`seccomp=${profile}`]],
  ['AppArmor by default', { AppArmor: { Mode: 'default' } }, undefined],
  ['AppArmor off', { AppArmor: { Mode: 'disabled' } }, ['apparmor=unconfined']],
  [
    'several',
    { NoNewPrivileges: true, AppArmor: { Mode: 'disabled' }, Seccomp: { Mode: 'unconfined' } },
    ['no-new-privileges', 'apparmor=unconfined', 'seccomp=unconfined'],
  ],
])('%s', (_, privileges, options) => {
  expect(securityOptions(privileges)).toEqual(options);
});

test.each<[RegExp, ContainerSpec['Privileges']]>([
  [/credential specs are for Windows/, { CredentialSpec: { File: 'x' } }],
  [/seccomp mode custom needs a profile/, { Seccomp: { Mode: 'custom' } }],
  [/privilege Seccomp of \{"Mode":"lax"\} is not supported/, { Seccomp: { Mode: 'lax' } }],
  [/privilege AppArmor of \{"Mode":"custom"\} is not supported/, { AppArmor: { Mode: 'custom' } }],
  [/privilege SELinuxContext of true/, { SELinuxContext: true }],
  [/privilege NoNewPrivileges of "yes"/, { NoNewPrivileges: 'yes' }],
  [/privilege Newer of \{\} is not supported/, { Newer: {} }],
])('refused with %s', (message, privileges) => {
  expect(() => securityOptions(privileges)).toThrow(message);
});
