/** What the engine's figures of a container come to, computed and written as `docker stats` does. Pure. */

/** The part of the engine's answer that is used; cgroup version 1 and 2 differ in `memory_stats.stats`. */
export interface StatsAnswer {
  read: string;
  cpu_stats: CpuStats;
  precpu_stats: CpuStats;
  memory_stats: { usage?: number; limit?: number; stats?: Record<string, number> };
  networks?: Record<string, { rx_bytes: number; tx_bytes: number }>;
  blkio_stats: { io_service_bytes_recursive?: { op: string; value: number }[] | null };
  pids_stats: { current?: number };
}

interface CpuStats {
  cpu_usage: { total_usage: number; percpu_usage?: number[] | null };
  system_cpu_usage?: number;
  online_cpus?: number;
}

export interface Figures {
  /** 100 is one processor. */
  cpuPercent: number;
  memoryBytes: number;
  memoryLimitBytes: number;
  receivedBytes: number;
  sentBytes: number;
  readBytes: number;
  writtenBytes: number;
  pids: number;
}

export function figuresOf(stats: StatsAnswer): Figures {
  const networks = Object.values(stats.networks ?? {});
  const io = stats.blkio_stats.io_service_bytes_recursive ?? [];
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const ofOp = (wanted: string): number =>
    sum(io.filter(({ op }) => op.toLowerCase() === wanted).map(({ value }) => value));
  return {
    cpuPercent: cpuPercent(stats.cpu_stats, stats.precpu_stats),
    memoryBytes: memoryBytes(stats.memory_stats),
    memoryLimitBytes: stats.memory_stats.limit ?? 0,
    receivedBytes: sum(networks.map(({ rx_bytes }) => rx_bytes)),
    sentBytes: sum(networks.map(({ tx_bytes }) => tx_bytes)),
    readBytes: ofOp('read'),
    writtenBytes: ofOp('write'),
    pids: stats.pids_stats.current ?? 0,
  };
}

function cpuPercent(now: CpuStats, before: CpuStats): number {
  const used = now.cpu_usage.total_usage - before.cpu_usage.total_usage;
  const passed = (now.system_cpu_usage ?? 0) - (before.system_cpu_usage ?? 0);
  const processors = now.online_cpus ?? now.cpu_usage.percpu_usage?.length ?? 1;
  return used > 0 && passed > 0 ? (used / passed) * processors * 100 : 0;
}

/** Without the page cache that the kernel takes back at need. */
function memoryBytes({ usage = 0, stats = {} }: StatsAnswer['memory_stats']): number {
  const cache = stats['total_inactive_file'] ?? stats['inactive_file'] ?? 0;
  return cache < usage ? usage - cache : usage;
}

const BINARY = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
const DECIMAL = ['B', 'kB', 'MB', 'GB', 'TB'];

/** `MEM USAGE / LIMIT`, `NET I/O` and the others, in the order of the titles. */
export function cells(figures: Figures): string[] {
  const { memoryBytes: memory, memoryLimitBytes: limit } = figures;
  const percent = limit === 0 ? 0 : (memory / limit) * 100;
  return [
    `${figures.cpuPercent.toFixed(2)}%`,
    `${scaled(memory, 1024, BINARY, 4)} / ${scaled(limit, 1024, BINARY, 4)}`,
    `${percent.toFixed(2)}%`,
    `${scaled(figures.receivedBytes, 1000, DECIMAL, 3)} / ${scaled(figures.sentBytes, 1000, DECIMAL, 3)}`,
    `${scaled(figures.readBytes, 1000, DECIMAL, 3)} / ${scaled(figures.writtenBytes, 1000, DECIMAL, 3)}`,
    String(figures.pids),
  ];
}

export const TITLES = ['CPU %', 'MEM USAGE / LIMIT', 'MEM %', 'NET I/O', 'BLOCK I/O', 'PIDS'];

/** Bytes with so many significant digits: `1.5MiB`. */
function scaled(bytes: number, base: number, units: readonly string[], digits: number): string {
  let [value, unit] = [bytes, 0];
  while (value >= base && unit < units.length - 1) [value, unit] = [value / base, unit + 1];
  return `${Number(value.toPrecision(digits))}${units[unit]}`;
}
