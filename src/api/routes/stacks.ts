/**
 * `/drover/stacks`: what Docker's API has no word for. A stack is the services with its label; its history is what its
 * deploys made of them.
 */
import type { FastifyInstance } from 'fastify';
import { timestamp } from '../../model/clock.ts';
import { newId } from '../../model/ids.ts';
import type { StackRevision } from '../../model/objects.ts';
import { specChanges } from '../../model/spec-diff.ts';
import type { View } from '../../store/store.ts';
import type { ApiContext } from '../context.ts';
import { hiddenAuth } from '../convert/service.ts';
import { badRequest, notFound } from '../errors.ts';
import { revisionsOf, writerOf } from '../stacks/history.ts';
import { rollBackStack, specsOf } from '../stacks/rollback.ts';

export function stackRoutes(app: FastifyInstance, api: ApiContext): void {
  app.get('/drover/stacks', async (request) => {
    const environment = api.environment(request);
    return api.store().view((view) => {
      const deploys = [...view.stackDeploys.all()].filter((deploy) => deploy.environment === environment);
      return deploys
        .sort((a, b) => (a.stack < b.stack ? -1 : 1))
        .map(({ id, stack, lastRevision, lastWriteAt }) => ({
          Name: stack,
          Services: view.services.countBy('stack', id),
          Revision: lastRevision,
          LastDeployAt: lastWriteAt,
        }));
    });
  });
  app.get<{ Params: { name: string } }>('/drover/stacks/:name/history', async (request) =>
    api.store().view((view) => {
      const revisions = known(view, api.environment(request), request.params.name);
      return revisions.map((revision, at) => ({
        ...revisionJson(revision),
        Changes: changesJson(view, revisions[at - 1], revision),
      }));
    }),
  );
  app.get<{ Params: { name: string; revision: string } }>('/drover/stacks/:name/history/:revision', async (request) =>
    api.store().view((view) => {
      const { name } = request.params;
      const number = numberOf(request.params.revision);
      const revision = known(view, api.environment(request), name).find((one) => one.number === number);
      if (revision === undefined) throw notFound(`revision of stack ${name}`, String(number));
      const specs = [...specsOf(view, revision)].map(([service, spec]) => [service, hiddenAuth(spec)]);
      return { ...revisionJson(revision), Specs: Object.fromEntries(specs) };
    }),
  );
  app.post<{ Params: { name: string }; Querystring: { revision?: string } }>(
    '/drover/stacks/:name/rollback',
    async (request) => {
      const environment = api.environment(request);
      const { name: stack } = request.params;
      const revision = request.query.revision === undefined ? undefined : numberOf(request.query.revision);
      const { client, at } = writerOf(request.headers, timestamp(api.deps.clock.now()));
      const done = await api.store().update((tx) =>
        rollBackStack(tx, {
          environment,
          stack,
          revision,
          writer: { client, at },
          newId: () => newId(api.deps.random),
        }),
      );
      return {
        ...(done.number === undefined ? {} : { Number: done.number }),
        RollbackTo: done.to,
        Changes: done.changes.map(({ service, kind }) => ({ Service: service, Kind: kind })),
      };
    },
  );
}

function known(view: View, environment: string, stack: string): StackRevision[] {
  const revisions = revisionsOf(view, environment, stack);
  if (revisions.length === 0) throw notFound('stack', stack);
  return revisions;
}

function numberOf(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw badRequest(`invalid revision '${text}': a number from 1 up is needed`);
  return Number(text);
}

function revisionJson({ number, createdAt, updatedAt, client, rollbackTo, services }: StackRevision): object {
  return {
    Number: number,
    CreatedAt: createdAt,
    UpdatedAt: updatedAt,
    Client: client,
    ...(rollbackTo === undefined ? {} : { RollbackTo: rollbackTo }),
    Services: Object.keys(services).sort(),
  };
}

/** Against the revision before; of the first that is kept, all services are new. */
function changesJson(view: View, before: StackRevision | undefined, after: StackRevision): object[] {
  const names = new Set([...Object.keys(before?.services ?? {}), ...Object.keys(after.services)]);
  const specIn = (revision: StackRevision | undefined, name: string) => {
    const spec = view.serviceSpecs.get(revision?.services[name] ?? '')?.spec;
    return spec && hiddenAuth(spec);
  };
  return [...names].sort().flatMap((name) => {
    const old = before?.services[name];
    const fresh = after.services[name];
    if (old === fresh) return [];
    if (old === undefined) return [{ Service: name, Kind: 'added' }];
    if (fresh === undefined) return [{ Service: name, Kind: 'removed' }];
    const fields = specChanges(specIn(before, name), specIn(after, name)).map(({ path }) => path);
    return [{ Service: name, Kind: 'changed', Fields: fields }];
  });
}
