/** What a log lacks, in lines that every client prints. Pure. */
import { ChannelRefused } from '../../dispatch/streams-channel.ts';
import { taskName, type Node, type Task } from '../../model/objects.ts';

/** A task whose log cannot be had, or not all of it. */
export interface Missing {
  task: Task;
  reason: string;
}

/** How many tasks are named; a node that is away may have run hundreds. */
const NAMED = 8;
const ID_CHARS = 12;

/** Why a task's log could not be read, given its node's row. */
export function reasonOf(error: Error, node: Node | undefined): string {
  if (error instanceof ChannelRefused) return error.message;
  if (node === undefined) return 'the node was removed';
  return node.status.state === 'down' ? 'the node is down' : error.message;
}

/** One line for each node and reason, with the first of its tasks. */
export function missingLines(
  missing: readonly Missing[],
  hostname: (nodeId: string) => string,
): { task: Task; text: string }[] {
  const groups = Map.groupBy(missing, ({ task, reason }) => `${task.nodeId} ${reason}`);
  return [...groups.values()].map((group) => {
    const { task, reason } = group[0]!;
    return { task, text: `log incomplete: ${namesOf(group)} on node ${hostname(task.nodeId)}: ${reason}` };
  });
}

function namesOf(group: readonly Missing[]): string {
  const names = group.slice(0, NAMED).map(({ task }) => taskName({ ...task, id: task.id.slice(0, ID_CHARS) }));
  const more = group.length - names.length;
  return names.join(', ') + (more === 0 ? '' : ` and ${more} more`);
}
