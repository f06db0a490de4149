import { expect, test } from 'vitest';
import { cells, figuresOf, type StatsAnswer } from './stats-figures.ts';

const stats: StatsAnswer = {
  read: '',
  cpu_stats: { cpu_usage: { total_usage: 3e9 }, system_cpu_usage: 20e9, online_cpus: 4 },
  precpu_stats: { cpu_usage: { total_usage: 2e9 }, system_cpu_usage: 16e9 },
  memory_stats: { usage: 12 * 1024 ** 2, limit: 1.5 * 1024 ** 3, stats: { inactive_file: 2 * 1024 ** 2 } },
  networks: { eth0: { rx_bytes: 1_500, tx_bytes: 10 }, eth1: { rx_bytes: 500, tx_bytes: 0 } },
  blkio_stats: {
    io_service_bytes_recursive: [
      { op: 'Read', value: 4_500_000 },
      { op: 'write', value: 1 },
    ],
  },
  pids_stats: { current: 7 },
};

test('figures are computed and written as docker stats does', () => {
  expect(cells(figuresOf(stats))).toEqual(['100.00%', '10MiB / 1.5GiB', '0.65%', '2kB / 10B', '4.5MB / 1B', '7']);
});

test('a container that has just begun, or has no network or limit', () => {
  const none: StatsAnswer = {
    ...stats,
    precpu_stats: { cpu_usage: { total_usage: 3e9 } },
    memory_stats: {},
    networks: undefined,
    blkio_stats: { io_service_bytes_recursive: null },
    pids_stats: {},
  };
  expect(cells(figuresOf(none))).toEqual(['0.00%', '0B / 0B', '0.00%', '0B / 0B', '0B / 0B', '0']);
});
