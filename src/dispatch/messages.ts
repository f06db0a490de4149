/**
 * The wire between managers and agents, version 1. What an agent may say is checked in full and bounded; what a
 * manager says is checked in form only, because its certificate vouches for it.
 *
 * `POST /v1/session`, one long stream of frames both ways: the agent says `hello`; the manager answers `welcome`, then
 * `assignment` frames with all facts of the node, `complete`, and from then on `changes`. Meanwhile the agent sends
 * `status`, each answered by `stored` once durable, `settled` when changes that ask for it (`settle`) are in force,
 * `description` when its host has changed, `heartbeat`, which is answered, and `goodbye` before it ends in order.
 * `authority` says which root to trust, who issues certificates and which role the node has, `managers` which managers there are by now, `end` why the manager ends a session.
 *
 * `open` asks the agent for a stream (streams.ts), which it brings with `POST /v1/stream`.
 *
 * Plain requests: `GET /v1/ca` gives the root and the manager's time to anyone, `POST /v1/certificate` a certificate and a
 * place in the cluster for a token, `POST /v1/certificate/renewal` a new certificate to a node.
 *
 * Only the leader lets agents in. A manager that follows refuses sessions, streams and attachments with 503 and `leader` in the
 * body, and passes requests for certificates on to the leader, saying for whom (PEER_HEADER). `POST /v1/api`, for managers,
 * becomes a stream to the leader's API: HTTP/1.1 in both directions. `POST /v1/manager` gives a manager its place (place.ts).
 */
import { z } from 'zod';
import type { AssignmentChange } from '../model/assignments.ts';
import { parseIPv4, parseSubnet } from '../model/addresses.ts';
import type { StreamRequest } from '../model/streams.ts';
import { FrameError } from './frames.ts';
import { isUsualReports, OBSERVED_STATES, REPORT_LIMITS } from './usual-reports.ts';

/** Frames of an agent are small: it splits what it reports. */
export const MAX_AGENT_FRAME_BYTES = 1024 * 1024;
/** One fact can be as large as a task's spec, and a spec as large as the API takes. */
export const MAX_MANAGER_FRAME_BYTES = 64 * 1024 * 1024;
/** Bodies of plain requests and answers. */
export const MAX_BODY_BYTES = 64 * 1024;

export const PATHS = {
  ca: '/v1/ca',
  certificate: '/v1/certificate',
  renewal: '/v1/certificate/renewal',
  session: '/v1/session',
  attach: '/v1/attachment',
  attachmentsSeen: '/v1/attachment/seen',
  attachmentsRelease: '/v1/attachment/release',
  stream: '/v1/stream',
  api: '/v1/api',
  place: '/v1/manager',
} as const;

/** Carries an AssertedPeer as JSON. */
export const PEER_HEADER = 'drover-peer';

const text = (max: number) => z.string().max(max);
const labels = z.record(text(1024), text(64 * 1024));
const count = z.int().min(0);
const kind = text(256);
const genericResource = z.object({
  NamedResourceSpec: z.object({ Kind: kind, Value: text(1024) }).optional(),
  DiscreteResourceSpec: z.object({ Kind: kind, Value: count }).optional(),
});
const address = text(15).refine((value) => parseIPv4(value) !== undefined, 'not an IPv4 address');

const port = z.object({
  name: text(256).optional(),
  protocol: z.enum(['tcp', 'udp', 'sctp']),
  targetPort: count.max(65_535),
  publishedPort: count.max(65_535),
  publishMode: z.enum(['ingress', 'host']),
});

const report = z.object({
  taskId: text(REPORT_LIMITS.taskId),
  status: z.object({
    timestamp: z.iso.datetime(),
    state: z.literal(OBSERVED_STATES),
    message: text(REPORT_LIMITS.text),
    error: text(REPORT_LIMITS.text).optional(),
    container: z.object({ id: text(REPORT_LIMITS.containerId), pid: count, exitCode: z.int().optional() }).optional(),
    runningSince: z.iso.datetime().optional(),
    ports: z.array(port).max(1024).optional(),
    ready: z.boolean().optional(),
  }),
});

const description = z.object({
  hostname: text(253).min(1),
  platform: z.object({ Architecture: text(64), OS: text(64) }),
  resources: z.object({
    nanoCpus: count,
    memoryBytes: count,
    generic: z.array(genericResource).max(1024).readonly().optional(),
  }),
  engine: z.object({
    version: text(128),
    labels,
    plugins: z.array(z.object({ type: text(128), name: text(256) })).max(1024),
  }),
  tls: z.object({ trustRoot: text(32 * 1024), certIssuerSubject: text(4096), certIssuerPublicKey: text(4096) }),
  routes: z.array(text(18).refine((value) => parseSubnet(value) !== undefined, 'not an IPv4 subnet')).max(10_000),
  dataPathAddress: address,
  degraded: z.array(text(1024)).max(64),
});

const agentMessage = z.discriminatedUnion('type', [
  z.object({ type: z.literal('hello'), nodeId: text(64), description, advertiseAddress: address.optional() }),
  z.object({ type: z.literal('status'), number: count, reports: z.array(report).max(REPORT_LIMITS.reports) }),
  z.object({ type: z.literal('description'), description }),
  z.object({ type: z.literal('settled'), round: count }),
  z.object({ type: z.literal('heartbeat') }),
  /** `left`: the node gives up its place in the cluster, and will not be back under this certificate. */
  z.object({ type: z.literal('goodbye'), left: z.literal(true).optional() }),
]);

const manager = z.object({ nodeId: z.string(), address: z.string() });
/** The manager's clock, in RFC 3339. */
const time = z.iso.datetime().optional();
/** A round to be answered with `settled` once all that was said up to here is in force. */
const settle = count.optional();
const periods = { heartbeatMs: z.number().positive(), timeoutMs: z.number().positive() };
/** PEM certificates, and the time over which nodes that have to renew theirs spread. */
const authority = {
  rootCertificate: z.string(),
  issuerCertificate: z.string(),
  role: z.enum(['worker', 'manager']).optional(),
  spreadMs: z.number().min(0),
};
const changes = z.array(
  z.custom<AssignmentChange>((value) => {
    const { kind, key, value: fact } = (value ?? {}) as Record<string, unknown>;
    return typeof kind === 'string' && typeof key === 'string' && typeof fact === 'object';
  }),
);

const streamRequest = z.custom<StreamRequest>((value) => {
  const { kind, taskId } = (value ?? {}) as Record<string, unknown>;
  return typeof kind === 'string' && typeof taskId === 'string';
});

const managerMessage = z.discriminatedUnion('type', [
  z.object({ type: z.literal('welcome'), sessionId: z.string(), managers: z.array(manager), time, ...periods }),
  z.object({ type: z.literal('assignment'), changes }),
  z.object({ type: z.literal('complete'), settle }),
  z.object({ type: z.literal('changes'), changes, settle }),
  z.object({ type: z.literal('stored'), number: count }),
  z.object({ type: z.literal('heartbeat'), ...periods }),
  z.object({ type: z.literal('managers'), managers: z.array(manager) }),
  z.object({ type: z.literal('authority'), ...authority }),
  z.object({ type: z.literal('open'), streamId: z.string(), request: streamRequest }),
  z.object({
    type: z.literal('end'),
    reason: z.enum(['removed', 'replaced', 'stopping', 'error']),
    message: z.string(),
  }),
]);

const csr = text(16 * 1024);
const renewalRequest = z.object({ csr });
/** Where a manager is ready to keep the cluster's state: in a member of etcd of its own, or in an etcd that stands elsewhere. */
export const etcdKind = z.enum(['own', 'elsewhere']).default('own');
export type EtcdKind = z.output<typeof etcdKind>;
const certificateRequest = z.object({
  token: text(256),
  csr,
  availability: z.enum(['active', 'pause', 'drain']).default('active'),
  /** Where other nodes reach the new one; without it, the address it asks from. */
  advertiseAddress: address.optional(),
  etcd: etcdKind,
});

const certificateAnswer = z.object({ certificate: z.string(), rootCertificate: z.string() });
const renewalAnswer = z.object({ certificate: z.string() });
const caAnswer = z.object({ certificate: z.string(), time });
/** `leader`: who is asked does not lead, and this is who does; '' if nobody is known to. */
const errorAnswer = z.object({ message: z.string(), leader: z.string().optional() });
/** Whom a manager speaks for when it passes a request on to the leader. */
const assertedPeer = z.object({
  address: text(64),
  node: z.object({ nodeId: text(64), role: z.enum(['worker', 'manager']), clusterId: text(64) }).optional(),
});

export type AgentMessage = z.infer<typeof agentMessage>;
export type Hello = Extract<AgentMessage, { type: 'hello' }>;
export type ManagerMessage = z.infer<typeof managerMessage>;
export type EndReason = Extract<ManagerMessage, { type: 'end' }>['reason'];
/** A manager and the host:port of its 2377. */
export type ManagerAddress = z.infer<typeof manager>;
export type CertificateAnswer = z.infer<typeof certificateAnswer>;
export type CaAnswer = z.infer<typeof caAnswer>;
export type AssertedPeer = z.infer<typeof assertedPeer>;

/** The checks at the edge: each takes what came, returns it typed and stripped of unknown keys, or throws FrameError. */
export const parseAgentMessage = (value: unknown): AgentMessage =>
  isUsualReports(value) ? value : checkAgentMessage(value);
/** … by the schema alone. */
export const checkAgentMessage = check(agentMessage);
export const parseManagerMessage = check(managerMessage);
export const parseCertificateRequest = check(certificateRequest);
export const parseCertificateAnswer = check(certificateAnswer);
export const parseRenewalRequest = check(renewalRequest);
export const parseRenewalAnswer = check(renewalAnswer);
export const parseCaAnswer = check(caAnswer);
export const parseErrorAnswer = check(errorAnswer);
export const parseAssertedPeer = check(assertedPeer);

function check<T extends z.ZodType>(schema: T): (value: unknown) => z.output<T> {
  return (value) => {
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    const issue = result.error.issues[0]!;
    throw new FrameError(`a message that is not understood: ${issue.path.join('.') || 'it'}: ${issue.message}`);
  };
}
