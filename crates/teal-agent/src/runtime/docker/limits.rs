//! How much of the host a container may use: `HostConfig`'s resources.

use super::container::{NANOS_A_MILLI, map, signed};
use bollard::models::{HostConfig, ResourcesBlkioWeightDevice, ResourcesUlimits, ThrottleDevice};
use std::collections::BTreeMap;
use teal_model::config::ContainerSettings;

pub fn set(host: &mut HostConfig, settings: &ContainerSettings) {
    let limits = &settings.limits;
    host.memory = settings.mem_limit_bytes.map(signed);
    host.memory_reservation = limits.mem_reservation_bytes.map(signed);
    host.memory_swap = limits.memswap_limit_bytes;
    host.memory_swappiness = limits.mem_swappiness.map(i64::from);
    host.pids_limit = limits.pids;
    host.oom_kill_disable = limits.oom_kill_disable.then_some(true);
    host.oom_score_adj = limits.oom_score_adj.map(i64::from);
    host.shm_size = limits.shm_size_bytes.map(signed);
    host.storage_opt = map(&limits.storage_opt);
    let ulimits = limits.ulimits.iter().map(|(name, limit)| ResourcesUlimits {
        name: Some(name.clone()),
        soft: Some(limit.soft),
        hard: Some(limit.hard),
    });
    host.ulimits = filled(ulimits);

    let cpu = &limits.cpu;
    host.nano_cpus = settings.cpus_milli.map(|milli| signed(milli.saturating_mul(NANOS_A_MILLI)));
    host.cpu_shares = cpu.shares.map(signed);
    host.cpu_period = cpu.period_us.map(signed);
    host.cpu_quota = cpu.quota_us;
    host.cpu_realtime_period = cpu.rt_period_us.map(signed);
    host.cpu_realtime_runtime = cpu.rt_runtime_us.map(signed);
    host.cpuset_cpus = cpu.set.clone();

    let blkio = &limits.blkio;
    host.blkio_weight = blkio.weight;
    let weights = blkio.weight_device.iter().map(|(path, weight)| ResourcesBlkioWeightDevice {
        path: Some(path.clone()),
        weight: Some(usize::from(*weight)),
    });
    host.blkio_weight_device = filled(weights);
    host.blkio_device_read_bps = rates(&blkio.read_bps);
    host.blkio_device_write_bps = rates(&blkio.write_bps);
    host.blkio_device_read_iops = rates(&blkio.read_iops);
    host.blkio_device_write_iops = rates(&blkio.write_iops);
}

fn rates(written: &BTreeMap<String, u64>) -> Option<Vec<ThrottleDevice>> {
    filled(written.iter().map(|(path, rate)| ThrottleDevice { path: Some(path.clone()), rate: Some(signed(*rate)) }))
}

fn filled<T>(all: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let all: Vec<T> = all.collect();
    (!all.is_empty()).then_some(all)
}
