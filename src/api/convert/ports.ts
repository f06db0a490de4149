/** Published ports as Docker's API shows them. Pure. */
import type { EndpointPort } from '../../model/objects.ts';

export function portJson(port: EndpointPort): object {
  return {
    ...(port.name === undefined ? {} : { Name: port.name }),
    Protocol: port.protocol,
    TargetPort: port.targetPort,
    ...(port.publishedPort === 0 ? {} : { PublishedPort: port.publishedPort }),
    PublishMode: port.publishMode,
  };
}
