import { journalContract } from './journal.contract.ts';
import { MemoryJournal } from './memory.ts';

journalContract('memory', async () => {
  const values = new Map<string, string>();
  return { open: async () => new MemoryJournal(values), dispose: async () => {} };
});
