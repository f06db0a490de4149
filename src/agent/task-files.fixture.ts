/** For tests: files that are kept nowhere but in memory, and what was asked of them. */
import type { FileMount } from '../engine/engine.ts';
import type { PayloadFileContent } from '../engine/payload-files.ts';
import type { TaskFiles } from './task-files.ts';

export class RecordingFiles implements TaskFiles {
  /** By task: its files as text, each under its path in the container. */
  readonly there = new Map<string, Record<string, string>>();

  async put(taskId: string, files: readonly PayloadFileContent[]): Promise<FileMount[]> {
    this.there.set(taskId, Object.fromEntries(files.map(({ target, content }) => [target, content.toString()])));
    return files.map(({ target }, at) => ({ source: `/tasks/${taskId}/${at}`, target }));
  }

  async release(taskId: string): Promise<void> {
    this.there.delete(taskId);
  }

  async keepOnly(taskIds: ReadonlySet<string>): Promise<void> {
    for (const taskId of this.there.keys()) if (!taskIds.has(taskId)) this.there.delete(taskId);
  }
}
