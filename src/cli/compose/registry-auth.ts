/** Credentials for registries, from where `docker login` puts them: config.json, or the helper that it names. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { registryOf } from './images.ts';

interface DockerConfig {
  auths?: Record<string, { auth?: string; identitytoken?: string }>;
  credsStore?: string;
  credHelpers?: Record<string, string>;
}

/** The value of `X-Registry-Auth` for an image; undefined if there are no credentials for its registry. */
export async function registryAuth(image: string, env: NodeJS.ProcessEnv = process.env): Promise<string | undefined> {
  const config = dockerConfig(env);
  const registry = registryOf(image);
  const helper = config.credHelpers?.[registry] ?? config.credsStore;
  const found = helper === undefined || helper === '' ? stored(config, registry) : await ofHelper(helper, registry);
  return found === undefined ? undefined : Buffer.from(JSON.stringify(found)).toString('base64url');
}

function dockerConfig(env: NodeJS.ProcessEnv): DockerConfig {
  const path = join(env['DOCKER_CONFIG'] || join(env['HOME'] || homedir(), '.docker'), 'config.json');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return {};
    throw error;
  }
  try {
    const config: DockerConfig = JSON.parse(text);
    return config;
  } catch (error) {
    throw new Error(`${path} is no JSON: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

function stored({ auths = {} }: DockerConfig, registry: string): object | undefined {
  const host = (address: string): string => address.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
  const entry = auths[registry] ?? Object.entries(auths).find(([address]) => host(address) === host(registry))?.[1];
  if (entry === undefined) return undefined;
  const [username = '', password = ''] = Buffer.from(entry.auth ?? '', 'base64')
    .toString('utf8')
    .split(/:(.*)/s);
  if (username === '' && entry.identitytoken === undefined) return undefined;
  return {
    username,
    password,
    serveraddress: registry,
    ...(entry.identitytoken === undefined ? {} : { identitytoken: entry.identitytoken }),
  };
}

/** Asks `docker-credential-NAME`. It fails in words when it has nothing for a registry. */
function ofHelper(name: string, registry: string): Promise<object | undefined> {
  return new Promise((resolve, reject) => {
    const child = execFile(`docker-credential-${name}`, ['get'], (error, stdout) => {
      if (error !== null && typeof error.code !== 'number') return reject(error);
      if (error !== null) return resolve(undefined);
      try {
        const { Username: username, Secret: secret } = JSON.parse(stdout) as { Username: string; Secret: string };
        const isToken = username === '<token>';
        resolve({ serveraddress: registry, ...(isToken ? { identitytoken: secret } : { username, password: secret }) });
      } catch (failure) {
        reject(new Error(`docker-credential-${name} answered with no JSON`, { cause: failure }));
      }
    });
    child.stdin?.end(registry);
  });
}
