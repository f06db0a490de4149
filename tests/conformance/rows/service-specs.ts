/** What a ServiceSpec must keep, with Docker's sentences (docker-api.md 1.2, 1.3 "Limits"). Nothing here makes a service. */
import { FAULT, get, post, type Row } from '../row.ts';

interface Spec {
  [key: string]: unknown;
}

const container = (over: Spec = {}): Spec => ({ Image: '{image}', ...over });
const task = (over: Spec = {}): Spec => ({ ContainerSpec: container(), ...over });
const spec = (over: Spec = {}): Spec => ({ Name: 'refused', TaskTemplate: task(), ...over });

const refused = (body: Spec, message: string | RegExp, more: Partial<Row> = {}): Row => ({
  covers: '1.3 Limits',
  call: post('/services/create', body),
  status: 400,
  message,
  ...more,
});

const NEVER_STARTS = {
  notOnSwarm:
    'swarm mode makes the service, and every task of it is rejected with this sentence; here it is said at once',
};
const NAME_RULE = 'name must be valid as a DNS name component';
const port = (over: Spec = {}): Spec => ({ TargetPort: 80, PublishedPort: 8081, ...over });
const mounted = (mount: Spec): Spec => spec({ TaskTemplate: task({ ContainerSpec: container({ Mounts: [mount] }) }) });

export const serviceSpecs: Row[] = [
  refused(spec({ Name: 'with space' }), NAME_RULE),
  refused(spec({ Name: '-dash' }), NAME_RULE),
  refused(spec({ Name: 'a.b' }), NAME_RULE),
  refused(spec({ Name: 'x'.repeat(64) }), 'name must be 63 characters or fewer'),
  refused(spec({ TaskTemplate: {} }), 'mismatched Runtime and *Spec fields'),
  refused(spec({ TaskTemplate: task({ ContainerSpec: {} }) }), 'ContainerSpec: image reference must be provided'),
  refused(
    spec({ TaskTemplate: task({ ContainerSpec: { Image: 'Not An Image' } }) }),
    'ContainerSpec: "Not An Image" is not a valid repository/tag',
  ),
  refused(
    spec({ TaskTemplate: task({ Resources: { Limits: { NanoCPUs: 1000 } } }) }),
    'invalid cpu value 1e-06: Must be at least 0.001',
  ),
  refused(
    spec({ TaskTemplate: task({ Resources: { Reservations: { MemoryBytes: 1000 } } }) }),
    'invalid memory value 1000: Must be at least 4MiB',
  ),
  refused(
    spec({ TaskTemplate: task({ RestartPolicy: { Condition: 'any', Delay: -1 } }) }),
    'TaskSpec: restart-delay cannot be negative',
  ),
  refused(
    spec({ TaskTemplate: task({ RestartPolicy: { Condition: 'any', Window: -1 } }) }),
    'TaskSpec: restart-window cannot be negative',
  ),
  refused(
    spec({ TaskTemplate: task({ RestartPolicy: { Condition: 'sometimes' } }) }),
    'invalid RestartCondition: "sometimes"',
  ),
  refused(spec({ UpdateConfig: { Delay: -1 } }), 'TaskSpec: update-delay cannot be negative'),
  refused(spec({ UpdateConfig: { Monitor: -1 } }), 'TaskSpec: update-monitor cannot be negative'),
  refused(
    spec({ UpdateConfig: { MaxFailureRatio: 1.5 } }),
    'TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1',
  ),
  refused(spec({ UpdateConfig: { FailureAction: 'shrug' } }), 'unrecognized update failure action shrug'),
  refused(spec({ UpdateConfig: { Order: 'sideways' } }), 'unrecognized update order sideways'),
  refused(spec({ RollbackConfig: { FailureAction: 'shrug' } }), /unrecognized (update|rollback) failure action shrug/),
  refused(
    spec({ TaskTemplate: task({ Placement: { Constraints: ['node.role~manager'] } }) }),
    'constraint expected one operator from ==, !=',
    { swarm: { status: 500, why: FAULT } },
  ),
  refused(
    spec({ TaskTemplate: task({ Placement: { Constraints: ['no spaces==x'] } }) }),
    "key 'no spaces' is invalid",
    { swarm: { status: 500, why: FAULT } },
  ),
  refused(spec({ TaskTemplate: task({ Placement: { Constraints: ['node.role=='] } }) }), "value '' is invalid", {
    swarm: { status: 500, why: FAULT },
  }),
  // endpoint
  refused(
    spec({ EndpointSpec: { Mode: 'dnsrr', Ports: [port()] } }),
    "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
  ),
  refused(
    spec({ EndpointSpec: { Ports: [port(), port({ TargetPort: 81 })] } }),
    'EndpointSpec: duplicate published ports provided',
  ),
  refused(spec({ EndpointSpec: { Mode: 'anycast' } }), 'invalid resolution mode: "anycast"'),
  // mounts
  refused(
    mounted({ Type: 'bind', Source: '/tmp' }),
    'invalid mount config for type "bind": field Target must not be empty',
    NEVER_STARTS,
  ),
  refused(
    mounted({ Type: 'bind', Target: '/x' }),
    'invalid mount config for type "bind": field Source must not be empty',
    NEVER_STARTS,
  ),
  refused(mounted({ Type: 'bind', Source: 'tmp', Target: '/x' }), /mount path must be absolute/, NEVER_STARTS),
  refused(
    mounted({ Type: 'tmpfs', Source: 'x', Target: '/x' }),
    'invalid mount config for type "tmpfs": field Source must not be specified',
    NEVER_STARTS,
  ),
  refused(mounted({ Type: 'floppy', Target: '/x' }), 'invalid MountType: "floppy"'),
  refused(
    spec({
      TaskTemplate: task({
        ContainerSpec: container({
          Mounts: [
            { Type: 'volume', Source: 'a', Target: '/x' },
            { Type: 'volume', Source: 'b', Target: '/x' },
          ],
        }),
      }),
    }),
    'ContainerSpec: duplicate mount point: /x',
  ),
  // container
  refused(
    spec({ TaskTemplate: task({ ContainerSpec: container({ StopGracePeriod: -1 }) }) }),
    'ContainerSpec: stop-grace-period cannot be negative',
    { notOnSwarm: 'engine 20.10 takes it; newer engines refuse it so' },
  ),
  refused(
    spec({ TaskTemplate: task({ ContainerSpec: container({ Healthcheck: { Test: ['CMD', 'x'], Interval: -1 } }) }) }),
    'ContainerSpec: Interval in HealthConfig cannot be less than 1ms',
  ),
  refused(
    spec({ TaskTemplate: task({ ContainerSpec: container({ Healthcheck: { Test: ['CMD', 'x'], Retries: -1 } }) }) }),
    'ContainerSpec: Retries in HealthConfig cannot be negative',
  ),
  refused(
    spec({ TaskTemplate: task({ ContainerSpec: container({ Hostname: '{{.Nope}}' }) }) }),
    /expanding hostname failed/,
  ),
  refused(spec({ TaskTemplate: task({ ContainerSpec: container({ Env: ['A={{.Broken'] }) }) }), /expanding env failed/),
  refused(spec({ TaskTemplate: task({ Runtime: 'hope' }) }), 'unsupported runtime'),
  refused(
    mounted({ Type: 'bind', Source: '/a', Target: '/x', BindOptions: { Propagation: 'wild' } }),
    'invalid MountPropagation: "wild"',
  ),
  refused(
    spec({
      TaskTemplate: task({
        ContainerSpec: container({ Privileges: { CredentialSpec: { File: 'a', Registry: 'b' } } }),
      }),
    }),
    'invalid CredentialSpec: cannot specify both "file" and "registry" credential specs',
  ),
  refused(spec({ EndpointSpec: { Ports: [port({ Protocol: 'icmp' })] } }), /^invalid protocol: "icmp"/, {
    notOnSwarm: 'engine 20.10 takes any word and means tcp',
  }),
  refused(spec({ EndpointSpec: { Ports: [port({ PublishMode: 'shout' })] } }), /^invalid publish mode: "shout"/, {
    notOnSwarm: 'engine 20.10 takes any word and means ingress',
  }),
  refused(spec({ EndpointSpec: { Ports: [port({ TargetPort: 0 })] } }), /needs a target port/, {
    notOnSwarm: 'swarm mode takes it and publishes nothing',
  }),
  refused(
    spec({
      TaskTemplate: task({
        Resources: { Reservations: { GenericResources: [{ NamedResourceSpec: { Kind: 'gpu', Value: 'a' } }] } },
      }),
    }),
    'invalid argument for resource gpu',
    { notOnSwarm: 'swarm mode takes it, and never finds a node' },
  ),
  // networks, mode
  refused(spec({ TaskTemplate: task({ Networks: [{ Target: 'nowhere' }] }) }), 'network nowhere not found', {
    covers: '1.2 not found',
    status: 404,
    swarm: { status: 500, why: FAULT },
  }),
  refused(
    spec({ TaskTemplate: task({ Networks: [{ Target: 'ingress' }] }) }),
    'Service cannot be explicitly attached to the ingress network "ingress"',
    { status: 400 },
  ),
  refused(spec({ Mode: { Replicated: { Replicas: -1 } } }), /./),
  refused(spec({ Mode: { Replicated: { Replicas: 1 }, Global: {} } }), 'must specify only one service mode'),
  // forms
  { covers: '1.3 Request body', call: post('/services/create'), status: 400, message: /EOF/ },
  { covers: '1.3 Request body', call: post('/services/create', '[]'), status: 400 },
  { covers: '1.3 Request body', call: post('/services/create', '{"Name":7}'), status: 400 },
  {
    covers: '1.3 Request body',
    call: post('/services/create', '{}', { 'Content-Type': 'text/plain' }),
    status: 400,
    message: /Content-Type/i,
    swarm: {
      message: 'mismatched Runtime and *Spec fields',
      why: 'engine 20.10 does not look at the type; newer ones do',
    },
  },
  {
    covers: '1.3 Limits: nothing was made',
    call: get('/services?filters={"name":["refused"]}'),
    status: 200,
    body: [],
  },
];
