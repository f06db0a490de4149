/** A node as Docker's API shows it. Pure. */
import type { Node } from '../../model/objects.ts';
import type { Leadership } from '../leader.ts';

/** The manager that is asked, and who leads as it knows. */
export interface Asked {
  nodeId: string;
  leadership: Leadership;
}

export function nodeJson(node: Node, asked: Asked): object {
  return {
    ID: node.id,
    Version: { Index: node.meta.version },
    CreatedAt: node.meta.createdAt,
    UpdatedAt: node.meta.updatedAt,
    Spec: node.spec,
    Description: descriptionJson(node.description),
    Status: statusJson(node),
    ...managerJson(node, asked),
  };
}

/**
 * What the row says of a manager is what the last leader knew. So who leads is not read there, and of the others nothing is
 * known while nobody leads: a manager that has lost the majority calls none of them reachable, nor itself the leader.
 */
function managerJson({ id, manager }: Node, { nodeId, leadership }: Asked): object {
  if (manager === undefined) return {};
  const leaderId = leadership.leading ? nodeId : leadership.leader?.nodeId;
  const unled = id === nodeId ? 'reachable' : 'unknown';
  const Reachability = id === leaderId ? 'reachable' : leaderId === undefined ? unled : manager.reachability;
  return { ManagerStatus: { ...(id === leaderId && { Leader: true }), Reachability, Addr: manager.address } };
}

/** The message of a node that is ready says what its host cannot do in full: `docker node inspect --pretty` prints it. */
function statusJson(node: Node): object {
  const { state, message, address } = node.status;
  const said = message === '' ? degradedOf(node).join('; ') : message;
  return { State: state, ...(said === '' ? {} : { Message: said }), Addr: address };
}

/** What the host of a node that is ready cannot do in full, in words; nobody knows it of another. */
export function degradedOf({ status, description }: Node): readonly string[] {
  return status.state === 'ready' ? (description?.degraded ?? []) : [];
}

/** A node that has not yet been heard of has an empty description: clients read through it without looking. */
function descriptionJson(description: Node['description']): object {
  if (description === undefined) return { Platform: {}, Resources: {}, Engine: {}, TLSInfo: {} };
  const { platform, resources, engine, tls } = description;
  return {
    Hostname: description.hostname,
    Platform: { Architecture: platform.Architecture, OS: platform.OS },
    Resources: {
      NanoCPUs: resources.nanoCpus,
      MemoryBytes: resources.memoryBytes,
      ...(resources.generic === undefined || resources.generic.length === 0
        ? {}
        : { GenericResources: resources.generic }),
    },
    Engine: {
      EngineVersion: engine.version,
      ...(Object.keys(engine.labels).length === 0 ? {} : { Labels: engine.labels }),
      Plugins: engine.plugins.map(({ type, name }) => ({ Type: type, Name: name })),
    },
    TLSInfo: tlsJson(tls),
  };
}

/** A root CA in Docker's names. */
export function tlsJson(tls: { trustRoot: string; certIssuerSubject: string; certIssuerPublicKey: string }): object {
  return {
    TrustRoot: tls.trustRoot,
    CertIssuerSubject: tls.certIssuerSubject,
    CertIssuerPublicKey: tls.certIssuerPublicKey,
  };
}
