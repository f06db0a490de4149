/**
 * The lab's images, built from nothing: which files of this machine each holds, and what it runs. A program comes with
 * the shared libraries it was linked to; nothing is downloaded.
 */
import { chmod, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './processes.ts';

/** One image. `changes` are Dockerfile instructions. */
export interface Recipe {
  /** `name:tag` in the lab's registry. */
  reference: string;
  /** Files of this machine that go in as they are, with their libraries: where each stands in the image. */
  programs: Readonly<Record<string, string>>;
  /** Other files that are copied: path in the image → path here. */
  files?: Readonly<Record<string, string>>;
  /** Small files by their text: path in the image → content. They are executable. */
  scripts?: Readonly<Record<string, string>>;
  changes: readonly string[];
}

const BUSYBOX = { '/bin/busybox': '/usr/bin/busybox' };
const CALCULATOR = fileURLToPath(new URL('../../examples/calculator/web/', import.meta.url));

/** A CGI script: who answers, and who asked. SLOT and VERSION come from the service's environment. */
const WHO_AM_I = `#!/bin/sh
printf 'Content-Type: application/json\\r\\n\\r\\n'
printf '{"host":"%s","client":"%s","slot":"%s","version":"%s"}\\n' "$HOSTNAME" "$REMOTE_ADDR" "$SLOT" "$VERSION"
`;

/** A small web server that starts in milliseconds; tini, because busybox as first process ignores SIGTERM. */
function web(version: string): Recipe {
  return {
    reference: `web:${version}`,
    programs: { ...BUSYBOX, '/bin/tini': '/usr/bin/tini-static' },
    scripts: { '/www/cgi-bin/index.cgi': WHO_AM_I },
    changes: [
      `ENV VERSION=${version}`,
      'ENTRYPOINT ["/bin/tini", "--"]',
      'CMD ["/bin/httpd", "-f", "-p", "0.0.0.0:8080", "-h", "/www"]',
      'EXPOSE 8080',
    ],
  };
}

/** All images; those with busybox have all its applets. */
export const RECIPES: readonly Recipe[] = [
  { reference: 'busybox:latest', programs: BUSYBOX, changes: ['CMD ["sh"]'] },
  web('1'),
  web('2'),
  {
    reference: 'redis:1',
    programs: { ...BUSYBOX, '/usr/bin/redis-server': '/usr/bin/redis-server' },
    changes: [
      'EXPOSE 6379',
      'CMD ["/usr/bin/redis-server", "--save", "", "--appendonly", "no", "--protected-mode", "no"]',
    ],
  },
  {
    reference: 'calculator:1',
    programs: { ...BUSYBOX, '/usr/bin/node': process.execPath },
    files: { '/srv/server.js': join(CALCULATOR, 'server.js'), '/srv/redis.js': join(CALCULATOR, 'redis.js') },
    scripts: { '/srv/package.json': '{ "type": "module" }\n' },
    changes: ['EXPOSE 8080', 'CMD ["/usr/bin/node", "/srv/server.js"]'],
  },
];

/** Paths of the shared libraries in what `ldd` prints; none for a static program. */
export function parseLibraries(printed: string): string[] {
  return [...printed.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)].map((match) => match[1] ?? '');
}

async function librariesOf(program: string): Promise<string[]> {
  try {
    return parseLibraries(await run('ldd', [program]));
  } catch (error) {
    // How ldd answers for a static program.
    if (error instanceof Error && error.message.includes('not a dynamic executable')) return [];
    throw error;
  }
}

/** Lays out the image's root directory in `root`, which must not exist yet. */
export async function layOut(recipe: Recipe, root: string): Promise<void> {
  const place = async (path: string, source: string): Promise<void> => {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await copyFile(source, join(root, path));
  };
  for (const dir of ['bin', 'etc', 'proc', 'sys', 'dev', 'root', 'tmp', 'var/run'])
    await mkdir(join(root, dir), { recursive: true });
  await chmod(join(root, 'tmp'), 0o1777);
  await writeFile(
    join(root, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
  );
  await writeFile(join(root, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n');
  for (const [path, source] of Object.entries(recipe.programs)) {
    await place(path, source);
    for (const library of await librariesOf(source)) await place(library, library);
  }
  for (const [path, source] of Object.entries(recipe.files ?? {})) await place(path, source);
  for (const [path, content] of Object.entries(recipe.scripts ?? {})) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content, { mode: 0o755 });
  }
  const applets = (await run('busybox', ['--list']))
    .split('\n')
    .filter((applet) => applet !== '' && applet !== 'busybox');
  for (const applet of applets) await symlink('busybox', join(root, 'bin', applet));
}
