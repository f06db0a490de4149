/** Drives a cluster with dockerode, as a program of a user would; resolves with what it saw. */
import Docker from 'dockerode';
import { eventually } from './lab.ts';

export interface Seen {
  [what: string]: unknown;
}

/** What dockerode's types leave out of a task. */
interface TaskInfo {
  DesiredState: string;
  Status: { State: string };
  Spec: { ContainerSpec: { Image: string } };
}

export async function driveWithDockerode(
  socketPath: string,
  address: string,
  images: [first: string, second: string],
): Promise<Seen> {
  const docker = new Docker({ socketPath, version: 'v1.41' });
  const seen: Seen = {};
  const [image, image2] = images;
  await docker.swarmInit({ ListenAddr: '0.0.0.0:2377', AdvertiseAddr: address });

  const events = await docker.getEvents({ filters: { type: ['service'], scope: ['swarm'] } });
  const told: string[] = [];
  events.on('data', (chunk: Buffer) => {
    for (const line of chunk.toString().trim().split('\n')) {
      const { Action, Actor } = JSON.parse(line) as { Action: string; Actor: { Attributes: { name: string } } };
      told.push(`${Action} ${Actor.Attributes.name}`);
    }
  });

  const network = await docker.createNetwork({ Name: 'back', Driver: 'overlay', Labels: { a: 'b' } });
  seen['networks'] = (await docker.listNetworks({ filters: { name: ['back'] } })).map(({ Name, Scope }) => [
    Name,
    Scope,
  ]);
  const spec = (Image: string, Replicas: number): Docker.CreateServiceOptions => ({
    Name: 'web',
    Labels: { app: 'shop' },
    TaskTemplate: { ContainerSpec: { Image }, Networks: [{ Target: 'back' }] },
    Mode: { Replicated: { Replicas } },
    UpdateConfig: { Parallelism: 0, Monitor: 1e9, Order: 'stop-first' },
    EndpointSpec: { Ports: [{ Protocol: 'tcp', TargetPort: 8080, PublishedPort: 8086 }] },
  });
  const { id } = (await docker.createService(spec(image, 2))) as unknown as { id: string };
  const service = docker.getService(id);
  const running = (count: number, of: string) => async (): Promise<boolean> => {
    const tasks = (await docker.listTasks({
      filters: { service: ['web'], 'desired-state': ['running'] },
    })) as TaskInfo[];
    return (
      tasks.length === count &&
      tasks.every(({ Status, Spec }) => Status.State === 'running' && Spec.ContainerSpec.Image === of)
    );
  };
  await eventually('two tasks run', running(2, image));
  const listed = await docker.listServices({ filters: { label: ['app=shop'] } });
  seen['services'] = listed.map((each) => each.Spec?.Name);
  const before: { Version: { Index: number } } = await service.inspect();
  await service.update({ ...spec(image2, 3), version: before.Version.Index });
  await eventually('three tasks of the new image run', running(3, image2));
  seen['stale'] = await service.update({ ...spec(image, 1), version: before.Version.Index }).then(
    () => 'taken',
    (error: { statusCode: number; json: { message: string } }) => [error.statusCode, error.json.message],
  );
  seen['nodes'] = (await docker.listNodes()).length;

  const container = await docker.createContainer({ Image: image, Entrypoint: ['/bin/busybox', 'echo', 'hello'] });
  await container.start();
  seen['exit'] = ((await container.wait()) as { StatusCode: number }).StatusCode;
  const logs = await container.logs({ stdout: true, follow: false });
  seen['logs'] = logs.subarray(8).toString();
  await container.remove();

  await service.remove();
  await eventually('the removal is told', async () => told.includes('remove web'));
  seen['told'] = ['create web', 'update web', 'remove web'].filter((each) => told.includes(each));
  (events as unknown as { destroy(): void }).destroy();
  // Its tasks still stop: the name is given back at once all the same.
  await network.remove();
  await docker.swarmLeave({ force: true });
  return seen;
}
