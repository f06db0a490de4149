/** An overlay that stands on the node of a test. */
import type { OverlayHere } from '../model/attachments.ts';

export const HERE: OverlayHere = {
  id: 'net1',
  name: 'net1-name',
  environment: 'default',
  subnet: '10.0.16.0/20',
  gateway: '10.0.16.2',
  vni: 4097,
  dataPathPort: 4789,
  ingress: false,
  internal: false,
  attachable: true,
  labels: {},
  options: {},
  engineNetwork: 'drover-1-aaaa',
};
