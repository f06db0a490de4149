/** The body of `POST /networks/create`, and the rules for overlays. Pure. Keys that are not listed are kept. */
import { z } from 'zod';
import { struct } from '../body.ts';
import { parseIPv4, parseSubnet, subnetContains } from '../../model/addresses.ts';
import type { NetworkSpec } from '../../model/specs.ts';
import { badRequest, notBuilt } from '../errors.ts';
import { checkName } from './names.ts';

const text = z.string().default('');
const flag = z.boolean().default(false);
const map = z.record(z.string(), z.string());

export const networkShape = struct({
  Name: text,
  Driver: text,
  Scope: text,
  Internal: flag,
  Attachable: flag,
  Ingress: flag,
  ConfigOnly: flag,
  EnableIPv6: flag,
  IPAM: struct({
    Driver: text,
    Options: map.optional(),
    Config: z
      .array(
        struct({
          Subnet: z.string().optional(),
          IPRange: z.string().optional(),
          Gateway: z.string().optional(),
        }),
      )
      .default([]),
  }).prefault({}),
  Options: map.default({}),
  Labels: map.default({}),
});

/** Overlays are planned no smaller: a /29 leaves 6 addresses for gateways, VIPs and tasks. */
const LONGEST_PREFIX = 29;

/** The spec of an overlay of the cluster. @throws ApiError 400 or 501 */
export function overlaySpec(body: z.output<typeof networkShape>): NetworkSpec {
  checkName(body.Name);
  if (body.Ingress && body.Attachable) throw badRequest('ingress network cannot be attachable');
  if (body.EnableIPv6) throw notBuilt('IPv6 in overlay networks is not supported yet');
  if (body.ConfigOnly) throw badRequest('configuration-only networks cannot be overlays');
  if (!['', 'default'].includes(body.IPAM.Driver))
    throw notBuilt(`the IPAM driver ${body.IPAM.Driver} is not supported for overlays`);
  if ('encrypted' in body.Options) throw notBuilt('encrypted overlay networks are not supported yet');
  if (body.IPAM.Config.length > 1) throw notBuilt('an overlay network can have one subnet only');
  body.IPAM.Config.forEach(checkIpam);
  const { Name, Labels, Internal, Attachable, Options } = body;
  const { Options: ipamOptions, Config } = body.IPAM;
  return {
    Name,
    Labels,
    Driver: 'overlay',
    Internal,
    Attachable,
    Ingress: body.Ingress,
    EnableIPv6: false,
    Options,
    IPAM: { Driver: 'default', ...(ipamOptions === undefined ? {} : { Options: ipamOptions }), Config },
  };
}

function checkIpam(config: {
  Subnet?: string | undefined;
  IPRange?: string | undefined;
  Gateway?: string | undefined;
}): void {
  const { Subnet: cidr = '', IPRange: range = '', Gateway: gateway = '' } = config;
  if (cidr === '') {
    if (range !== '' || gateway !== '') throw badRequest('ipam configuration: an IP range or gateway needs a subnet');
    return;
  }
  const subnet = parseSubnet(cidr);
  if (subnet === undefined) throw badRequest(`Invalid subnet ${cidr} : invalid CIDR address: ${cidr}`);
  if (subnet.prefix > LONGEST_PREFIX)
    throw badRequest(`ipam configuration: subnet ${cidr} is too small for an overlay: /${LONGEST_PREFIX} at most`);
  const inside = (address: number | undefined): boolean => address !== undefined && subnetContains(subnet, address);
  if (range !== '' && !inside(parseSubnet(range)?.base))
    throw badRequest(`ipam configuration: IP range ${range} is not within ${cidr}`);
  if (gateway !== '' && !inside(parseIPv4(gateway)))
    throw badRequest(`ipam configuration: gateway ${gateway} is not within ${cidr}`);
}
