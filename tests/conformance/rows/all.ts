/** All rows, in the order they run. */
import type { Row } from '../row.ts';
import { attachments } from './attachments.ts';
import { cluster } from './cluster.ts';
import { jobs } from './jobs.ts';
import { later } from './later.ts';
import { leaving } from './leaving.ts';
import { networks } from './networks.ts';
import { nodes } from './nodes.ts';
import { outside } from './outside.ts';
import { payloads } from './payloads.ts';
import { serviceSpecs } from './service-specs.ts';
import { serviceUpdates } from './service-updates.ts';
import { services } from './services.ts';
import { system } from './system.ts';
import { tasks } from './tasks.ts';

export const ROWS: readonly Row[] = [
  ...outside,
  ...cluster,
  ...nodes,
  ...serviceSpecs,
  ...services,
  ...serviceUpdates,
  ...tasks,
  ...jobs,
  ...networks,
  ...attachments,
  ...payloads,
  ...later,
  ...system,
  ...leaving,
];
