/** Names of images as Docker's clients send them, and their digests, asked of the registry through the cluster. */
import type { DockerClient } from '../../docker/client.ts';
import type { Platform, ServiceSpec } from '../../model/specs.ts';

/** Docker Hub by the name that its credentials have. */
const HUB = 'https://index.docker.io/v1/';
/** Asking a registry that does not answer must not hold a deploy for long. */
const LOOKUP_TIMEOUT_MS = 30_000;

/** An image's name in short, with a tag: `docker.io/library/busybox` → `busybox:latest`. */
export function taggedImage(image: string): string {
  const short = image.replace(/^(index\.)?docker\.io\//, '').replace(/^library\//, '');
  return short.includes('@') || /:[\w][\w.-]*$/.test(short) ? short : `${short}:latest`;
}

/** The registry an image comes from, as docker's config.json names it. */
export function registryOf(image: string): string {
  const [first = '', ...rest] = image.split('/');
  const isHost = rest.length > 0 && (/[.:]/.test(first) || first === 'localhost');
  return !isHost || first === 'docker.io' || first === 'index.docker.io' ? HUB : first;
}

/** A spec whose image is pinned to the digest its tag has now; if that cannot be learnt, `warn` says so and it stays. */
export async function pinned(
  client: DockerClient,
  spec: ServiceSpec,
  auth: string | undefined,
  warn: (text: string) => void,
): Promise<ServiceSpec> {
  const image = spec.TaskTemplate.ContainerSpec?.Image ?? '';
  try {
    const { Descriptor, Platforms } = await client.request<{
      Descriptor: { digest: string };
      Platforms: { architecture?: string; os?: string }[] | null;
    }>('GET', `/distribution/${image}/json`, {
      timeoutMs: LOOKUP_TIMEOUT_MS,
      headers: auth === undefined ? {} : { 'X-Registry-Auth': auth },
    });
    const platforms = (Platforms ?? []).map(({ architecture = '', os = '' }): Platform => ({
      // As docker does: there are several kinds of arm, and a node's kind has another name than the image's.
      ...(architecture === '' || architecture === 'arm' ? {} : { Architecture: architecture }),
      ...(os === '' ? {} : { OS: os }),
    }));
    return withImage(spec, image.includes('@') ? image : `${image}@${Descriptor.digest}`, platforms);
  } catch (error) {
    warn(
      `image ${image} could not be accessed on a registry to record its digest. Each node will access ${image} independently, possibly leading to different nodes running different versions of the image (${error instanceof Error ? error.message : String(error)})`,
    );
    return spec;
  }
}

export function withImage(spec: ServiceSpec, image: string, platforms: readonly Platform[] = []): ServiceSpec {
  const { ContainerSpec: container, Placement, ...task } = spec.TaskTemplate;
  return {
    ...spec,
    TaskTemplate: {
      ...task,
      ContainerSpec: { ...container, Image: image },
      Placement: { ...Placement, ...(platforms.length === 0 ? {} : { Platforms: [...platforms] }) },
    },
  };
}
