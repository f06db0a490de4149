/**
 * A registry with one tiny image, `app:v1`, for one user only, `ann` with password `secret`: a process for a private
 * engine's network. It prints the port it listens on at 127.0.0.1, and ends when its stdin does.
 */
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { gzipSync } from 'node:zlib';

const AUTHORIZATION = `Basic ${Buffer.from('ann:secret').toString('base64')}`;
const MANIFEST_TYPE = 'application/vnd.docker.distribution.manifest.v2+json';

const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
/** A tar without files ends at once: two empty blocks. */
const tar = Buffer.alloc(1024);
const layer = gzipSync(tar);
const config = Buffer.from(
  JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [digestOf(tar)] } }),
);
const manifest = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: {
      mediaType: 'application/vnd.docker.container.image.v1+json',
      size: config.length,
      digest: digestOf(config),
    },
    layers: [
      { mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip', size: layer.length, digest: digestOf(layer) },
    ],
  }),
);
const blobs = new Map([layer, config, manifest].map((bytes) => [digestOf(bytes), bytes]));

const server = createServer((request, response) => {
  response.setHeader('Docker-Distribution-Api-Version', 'registry/2.0');
  if (request.headers.authorization !== AUTHORIZATION) {
    response.writeHead(401, { 'WWW-Authenticate': 'Basic realm="registry"', 'Content-Type': 'application/json' });
    return response.end('{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}');
  }
  const [, kind, name = ''] = /^\/v2\/app\/(manifests|blobs)\/(.+)$/.exec(request.url ?? '') ?? [];
  const bytes = kind === 'manifests' && name === 'v1' ? manifest : blobs.get(name);
  if (request.url === '/v2/') return response.end('{}');
  if (bytes === undefined) {
    response.writeHead(404, { 'Content-Type': 'application/json' });
    return response.end('{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}');
  }
  response.writeHead(200, {
    'Content-Type': kind === 'manifests' ? MANIFEST_TYPE : 'application/octet-stream',
    'Content-Length': bytes.length,
    'Docker-Content-Digest': digestOf(bytes),
  });
  return response.end(request.method === 'HEAD' ? undefined : bytes);
});

server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (address !== null && typeof address === 'object') process.stdout.write(`${address.port}\n`);
});
process.stdin.on('end', () => process.exit(0)).resume();
