/** `/tasks`: listing with all of Docker's filters, and inspecting. Tasks are made and changed by the cluster alone. */
import type { FastifyInstance } from 'fastify';
import { isTaskDirty } from '../../model/dirty.ts';
import { serviceSpecId, taskName, type ContainerAttachment, type Task } from '../../model/objects.ts';
import { parseTaskState } from '../../model/states.ts';
import type { View } from '../../store/store.ts';
import type { ApiContext } from '../context.ts';
import { attachmentJson } from '../convert/attachment.ts';
import { taskJson } from '../convert/task.ts';
import { badRequest } from '../errors.ts';
import { booleanFilter, hasLabels, parseFilters, some, startsWith, type Filters } from '../filters.ts';
import { resolveNode, resolveService, resolveTask } from '../references.ts';

const FILTERS = ['name', 'id', 'label', 'service', 'node', 'desired-state', '_up-to-date', 'runtime'];

export function taskRoutes(app: FastifyInstance, api: ApiContext): void {
  app.get<{ Querystring: { filters?: string } }>('/tasks', async (request) => {
    const store = api.store();
    const filters = parseFilters(request.query.filters, FILTERS);
    const environment = api.environment(request);
    return store.view((view) => [
      ...listTasks(view, environment, filters).map((task) => shown(view, task)),
      ...listAttachments(view, environment, filters).map((row) => shownAttachment(view, row)),
    ]);
  });
  app.get<{ Params: { id: string } }>('/tasks/:id', async (request) =>
    api.store().view((view) => {
      const attached = view.attachments.get(request.params.id);
      if (attached?.environment === api.environment(request)) return shownAttachment(view, attached);
      return shown(view, resolveTask(view, api.environment(request), request.params.id));
    }),
  );
}

/** Single containers in overlays that pass `filters`: to Docker tasks of the runtime `attachment`, shown if asked for. */
function listAttachments(view: View, environment: string, filters: Filters): ContainerAttachment[] {
  if (!filters.has('runtime') || !some(filters, 'runtime', (runtime) => runtime === 'attachment')) return [];
  if (['name', 'label', 'service', '_up-to-date'].some((key) => filters.has(key))) return [];
  const nodes = filters.get('node')?.map((reference) => resolveNode(view, reference).id);
  return [...view.attachments.all()].filter(
    (row) =>
      row.environment === environment &&
      (nodes === undefined || nodes.includes(row.nodeId)) &&
      some(filters, 'desired-state', (state) => state.toLowerCase() === 'running') &&
      startsWith(filters, 'id', row.id),
  );
}

function shownAttachment(view: View, row: ContainerAttachment): object {
  return attachmentJson(row, view.networks.get(row.networkId));
}

/** The tasks that pass `filters`. @throws ApiError 404 if a filter names a service or node that is not there, 400 */
export function listTasks(view: View, environment: string, filters: Filters): Task[] {
  const services = filters.get('service')?.map((reference) => resolveService(view, environment, reference).id);
  const nodes = filters.get('node')?.map((reference) => resolveNode(view, reference).id);
  const upToDate = booleanFilter(filters, '_up-to-date');
  const states = filters.get('desired-state')?.map((name) => {
    const state = parseTaskState(name);
    if (state === undefined) throw badRequest(`Invalid desired-state filter: '${name}'`);
    return state;
  });
  if (!some(filters, 'runtime', (runtime) => runtime === 'container')) return [];
  return candidates(view, services, nodes).filter(
    (task) =>
      task.environment === environment &&
      (services === undefined || services.includes(task.serviceId)) &&
      (nodes === undefined || nodes.includes(task.nodeId)) &&
      (states === undefined || states.includes(task.desiredState)) &&
      startsWith(filters, 'id', task.id) &&
      startsWith(filters, 'name', taskName(task)) &&
      (!filters.has('label') || hasLabels(filters, 'label', specOf(view, task)?.spec.Labels ?? {})) &&
      (upToDate === undefined || isUpToDate(view, task) === upToDate),
  );
}

/** As few tasks as an index can tell, each once. */
function candidates(view: View, services: string[] | undefined, nodes: string[] | undefined): Task[] {
  if (services !== undefined) return [...new Set(services)].flatMap((id) => view.tasks.by('service', id));
  if (nodes !== undefined) return [...new Set(nodes)].flatMap((id) => view.tasks.by('node', id));
  return [...view.tasks.all()];
}

/** True if nothing in the service's spec of now asks for another task. Placement is left to the orchestrators. */
function isUpToDate(view: View, task: Task): boolean {
  const service = view.services.get(task.serviceId);
  const made = specOf(view, task);
  if (service === undefined || made === undefined) return false;
  return !isTaskDirty(task, made.spec, service, () => true);
}

function specOf(view: View, task: Task) {
  return view.serviceSpecs.get(serviceSpecId(task.serviceId, task.specVersion));
}

function shown(view: View, task: Task): object {
  return taskJson(task, specOf(view, task), (id) => view.networks.get(id), view.services.get(task.serviceId));
}
