import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { MemoryJournal } from '../../journal/memory.ts';
import { silentLog } from '../../model/clock.ts';
import type { Node, Service, Task } from '../../model/objects.ts';
import type { PortConfig, ServiceSpec } from '../../model/specs.ts';
import { TaskState, isTerminal } from '../../model/states.ts';
import { FakeClock } from '../../sim/fake-clock.ts';
import { Store, type Transaction, type View } from '../../store/store.ts';
import {
  attachmentRow,
  clusterRow,
  ipam,
  networkRow,
  nodeRow,
  serviceRow,
  serviceSpec,
  specRow,
  taskRow,
} from '../scheduler/rows.fixture.ts';
import { Allocator } from './allocator.ts';
import { Books } from './books.ts';
import { decideGateways, nodesAmiss, sameGateways } from './decisions.ts';

const running: Allocator[] = [];
afterEach(async () => {
  for (const allocator of running.splice(0)) await allocator.loop.stop();
});

async function setUp(fill: (tx: Transaction) => void = () => {}) {
  const journal = new MemoryJournal();
  const store = await Store.open(journal);
  await store.update((tx) => {
    tx.clusters.create(clusterRow());
    fill(tx);
  });
  const clock = new FakeClock();
  const allocator = new Allocator({ store, clock, log: silentLog });
  allocator.loop.start();
  running.push(allocator);
  const run = () => clock.advance(0);
  await run();
  return {
    journal,
    store,
    clock,
    allocator,
    run,
    do: async (fn: (tx: Transaction) => void) => {
      await store.update(fn);
      await run();
    },
    network: (id: string) => store.view((view) => view.networks.get(id)!),
    service: (id: string) => store.view((view) => view.services.get(id)!),
    task: (id: string) => store.view((view) => view.tasks.get(id)!),
    node: (id: string) => store.view((view) => view.nodes.get(id)!),
  };
}

const on = (...networks: string[]): Partial<ServiceSpec> => ({
  TaskTemplate: { Networks: networks.map((Target) => ({ Target })) },
});
const publishing = (...Ports: PortConfig[]): Partial<ServiceSpec> => ({ EndpointSpec: { Ports } });

function addService(tx: Transaction, name: string, changes: Partial<ServiceSpec> = {}): Service {
  const service = serviceRow(name, serviceSpec(name, changes));
  tx.services.create(service);
  tx.serviceSpecs.create(specRow(service));
  return service;
}

function respec(tx: Transaction, id: string, changes: Partial<ServiceSpec>): void {
  const service = tx.services.get(id)!;
  const after = { ...service, spec: { ...service.spec, ...changes }, specVersion: tx.index };
  tx.services.update(after);
  tx.serviceSpecs.create(specRow(after));
}

const advance = (tx: Transaction, id: string, state: TaskState, changes: Partial<Task> = {}) => {
  const task = tx.tasks.get(id)!;
  tx.tasks.update({ ...task, ...changes, status: { ...task.status, state } });
};

describe('networks', () => {
  test('get subnets and ids that nothing else has; a refusal is in words and mended when room comes', async () => {
    const { do: change, network } = await setUp((tx) => {
      tx.nodes.create(nodeRow('a', { description: { routes: ['0.0.0.0/0', '10.1.5.0/24', '172.17.0.0/16'] } }));
      tx.networks.create(networkRow('ingress', { Ingress: true }));
    });
    expect(network('ingress').allocation).toEqual({ subnet: '10.0.0.0/16', vni: 4097 });
    await change((tx) => ['n1', 'n2'].forEach((id) => tx.networks.create(networkRow(id))));
    expect(network('n1').allocation).toEqual({ subnet: '10.1.16.0/20', vni: 4098 });
    expect(network('n2').allocation).toEqual({ subnet: '10.1.32.0/20', vni: 4099 });
    await change((tx) => tx.networks.create(networkRow('u', { IPAM: ipam('10.1.20.0/24') })));
    expect(network('u').allocationError).toBe('subnet 10.1.20.0/24 overlaps 10.1.16.0/20 of network n1');
    await change((tx) => tx.networks.create(networkRow('lan', { IPAM: ipam('10.1.5.0/24') })));
    expect(network('lan').allocationError).toBe("subnet 10.1.5.0/24 overlaps 10.1.5.0/24 of a node's own routes");
    await change((tx) => tx.networks.remove('n1'));
    expect(network('u').allocation?.subnet).toBe('10.1.20.0/24');
    expect(network('u').allocationError).toBeUndefined();
    await change((tx) => tx.nodes.remove('a'));
    expect(network('lan').allocation?.subnet).toBe('10.1.5.0/24');
  });
});

describe('services', () => {
  test('get a VIP in each network, ports, and what is asked for on every node', async () => {
    const { service } = await setUp((tx) => {
      tx.networks.create(networkRow('ingress', { Ingress: true }));
      tx.networks.create(networkRow('n'));
      addService(tx, 'web', {
        ...on('n', 'n', 'host'),
        ...publishing({ TargetPort: 80, PublishedPort: 8080 }, { TargetPort: 81, Protocol: 'udp' }),
      });
      addService(tx, 'rr', {
        ...on('n'),
        EndpointSpec: { Mode: 'dnsrr', Ports: [{ TargetPort: 9, PublishedPort: 9, PublishMode: 'host' }] },
      });
      addService(tx, 'plain');
    });
    expect(service('web').endpoint).toEqual({
      spec: {
        Mode: 'vip',
        Ports: [
          { TargetPort: 80, PublishedPort: 8080 },
          { TargetPort: 81, Protocol: 'udp' },
        ],
      },
      ports: [
        { protocol: 'tcp', targetPort: 80, publishedPort: 8080, publishMode: 'ingress' },
        { protocol: 'udp', targetPort: 81, publishedPort: 30000, publishMode: 'ingress' },
      ],
      virtualIps: [
        { networkId: 'ingress', address: '10.0.0.2' },
        { networkId: 'n', address: '10.1.0.2' },
      ],
    });
    expect(service('rr').endpoint).toMatchObject({
      ports: [{ publishedPort: 9, publishMode: 'host' }],
      virtualIps: [],
    });
    expect(service('plain').endpoint).toEqual({ spec: { Mode: 'vip' }, ports: [], virtualIps: [] });
  });

  test('keep over an update what they still ask for, and give back the rest', async () => {
    const {
      do: change,
      service,
      allocator,
    } = await setUp((tx) => {
      ['ingress', 'n', 'm'].forEach((id) => tx.networks.create(networkRow(id, { Ingress: id === 'ingress' })));
      addService(tx, 'web', {
        ...on('n', 'm'),
        ...publishing({ TargetPort: 80 }, { TargetPort: 443, PublishedPort: 443 }),
      });
    });
    const before = service('web').endpoint!;
    await change((tx) =>
      respec(tx, 'web', {
        ...on('m'),
        ...publishing({ TargetPort: 80 }, { TargetPort: 53, PublishedPort: 53, Protocol: 'udp' }),
      }),
    );
    const after = service('web').endpoint!;
    expect(after.ports.map((port) => port.publishedPort)).toEqual([30000, 53]);
    expect(after.virtualIps).toEqual(before.virtualIps.filter((vip) => vip.networkId !== 'n'));
    expect(allocator.books.contents()).toMatchObject({ ports: ['tcp/30000=web', 'udp/53=web'] });
    await change((tx) => respec(tx, 'web', { EndpointSpec: { Mode: 'dnsrr' } }));
    expect(service('web').endpoint).toMatchObject({ ports: [], virtualIps: [] });
  });

  test('a port is never given twice: the second waits in words, its tasks too, and goes on when it is free', async () => {
    const {
      do: change,
      service,
      task,
    } = await setUp((tx) => {
      tx.networks.create(networkRow('ingress', { Ingress: true }));
      addService(tx, 'one', publishing({ TargetPort: 80, PublishedPort: 80 }));
      const two = addService(tx, 'two', publishing({ TargetPort: 80, PublishedPort: 80 }));
      tx.tasks.create(taskRow('t', two));
    });
    const words = "port '80' is already in use by service 'one' (one)";
    expect([service('two').endpoint, service('two').endpointError]).toEqual([undefined, words]);
    expect(task('t').status).toMatchObject({ state: TaskState.NEW, error: words });
    await change((tx) => tx.services.remove('one'));
    expect(service('two').endpointError).toBeUndefined();
    expect(service('two').endpoint?.ports[0]?.publishedPort).toBe(80);
    expect(task('t').status).toEqual({
      timestamp: expect.any(String),
      state: TaskState.PENDING,
      message: 'pending task scheduling',
    });
  });

  test('a published port waits for the ingress network', async () => {
    const { do: change, service } = await setUp((tx) => void addService(tx, 'web', publishing({ TargetPort: 80 })));
    expect(service('web').endpointError).toBe('a port is published on every node, but there is no ingress network');
    await change((tx) => tx.networks.create(networkRow('ingress', { Ingress: true })));
    expect(service('web').endpoint?.virtualIps).toHaveLength(1);
  });
});

describe('tasks', () => {
  test('get an address in each network with their aliases, and one in ingress for a published port', async () => {
    const { task } = await setUp((tx) => {
      ['ingress', 'n'].forEach((id) => tx.networks.create(networkRow(id, { Ingress: id === 'ingress' })));
      const web = addService(tx, 'web', {
        TaskTemplate: { Networks: [{ Target: 'n', Aliases: ['www'] }] },
        ...publishing({ TargetPort: 80 }),
      });
      tx.tasks.create(taskRow('t', web));
      tx.tasks.create(taskRow('unwanted', web, { desiredState: TaskState.REMOVE }));
    });
    expect(task('t')).toMatchObject({ status: { state: TaskState.PENDING, message: 'pending task scheduling' } });
    expect(task('t').networks.map(({ networkId, aliases }) => [networkId, aliases])).toEqual([
      ['n', ['www']],
      ['ingress', []],
    ]);
    expect(task('unwanted').status.state).toBe(TaskState.NEW);
  });

  test('a full network says so; the next goes on when an address is free', async () => {
    const {
      do: change,
      task,
      allocator,
    } = await setUp((tx) => {
      tx.networks.create(networkRow('n', { IPAM: ipam('10.0.1.0/29') }));
      const web = addService(tx, 'web', on('n'));
      for (let i = 0; i < 6; i++) tx.tasks.create(taskRow(`t${i}`, web));
    });
    const states = () => Array.from({ length: 6 }, (_, i) => task(`t${i}`).status.state);
    expect(states().filter((state) => state === TaskState.PENDING)).toHaveLength(4);
    const words = 'network n is full: all 5 addresses of 10.0.1.0/29 are in use';
    expect([task('t4').status.error, task('t5').status.error]).toEqual([words, words]);
    await change((tx) => advance(tx, 't0', TaskState.FAILED));
    expect(task('t4').status).toMatchObject({ state: TaskState.PENDING });
    expect(task('t4').status.error).toBeUndefined();
    expect(task('t5').status.error).toBe(words);
    await change((tx) => ['t0', 't5'].forEach((id) => tx.tasks.remove(id)));
    expect(allocator.waiting).toBe(0);
  });

  test('address by address: one that lacks something else as well lets the next one go', async () => {
    const { do: change, task } = await setUp((tx) => {
      tx.networks.create(networkRow('n', { IPAM: ipam('10.0.1.0/29') }));
      tx.networks.create(networkRow('m', { IPAM: ipam('10.0.2.0/29') }));
      const fillN = addService(tx, 'a', on('n'));
      const fillM = addService(tx, 'b', { ...on('m'), EndpointSpec: { Mode: 'dnsrr' } });
      const both = addService(tx, 'c', { ...on('n', 'm'), EndpointSpec: { Mode: 'dnsrr' } });
      for (let i = 0; i < 4; i++) tx.tasks.create(taskRow(`n${i}`, fillN));
      for (let i = 0; i < 5; i++) tx.tasks.create(taskRow(`m${i}`, fillM));
      tx.tasks.create(taskRow('both', both));
      tx.tasks.create(taskRow('next', fillN));
    });
    expect([task('both').status.state, task('next').status.state]).toEqual([TaskState.NEW, TaskState.NEW]);
    await change((tx) => tx.tasks.remove('n0'));
    expect(task('both').status.error).toContain('network m is full');
    expect(task('next').status.state).toBe(TaskState.PENDING);
  });
});

describe('gateways', () => {
  test('follow the tasks; every node has one in ingress', async () => {
    const {
      do: change,
      node,
      task,
    } = await setUp((tx) => {
      ['a', 'b'].forEach((id) => tx.nodes.create(nodeRow(id)));
      ['ingress', 'n'].forEach((id) => tx.networks.create(networkRow(id, { Ingress: id === 'ingress' })));
      const web = addService(tx, 'web', on('n'));
      ['t0', 't1'].forEach((id) => tx.tasks.create(taskRow(id, web)));
    });
    expect([node('a'), node('b')].map((row) => Object.keys(row.gateways))).toEqual([['ingress'], ['ingress']]);
    await change((tx) => ['t0', 't1'].forEach((id) => advance(tx, id, TaskState.ASSIGNED, { nodeId: 'a' })));
    const gateway = node('a').gateways['n'];
    expect(gateway).toMatch(/^10\.1\.0\./);
    expect([task('t0').networks[0]!.address, task('t1').networks[0]!.address]).not.toContain(gateway);
    await change((tx) => advance(tx, 't0', TaskState.SHUTDOWN));
    expect(node('a').gateways['n']).toBe(gateway);
    await change((tx) => tx.tasks.remove('t1'));
    expect(Object.keys(node('a').gateways)).toEqual(['ingress']);
    await change((tx) => tx.networks.remove('ingress'));
    expect([node('a').gateways, node('b').gateways]).toEqual([{}, {}]);
  });

  test('tasks leave room for them, so that a small network cannot lock itself', async () => {
    const {
      do: change,
      task,
      node,
      store,
    } = await setUp((tx) => {
      ['a', 'b', 'c'].forEach((id) => tx.nodes.create(nodeRow(id)));
      tx.networks.create(networkRow('n', { IPAM: ipam('10.0.1.0/29') }));
      const web = addService(tx, 'web', on('n'));
      for (let i = 0; i < 4; i++) tx.tasks.create(taskRow(`t${i}`, web));
    });
    // 5 addresses, one of them the VIP: two tasks, and a gateway for each.
    const pending = () =>
      store.view((view) =>
        [...view.tasks.all()].filter((row) => row.status.state === TaskState.PENDING).map((row) => row.id),
      );
    expect(pending()).toEqual(['t0', 't1']);
    expect(task('t2').status.error).toBe(
      'network n is full: all 5 addresses of 10.0.1.0/29 are in use or kept for the gateways of nodes',
    );
    await change((tx) => ['t0', 't1'].forEach((id) => advance(tx, id, TaskState.ASSIGNED, { nodeId: 'a' })));
    expect(Object.keys(node('a').gateways)).toEqual(['n']);
    // Both on one node: what was kept for the second gateway goes to nobody, for the next node would have none.
    expect(pending()).toEqual([]);
    await change((tx) => ['b', 'c'].forEach((id) => tx.nodes.remove(id)));
    expect(pending()).toEqual(['t2']);
  });

  test('a node that gets none says so on its tasks, and gets one when there is one', async () => {
    const {
      do: change,
      task,
      node,
    } = await setUp((tx) => {
      tx.nodes.create(nodeRow('a'));
      tx.networks.create(networkRow('n', { IPAM: ipam('10.0.1.0/29') }));
      const web = addService(tx, 'web', on('n'));
      for (let i = 0; i < 3; i++) tx.tasks.create(taskRow(`t${i}`, web));
    });
    await change((tx) => {
      tx.nodes.create(nodeRow('b'));
      tx.nodes.create(nodeRow('c'));
      ['a', 'b', 'c'].forEach((id, i) => advance(tx, `t${i}`, TaskState.ASSIGNED, { nodeId: id }));
    });
    const lacking = ['a', 'b', 'c'].filter((id) => node(id).gateways['n'] === undefined);
    expect(lacking).toHaveLength(2);
    const waiting = ['t0', 't1', 't2'].map(task).filter((row) => row.status.error !== undefined);
    expect(waiting.map((row) => row.nodeId)).toEqual(lacking);
    expect(waiting[0]!.status.error).toContain("are in use, and the task's node has none there yet");
    await change((tx) => tx.services.remove('web'));
    await change((tx) => advance(tx, waiting[1]!.id, TaskState.FAILED));
    expect(node(lacking[0]!).gateways['n']).toBeDefined();
    expect(task(waiting[0]!.id).status.error).toBeUndefined();
  });
});

test('a journal that fails for a while leaks nothing', async () => {
  const {
    do: change,
    clock,
    task,
    journal,
    store,
    allocator,
  } = await setUp((tx) => {
    tx.networks.create(networkRow('n'));
    addService(tx, 'web', on('n'));
  });
  const commit = journal.commit.bind(journal);
  await store.update((tx) => tx.tasks.create(taskRow('t', tx.services.get('web')!)));
  journal.commit = () => Promise.reject(Object.assign(new Error('disk full'), { name: 'JournalUnavailable' }));
  await change(() => {});
  expect(task('t').networks).toEqual([]);
  expect(allocator.books.contents()).toEqual(rebuilt(store));
  journal.commit = commit;
  await clock.advance(20_000);
  expect(task('t').networks).toHaveLength(1);
});

function rebuilt(store: Store): object {
  const books = new Books();
  store.view((view) => books.rebuild(view));
  return books.contents();
}

describe('property', () => {
  const pick = fc.nat(99);
  const networks = ['n0', 'n1', 'n2', 'host'];
  const spec = fc.record({
    on: fc.subarray(networks),
    port: fc.constantFrom(undefined, 0, 80, 30000),
    dnsrr: fc.boolean(),
  });
  const step = fc.oneof(
    { weight: 2, arbitrary: fc.record({ do: fc.constant('service' as const), spec }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('update' as const), pick, spec }) },
    {
      weight: 4,
      arbitrary: fc.record({ do: fc.constant('scale' as const), pick, count: fc.integer({ min: 1, max: 5 }) }),
    },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('assign' as const), pick, node: fc.nat(2) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('end' as const), pick }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('unwant' as const), pick }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('forget' as const), pick }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('removeService' as const), pick }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('node' as const), node: fc.nat(2) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('removeNode' as const), node: fc.nat(2) }) },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant('attach' as const),
        node: fc.nat(2),
        network: fc.constantFrom('n0', 'n1', 'n2'),
        wanted: fc.option(fc.nat(20)),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('detach' as const), pick }) },
  );
  type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

  function toSpec({ on: targets, port, dnsrr }: { on: string[]; port?: number; dnsrr: boolean }): Partial<ServiceSpec> {
    if (port === undefined) return { ...on(...targets), EndpointSpec: { Mode: dnsrr ? 'dnsrr' : 'vip' } };
    return { ...on(...targets), ...publishing({ TargetPort: 80, PublishedPort: port }) };
  }

  let next = 0;
  function apply(tx: Transaction, s: Step): void {
    const at = <T>(rows: T[], index: number): T | undefined => rows[index % Math.max(1, rows.length)];
    const tasks = [...tx.tasks.all()];
    const service = 'pick' in s ? at([...tx.services.all()], s.pick) : undefined;
    const task = 'pick' in s ? at(tasks, s.pick) : undefined;
    if (s.do === 'service') addService(tx, `s${next++}`, toSpec(s.spec));
    else if (s.do === 'node' && tx.nodes.get(`h${s.node}`) === undefined) tx.nodes.create(nodeRow(`h${s.node}`));
    else if (s.do === 'removeNode' && tx.nodes.get(`h${s.node}`) !== undefined) {
      tx.nodes.remove(`h${s.node}`);
      for (const lost of tx.tasks.by('node', `h${s.node}`))
        if (!isTerminal(lost.status.state)) advance(tx, lost.id, TaskState.ORPHANED);
      for (const lost of tx.attachments.by('node', `h${s.node}`)) tx.attachments.remove(lost.id);
    } else if (s.do === 'attach' && tx.nodes.get(`h${s.node}`) !== undefined) {
      const subnet = tx.networks.get(s.network)!.allocation!.subnet;
      const wantedAddress = s.wanted === null ? {} : { wantedAddress: subnet.replace(/\d+\/\d+$/, String(s.wanted)) };
      tx.attachments.create(attachmentRow(`c${next++}`, s.network, `h${s.node}`, wantedAddress));
    } else if (s.do === 'detach') {
      const gone = at([...tx.attachments.all()], s.pick);
      if (gone !== undefined) tx.attachments.remove(gone.id);
    } else if (service !== undefined && s.do === 'update') respec(tx, service.id, toSpec(s.spec));
    else if (service !== undefined && s.do === 'removeService') tx.services.remove(service.id);
    else if (service !== undefined && s.do === 'scale')
      for (let i = 0; i < s.count; i++) tx.tasks.create(taskRow(`t${next++}`, service));
    else if (task === undefined) return;
    else if (s.do === 'forget' && (isTerminal(task.status.state) || task.status.state < TaskState.ASSIGNED))
      tx.tasks.remove(task.id);
    else if (s.do === 'end' && task.status.state >= TaskState.ASSIGNED && !isTerminal(task.status.state))
      advance(tx, task.id, TaskState.FAILED);
    else if (s.do === 'unwant') tx.tasks.update({ ...task, desiredState: TaskState.REMOVE });
    else if (s.do === 'assign' && task.status.state === TaskState.PENDING && tx.nodes.get(`h${s.node}`) !== undefined) {
      advance(tx, task.id, TaskState.ASSIGNED, { nodeId: `h${s.node}` });
    }
  }

  function expectSound(view: View): void {
    const given: string[] = [];
    const ports: string[] = [];
    for (const node of view.nodes.all())
      for (const [id, address] of Object.entries(node.gateways)) given.push(`${id}/${address}`);
    for (const service of view.services.all()) {
      for (const vip of service.endpoint?.virtualIps ?? []) given.push(`${vip.networkId}/${vip.address}`);
      for (const port of service.endpoint?.ports ?? []) ports.push(`${port.protocol}/${port.publishedPort}`);
      expect(service.endpoint === undefined && service.endpointError === undefined).toBe(false);
    }
    for (const task of view.tasks.all()) {
      if (isTerminal(task.status.state)) continue;
      for (const { networkId, address } of task.networks) given.push(`${networkId}/${address}`);
      const waits =
        task.status.state === TaskState.NEW &&
        task.desiredState === TaskState.RUNNING &&
        view.services.get(task.serviceId);
      if (waits) expect(task.status.error).toBeTruthy();
      const node: Node | undefined = view.nodes.get(task.nodeId);
      if (node !== undefined && task.status.error === undefined)
        expect(Object.keys(node.gateways)).toEqual(expect.arrayContaining(task.networks.map((n) => n.networkId)));
    }
    for (const { networkId, nodeId, address, error, wantedAddress } of view.attachments.all()) {
      expect([address, error].filter((each) => each !== undefined)).toHaveLength(1);
      if (address === undefined) continue;
      given.push(`${networkId}/${address}`);
      expect(view.nodes.get(nodeId)?.gateways[networkId]).toBeDefined();
      if (wantedAddress !== undefined) expect(address).toBe(wantedAddress);
    }
    expect(new Set(given).size).toBe(given.length);
    expect(new Set(ports).size).toBe(ports.length);
  }

  /** A new allocator begins with the nodes that a look at each would change. */
  function expectAmiss(view: View): void {
    const books = new Books();
    const changed = [...view.nodes.all()].filter((node) => {
      books.rebuild(view);
      const users = { tasks: view.tasks.by('node', node.id), attachments: view.attachments.by('node', node.id) };
      const { gateways, missing } = decideGateways(node, users, view, books);
      return missing.length > 0 || !sameGateways(node.gateways, gateways);
    });
    expect([...nodesAmiss(view, books.ingress)]).toEqual(changed.map(({ id }) => id));
  }

  test('nothing is given twice, the books equal the store, all that waits says why, and at the end all is free', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const { store, run, allocator } = await setUp((tx) => {
          tx.networks.create(networkRow('ingress', { Ingress: true, IPAM: ipam('10.9.0.0/28') }));
          tx.networks.create(networkRow('n0', { IPAM: ipam('10.0.0.0/29') }));
          tx.networks.create(networkRow('n1', { IPAM: ipam('10.0.1.0/28') }));
          tx.networks.create(networkRow('n2'));
        });
        const start = allocator.books.contents();
        for (const [at, s] of steps.entries()) {
          await store.update((tx) => apply(tx, s));
          store.view(expectAmiss);
          if (at % 3 === 0) continue;
          await run();
          expect(allocator.books.contents()).toEqual(rebuilt(store));
          store.view(expectSound);
        }
        await store.update((tx) => {
          const ids = (rows: Iterable<{ id: string }>) => Array.from(rows, ({ id }) => id);
          ids(tx.tasks.all()).forEach((id) => tx.tasks.remove(id));
          ids(tx.services.all()).forEach((id) => tx.services.remove(id));
          ids(tx.attachments.all()).forEach((id) => tx.attachments.remove(id));
          ids(tx.nodes.all()).forEach((id) => tx.nodes.remove(id));
        });
        await run();
        expect(allocator.books.contents()).toEqual(start);
        expect(allocator.waiting).toBe(0);
      }),
      { numRuns: 150 },
    );
  });
});
