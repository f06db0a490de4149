/** Begins a life of a member, to be killed in the middle of it: argv is the settings, JSON, and `bootstrap` or `force`. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MemberSettings } from './arguments.ts';
import { Host } from './hosts.fixture.ts';

const settings = JSON.parse(process.argv[2]!) as MemberSettings;
const read = (name: string) => readFileSync(join(settings.dataDir, 'certificates', name), 'utf8');
const [certificate, key, rootCertificate] = [read('swarm-node.crt'), read('swarm-node.key'), read('swarm-root-ca.crt')];
const member = new Host(settings, { certificate, key, rootCertificate }).member();
process.stdout.write('begun\n');
if (process.argv[3] === 'bootstrap') await member.bootstrap();
else await member.forceNewCluster();
await member.detach();
process.stdout.write('done\n');
process.exit(0);
