/** The words that an update may wait for, as clients send them, and what a change in the middle of one leaves standing. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Service } from '../../model/objects.ts';
import { json, startApi, type TestApi } from '../api.fixture.ts';

let api: TestApi;
let id: string;

const SPEC = { Name: 'web', TaskTemplate: { ContainerSpec: { Image: 'busybox:1' } } };

beforeEach(async () => {
  api = await startApi((_, response) => json(response, 200, []));
  id = (await api.call('POST', '/services/create', SPEC)).json.ID;
});
afterEach(() => api.close());

const service = () => api.store.view((view) => view.services.get(id)!);
const change = (to: (service: Service) => Service) =>
  api.store.update((tx) => tx.services.update(to(tx.services.get(id)!)));
const declare = async (spec: object) => {
  const answer = await api.call('POST', `/services/web/update?version=${service().meta.version}`, spec);
  expect(answer.status).toBe(200);
};
const say = (word: string, name = 'web') => api.call('POST', `/drover/services/${name}/${word}`);

const SECOND = { ...SPEC, TaskTemplate: { ContainerSpec: { Image: 'busybox:2' } } };
const updating = async (waitsFor?: 'promote' | 'confirm') => {
  await declare(SECOND);
  await change((one) => ({
    ...one,
    updateStatus: { state: 'updating', startedAt: '2026-01-01T00:00:00Z', message: 'it waits' },
    rollout: {
      id: 1,
      version: one.meta.version,
      slots: 3,
      startedAt: '2026-01-01T00:00:00Z',
      ...(waitsFor === undefined ? {} : { waitsFor }),
    },
  }));
};

describe('words', () => {
  test('promote and confirm are for the version that waits', async () => {
    await updating('promote');
    expect((await say('confirm')).json.message).toBe(
      'service web has no update to confirm: its state is updating (it waits)',
    );
    expect((await say('promote')).status).toBe(200);
    expect(service().promoted).toBe(service().specVersion);
    await change((one) => ({ ...one, rollout: { ...one.rollout!, waitsFor: 'confirm' } }));
    expect((await say('confirm')).status).toBe(200);
    expect(service().confirmed).toBe(service().specVersion);
  });

  test('abort goes back, also from a pause', async () => {
    await updating('promote');
    await change((one) => ({ ...one, updateStatus: { ...one.updateStatus!, state: 'paused' } }));
    expect((await say('abort')).status).toBe(200);
    expect(service()).toMatchObject({
      spec: { TaskTemplate: { ContainerSpec: { Image: 'busybox:1' } } },
      updateStatus: { state: 'rollback_started', message: 'update aborted' },
    });
    expect((await say('abort')).json.message).toBe(
      'service web has no update to abort: its state is rollback started (update aborted)',
    );
  });

  test.each([
    ['promote', 'service web has no canaries to promote: it is not being updated'],
    ['confirm', 'service web has no update to confirm: it is not being updated'],
    ['abort', 'service web has no update to abort: it is not being updated'],
  ])('%s, when nothing waits for it, is refused and changes nothing', async (word, message) => {
    const before = service();
    expect(await say(word)).toMatchObject({ status: 400, json: { message } });
    expect(await say(word, 'nope')).toMatchObject({ status: 404, json: { message: 'service nope not found' } });
    expect(service()).toBe(before);
  });
});

describe('in the middle of an update', () => {
  test('the same again changes nothing', async () => {
    await updating();
    const before = service();
    await declare(SECOND);
    expect(service()).toBe(before);
  });

  test('a scaling lets it go on, with the word that was given, and what it goes back to is scaled too', async () => {
    await updating('promote');
    await say('promote');
    await declare({ ...SECOND, Mode: { Replicated: { Replicas: 7 } } });
    const { spec, specVersion, promoted, updateStatus, previousSpec } = service();
    expect([spec.Mode, promoted, updateStatus?.state]).toEqual([
      { Replicated: { Replicas: 7 } },
      specVersion,
      'updating',
    ]);
    expect(previousSpec).toMatchObject({
      Mode: { Replicated: { Replicas: 7 } },
      TaskTemplate: { ContainerSpec: { Image: 'busybox:1' } },
    });
  });

  test('another version begins anew', async () => {
    await updating('promote');
    await say('promote');
    await declare({ ...SPEC, TaskTemplate: { ContainerSpec: { Image: 'busybox:3' } } });
    const { specVersion, promoted, updateStatus, previousSpec } = service();
    expect([updateStatus, promoted === specVersion]).toEqual([undefined, false]);
    expect(previousSpec).toMatchObject({ TaskTemplate: { ContainerSpec: { Image: 'busybox:2' } } });
  });
});

test.each([
  [{ 'drover.update.canary': '0' }, 'label drover.update.canary: "0" is not understood: '],
  [{ 'drover.update.canary': '101%' }, 'label drover.update.canary: "101%" is not understood: '],
  [{ 'drover.update.confirm': 'yes' }, 'label drover.update.confirm: "yes" is not understood: true or false is needed'],
  [{ 'drover.update.progress-deadline': '0' }, 'label drover.update.progress-deadline: "0" is not understood: '],
  [{ 'drover.update.canery': '1' }, 'label drover.update.canery: there is none of that name, only drover.update.'],
])('%j is refused', async (Labels, message) => {
  const before = service();
  const created = await api.call('POST', '/services/create', { ...SPEC, Name: 'other', Labels });
  expect([created.status, created.json.message.slice(0, message.length)]).toEqual([400, message]);
  const updated = await api.call('POST', `/services/web/update?version=${before.meta.version}`, { ...SPEC, Labels });
  expect(updated.status).toBe(400);
  expect(service()).toBe(before);
});
