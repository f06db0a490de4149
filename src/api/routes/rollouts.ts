/** `/drover/services/{id}/promote|abort|confirm`: the words that an update may wait for, and the one that takes it back. */
import type { FastifyInstance } from 'fastify';
import { timestamp } from '../../model/clock.ts';
import type { Service } from '../../model/objects.ts';
import type { Transaction } from '../../store/store.ts';
import type { ApiContext } from '../context.ts';
import { badRequest } from '../errors.ts';
import { resolveService } from '../references.ts';
import { goBack } from '../service-writes.ts';
import { recordWrite, writerOf } from '../stacks/history.ts';

/** Carries out the word. @throws ApiError 400 if the service does not wait for it */
type Word = (tx: Transaction, service: Service, at: string) => void;

const WORDS: Record<string, Word> = {
  promote(tx, service) {
    if (!waitsFor(service, 'promote'))
      throw badRequest(`${named(service)} has no canaries to promote: ${state(service)}`);
    tx.services.update({ ...service, promoted: service.specVersion });
  },
  confirm(tx, service) {
    if (!waitsFor(service, 'confirm'))
      throw badRequest(`${named(service)} has no update to confirm: ${state(service)}`);
    tx.services.update({ ...service, confirmed: service.specVersion });
  },
  abort(tx, service, at) {
    if (!['updating', 'paused'].includes(service.updateStatus?.state ?? ''))
      throw badRequest(`${named(service)} has no update to abort: ${state(service)}`);
    goBack(tx, service, at, 'update aborted');
  },
};

export function rolloutRoutes(app: FastifyInstance, api: ApiContext): void {
  for (const [word, carryOut] of Object.entries(WORDS)) {
    app.post<{ Params: { id: string } }>(`/drover/services/:id/${word}`, async (request) => {
      const environment = api.environment(request);
      const at = timestamp(api.deps.clock.now());
      await api.store().update((tx) => {
        const before = resolveService(tx, environment, request.params.id);
        carryOut(tx, before, at);
        const after = tx.services.get(before.id);
        if (after?.spec !== before.spec) recordWrite(tx, before, after, writerOf(request.headers, at));
      });
      return {};
    });
  }
}

/** A word is for the version that waits for it, not for one declared since. */
function waitsFor({ rollout, meta, updateStatus }: Service, word: 'promote' | 'confirm'): boolean {
  return updateStatus?.state === 'updating' && rollout?.waitsFor === word && rollout.version === meta.version;
}

function named({ spec }: Service): string {
  return `service ${spec.Name}`;
}

/** What the service is doing instead, in words. */
function state({ updateStatus }: Service): string {
  if (updateStatus === undefined) return 'it is not being updated';
  return `its state is ${updateStatus.state.replace('_', ' ')} (${updateStatus.message})`;
}
