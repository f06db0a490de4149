/** Single containers in overlays, the agent's part: its requests to the manager of its session (attach.ts answers them). */
import {
  MAX_ATTACHMENTS,
  parseAttachAnswer,
  type AttachAnswer,
  type AttachRequest,
  type ReleaseRequest,
  type SeenRequest,
} from './attach.ts';
import { PATHS } from './messages.ts';

/** Sends a plain request; rejects with RequestError or SessionLost. */
export type Ask = (path: string, body: object) => Promise<unknown>;

export interface AttachClient {
  attach: (request: AttachRequest) => Promise<AttachAnswer>;
  seen: (containers: SeenRequest['containers']) => Promise<void>;
  release: (ids: ReleaseRequest['ids']) => Promise<void>;
}

export function attachClient(ask: Ask): AttachClient {
  return {
    attach: async (request) => parseAttachAnswer(await ask(PATHS.attach, request)),
    async seen(containers) {
      await ask(PATHS.attachmentsSeen, { containers });
    },
    async release(ids) {
      for (let at = 0; at < ids.length; at += MAX_ATTACHMENTS)
        await ask(PATHS.attachmentsRelease, { ids: ids.slice(at, at + MAX_ATTACHMENTS) });
    },
  };
}
