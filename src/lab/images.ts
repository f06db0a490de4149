/** Builds the lab's images with one host's engine, pushes them to the lab's registry, and gives every engine `busybox`. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ApiError, callJson, callProgress, callText } from './api.ts';
import { powerOf } from './host.ts';
import type { HostPlan, Lab } from './lab.ts';
import { hasImage, startRegistry } from './registry.ts';
import { layOut, RECIPES } from './recipes.ts';
import type { Recipe } from './recipes.ts';

/** The image people run by hand; it is in every engine under its plain name. */
const EVERYWHERE = 'busybox:latest';
/** The engine takes no credentials, but wants the header. */
const NO_CREDENTIALS = { 'X-Registry-Auth': Buffer.from('{}').toString('base64url') };
const SLOW_MS = 300_000;

/** What was pushed and from what: reference → fingerprint of the recipe and its files. */
type Pushed = Record<string, string>;

/** Brings all images up to date; resolves with the references that were built, few or none on a second run. */
export async function buildImages(lab: Lab, recipes: readonly Recipe[] = RECIPES): Promise<string[]> {
  await startRegistry(lab);
  const running: HostPlan[] = [];
  for (const host of lab.hosts) if ((await powerOf(host)) !== undefined) running.push(host);
  const [builder] = running;
  if (builder === undefined) throw new Error(`no host of lab ${lab.name} is on`);
  const pushed = await readPushed(lab);
  const built: string[] = [];
  for (const recipe of recipes) {
    const fingerprint = await fingerprintOf(recipe);
    if (pushed[recipe.reference] === fingerprint && (await hasImage(lab, recipe.reference))) continue;
    await build(lab, builder, recipe);
    pushed[recipe.reference] = fingerprint;
    await writeFile(recordFile(lab), JSON.stringify(pushed, null, 2));
    built.push(recipe.reference);
  }
  await Promise.all(running.map((host) => provide(lab, host)));
  return built;
}

function recordFile(lab: Lab): string {
  return join(lab.dir, 'images.json');
}

async function readPushed(lab: Lab): Promise<Pushed> {
  try {
    const pushed: Pushed = JSON.parse(await readFile(recordFile(lab), 'utf8'));
    return pushed;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return {};
    throw error;
  }
}

async function fingerprintOf(recipe: Recipe): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(recipe));
  for (const source of [...Object.values(recipe.programs), ...Object.values(recipe.files ?? {})]) {
    const { size, mtimeMs } = await stat(source);
    hash.update(`${source} ${size} ${mtimeMs}\n`);
  }
  return hash.digest('hex');
}

async function build(lab: Lab, builder: HostPlan, recipe: Recipe): Promise<void> {
  const [name = '', tag = ''] = recipe.reference.split(':');
  const repository = `${lab.registry}/${name}`;
  const root = join(lab.dir, 'images');
  await rm(root, { recursive: true, force: true });
  await layOut(recipe, root);
  // One order, owner and time: two images with the same files share a layer.
  const same = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner'];
  const tar = spawn('tar', [...same, '-C', root, '-cf', '-', '.'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended: Promise<[number | null]> = once(tar, 'exit').then(([code]: (number | null)[]) => [code ?? null]);
  const changes = recipe.changes.map((change): [string, string] => ['changes', change]);
  const query: [string, string][] = [['fromSrc', '-'], ['repo', repository], ['tag', tag], ...changes];
  await callProgress(builder.engineSocket, '/images/create', { query, body: tar.stdout, timeoutMs: SLOW_MS });
  const [code] = await ended;
  if (code !== 0) throw new Error(`tar of ${recipe.reference} ended with ${String(code)}`);
  await rm(root, { recursive: true, force: true });
  await callProgress(builder.engineSocket, `/images/${repository}/push`, {
    query: { tag },
    headers: NO_CREDENTIALS,
    timeoutMs: SLOW_MS,
  });
}

/** Gives a host's engine the registry's busybox under its plain name, if it has another or none. */
async function provide(lab: Lab, host: HostPlan): Promise<void> {
  const [name = '', tag = ''] = EVERYWHERE.split(':');
  const repository = `${lab.registry}/${name}`;
  await callProgress(host.engineSocket, '/images/create', {
    query: { fromImage: repository, tag },
    headers: NO_CREDENTIALS,
    timeoutMs: SLOW_MS,
  });
  const id = await imageId(host, `${repository}:${tag}`);
  if ((await imageId(host, EVERYWHERE)) === id) return;
  await callText(host.engineSocket, 'POST', `/images/${repository}:${tag}/tag`, { query: { repo: name, tag } });
}

async function imageId(host: HostPlan, reference: string): Promise<string | undefined> {
  try {
    return (await callJson<{ Id: string }>(host.engineSocket, 'GET', `/images/${reference}/json`)).Id;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return undefined;
    throw error;
  }
}
