//! How much of the host a container may use, beside `mem_limit_bytes` and `cpus_milli`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    pub mem_reservation_bytes: Option<u64>,
    /// Memory and swap together; -1 is without limit.
    pub memswap_limit_bytes: Option<i64>,
    /// 0 to 100.
    pub mem_swappiness: Option<u8>,
    /// -1 is without limit.
    pub pids: Option<i64>,
    pub oom_kill_disable: bool,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i16>,
    /// `/dev/shm`.
    pub shm_size_bytes: Option<u64>,
    pub ulimits: BTreeMap<String, Ulimit>,
    pub cpu: CpuLimits,
    pub blkio: BlkioLimits,
    /// Of the storage driver: `size: 10G`.
    pub storage_opt: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ulimit {
    /// -1 is without limit.
    pub soft: i64,
    pub hard: i64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuLimits {
    /// Relative weight; Docker's default is 1024.
    pub shares: Option<u64>,
    pub period_us: Option<u64>,
    /// -1 is without limit.
    pub quota_us: Option<i64>,
    pub rt_period_us: Option<u64>,
    pub rt_runtime_us: Option<u64>,
    /// `0-3`, `0,1`.
    pub set: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioLimits {
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// By the device's path.
    pub weight_device: BTreeMap<String, u16>,
    /// Bytes a second, by the device's path.
    pub read_bps: BTreeMap<String, u64>,
    pub write_bps: BTreeMap<String, u64>,
    /// Operations a second, by the device's path.
    pub read_iops: BTreeMap<String, u64>,
    pub write_iops: BTreeMap<String, u64>,
}
