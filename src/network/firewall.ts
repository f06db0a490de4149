/**
 * Room for our bridges in the host's iptables rules. Docker sets FORWARD to DROP and keeps the chain DOCKER-USER for
 * other people's rules; hosts may drop in INPUT what asks our resolver. The engine and administrators rebuild
 * chains at will, so the rules are compared with what stands, again and again, and put back.
 */
import type { CommandRunner } from './command.ts';
import { CommandFailed } from './command.ts';

export interface FirewallBridge {
  device: string;
  /** Only the ingress bridge passes connections from outside in. */
  ingress: boolean;
  /** No way out, not even round a published port. */
  internal: boolean;
}

const FORWARD_CHAIN = 'DOCKER-USER';

/** A rule as `iptables` takes it, after `-I CHAIN`; `-S` prints it in these very words. Of a list, the first decides. */
export interface FirewallRule {
  chain: string;
  spec: string;
}

/**
 * What our bridges need. Between two ports of one bridge everything passes (that only matters with `br_netfilter`);
 * from elsewhere only what a published port has turned round, and the answers to it. Nobody outside can
 * reach a task by its overlay address. From an internal network nothing leaves: the engine keeps it so too, but asks
 * after our rule for published ports, which would let it out to them.
 */
export function firewallRules(bridges: readonly FirewallBridge[], comment: string): FirewallRule[] {
  const label = `-m comment --comment "${comment}"`;
  const closed = bridges.filter(({ internal }) => internal);
  const open = bridges.flatMap(({ device, ingress }) => [
    { chain: FORWARD_CHAIN, spec: `-i ${device} -o ${device} ${label} -j ACCEPT` },
    ...(ingress
      ? ['-i', '-o'].map((flag) => ({
          chain: FORWARD_CHAIN,
          spec: `${flag} ${device} -m conntrack --ctstate DNAT ${label} -j ACCEPT`,
        }))
      : []),
    ...['udp', 'tcp'].map((protocol) => ({
      chain: 'INPUT',
      spec: `-i ${device} -p ${protocol} -m ${protocol} --dport 53 ${label} -j ACCEPT`,
    })),
  ]);
  return [
    ...closed.map(({ device }) => ({ chain: FORWARD_CHAIN, spec: `-i ${device} ! -o ${device} ${label} -j DROP` })),
    ...open,
  ];
}

/** Makes the rules with our comment equal to `wanted`, in that order. Does nothing to anybody else's. */
export async function applyFirewall(
  run: CommandRunner,
  wanted: readonly FirewallRule[],
  comment: string,
): Promise<void> {
  const saved = await run(['iptables', '-w', '-S']);
  const lines = saved.split('\n');
  const batch: string[] = [];
  if (!lines.includes(`-N ${FORWARD_CHAIN}`)) batch.push(`:${FORWARD_CHAIN} - [0:0]`);
  if (!lines.some((line) => line === `-A FORWARD -j ${FORWARD_CHAIN}`)) batch.push(`-I FORWARD -j ${FORWARD_CHAIN}`);
  const ours = lines.filter((line) => line.includes(`--comment "${comment}"`));
  const rules = wanted.map(({ chain, spec }) => `-A ${chain} ${spec}`);
  // Where nothing of ours is wanted, not even Docker's chain is made.
  if (sameByChain(ours, rules) && (rules.length === 0 || batch.length === 0)) return;
  batch.push(...ours.map((line) => line.replace(/^-A/, '-D')));
  // Each goes above the one before it.
  batch.push(...rules.toReversed().map((line) => line.replace(/^-A/, '-I')));
  await run(['iptables-restore', '-w', '--noflush'], { input: ['*filter', ...batch, 'COMMIT', ''].join('\n') });
}

/** True if each chain has the same rules in the same order. */
function sameByChain(standing: readonly string[], wanted: readonly string[]): boolean {
  const byChain = (lines: readonly string[]): string[] =>
    [...Map.groupBy(lines, (line) => line.split(' ')[1] ?? '')].map(([, rules]) => rules.join('\n')).sort();
  return byChain(standing).join('\n\n') === byChain(wanted).join('\n\n');
}

/** True if the host has no iptables at all, so that nothing of it can be in our way. */
export function isMissingProgram(error: unknown): boolean {
  return (
    (error instanceof Error && 'code' in error && error.code === 'ENOENT') ||
    (error instanceof CommandFailed && (error.exitCode === 127 || /No such file or directory/.test(error.stderr)))
  );
}
