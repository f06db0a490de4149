/** What a manager says that follows and does not show yet what it answered: never that it is lost. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { apiManagers, config, type ApiManager, type ApiManagers } from './managers.fixture.ts';

const until = <T>(fn: () => T) => vi.waitFor(fn, { timeout: 20_000, interval: 5 });

let all: ApiManagers;
let leader: ApiManager;
let follower: ApiManager;

beforeEach(async () => {
  all = await apiManagers(2);
  [leader, follower] = all.apis as [ApiManager, ApiManager];
});
afterEach(() => all.close());

describe('a manager behind the leader', () => {
  test('holds the answer until its own state shows it', async () => {
    all.hold();
    let answered = false;
    const made = follower.call('POST', '/configs/create', config('late')).then((answer) => {
      answered = true;
      return answer;
    });
    await until(() => expect(leader.member.store.view((view) => view.configs.size)).toBe(1));
    expect(await follower.configNames()).toEqual([]);
    expect(answered).toBe(false);
    all.release();
    expect(await made).toMatchObject({ status: 201 });
    expect(await follower.configNames()).toEqual(['late']);
  });

  test('does not hold it for ever, and says so then', async () => {
    all.hold();
    const made = follower.call('POST', '/configs/create', config('late'));
    await until(() => expect(leader.member.store.view((view) => view.configs.size)).toBe(1));
    await vi.waitFor(async () => {
      await follower.clock.advance(5_000);
      const { status, headers } = await Promise.race([made, Promise.reject(new Error('not yet'))]);
      expect({ status, warning: headers.warning }).toMatchObject({
        status: 201,
        warning: expect.stringContaining('behind'),
      });
    });
    // Who was told that it is made finds it: the leader is asked as long as the state here does not show it.
    expect(follower.member.store.view((view) => view.configs.size)).toBe(0);
    expect(await follower.configNames()).toEqual(['late']);
    expect(await follower.call('GET', '/configs/late')).toMatchObject({ status: 200 });
    all.release();
    await until(() => expect(follower.member.store.view((view) => view.configs.size)).toBe(1));
    leader.believes = { leading: false };
    expect(await follower.configNames()).toEqual(['late']);
  });

  test('shows what it knows when nobody leads, and does not call lost what it has acknowledged', async () => {
    all.hold();
    const made = follower.call('POST', '/configs/create', config('late'));
    await until(() => expect(leader.member.store.view((view) => view.configs.size)).toBe(1));
    expect(await all.overTime(made)).toMatchObject({ status: 201 });
    follower.believes = { leading: false };
    const { status, headers, json } = await follower.call('GET', '/configs');
    expect({ status, json, warning: headers.warning }).toMatchObject({
      status: 200,
      json: [],
      warning: expect.stringContaining('does not have a leader'),
    });
    // But not that there is nothing of that name.
    expect(await follower.call('GET', '/configs/late')).toMatchObject({
      status: 503,
      json: { message: expect.stringMatching(/^config late: is not known here, but this manager is behind/) },
    });
    all.release();
    await until(() => expect(follower.member.store.view((view) => view.configs.size)).toBe(1));
    expect(await follower.call('GET', '/configs/late')).toMatchObject({ status: 200 });
    expect(await follower.call('GET', '/configs/never')).toMatchObject({ status: 404 });
  });
});
