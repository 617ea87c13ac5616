//! What a container shares with the host and how much of it it may use: the way back of limits.rs and isolation.rs.

use super::super::container::NANOS_A_MILLI;
use super::{Defaults, sorted};
use bollard::models::{HostConfig, HostConfigCgroupnsModeEnum as CgroupMode, RestartPolicyNameEnum, ThrottleDevice};
use std::collections::BTreeMap;
use teal_model::api::DescribedContainer;
use teal_model::config::{
    BlkioLimits, ContainerSettings, CpuLimits, Device, DeviceRequest, Devices, Isolation, Limits, Logging, Namespace,
    Restart, Ulimit,
};

/// The daemon's, where nothing is asked for.
const SHM_SIZE: u64 = 64 * 1024 * 1024;
/// What Docker's command line sends for a process without masked paths.
const NO_SYSTEM_PATHS: &str = "systempaths=unconfined";

pub fn read(host: HostConfig, defaults: &Defaults, out: &mut DescribedContainer) {
    let HostConfig {
        // Read by mounts.rs and places.rs.
        binds: _,
        mounts: _,
        tmpfs: _,
        network_mode: _,
        port_bindings: _,
        publish_all_ports: _,
        // Of the command line, or for Windows.
        container_id_file: _,
        console_size: _,
        isolation: _,
        cpu_count: _,
        cpu_percent: _,
        io_maximum_iops: _,
        io_maximum_bandwidth: _,
        // Docker's word for swarm and for links that are long gone.
        cgroup: _,
        readonly_paths: _,
        cpu_shares,
        memory,
        cgroup_parent,
        blkio_weight,
        blkio_weight_device,
        blkio_device_read_bps,
        blkio_device_write_bps,
        blkio_device_read_iops,
        blkio_device_write_iops,
        cpu_period,
        cpu_quota,
        cpu_realtime_period,
        cpu_realtime_runtime,
        cpuset_cpus,
        cpuset_mems,
        devices,
        device_cgroup_rules,
        device_requests,
        memory_reservation,
        memory_swap,
        memory_swappiness,
        nano_cpus,
        oom_kill_disable,
        init,
        pids_limit,
        ulimits,
        log_config,
        restart_policy,
        auto_remove,
        volume_driver,
        volumes_from,
        annotations,
        cap_add,
        cap_drop,
        cgroupns_mode,
        dns,
        dns_options,
        dns_search,
        extra_hosts,
        group_add,
        ipc_mode,
        links,
        oom_score_adj,
        pid_mode,
        privileged,
        readonly_rootfs,
        security_opt,
        storage_opt,
        uts_mode,
        userns_mode,
        shm_size,
        sysctls,
        runtime,
        masked_paths,
    } = host;
    let privileged = privileged.unwrap_or(false);
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let unsaid = &mut out.unsaid;
    let mut say = |is: bool, what: String| {
        if is {
            unsaid.push(what);
        }
    };
    say(auto_remove == Some(true), "`--rm`: Teal removes what it has replaced itself".to_owned());
    say(text(cpuset_mems.clone()).is_some(), format!("memory nodes {}", cpuset_mems.unwrap_or_default()));
    say(text(volume_driver.clone()).is_some(), format!("the volume driver {}", volume_driver.unwrap_or_default()));
    for link in links.into_iter().flatten() {
        say(true, format!("the link {link} of Docker's own bridge"));
    }
    let nanos = number(nano_cpus);
    say(nanos.is_some_and(|nanos| !nanos.is_multiple_of(NANOS_A_MILLI)), "cores below a thousandth".to_owned());
    let mut options: Vec<String> = security_opt.unwrap_or_default();
    let profile = options.iter().any(|option| option.starts_with("seccomp={"));
    say(profile, "its seccomp profile: write it to a file, and `security_opt: [seccomp:FILE]`".to_owned());
    options.retain(|option| !option.starts_with("seccomp={"));
    if !privileged && masked_paths.as_ref().is_some_and(Vec::is_empty) {
        options.push(NO_SYSTEM_PATHS.to_owned());
    }

    let memory = number(memory);
    let twice = memory.and_then(|bytes| i64::try_from(bytes.saturating_mul(2)).ok());
    let (restart, resolver) = (restart_policy.unwrap_or_default(), &mut out.service.container.resolver);
    resolver.dns = dns.unwrap_or_default();
    resolver.dns_search = dns_search.unwrap_or_default();
    resolver.dns_opt = dns_options.unwrap_or_default();
    resolver.extra_hosts = extra_hosts.unwrap_or_default();
    let settings: &mut ContainerSettings = &mut out.service.container;
    settings.restart = match restart.name {
        Some(RestartPolicyNameEnum::ALWAYS) => Restart::Always,
        Some(RestartPolicyNameEnum::UNLESS_STOPPED) => Restart::UnlessStopped,
        Some(RestartPolicyNameEnum::ON_FAILURE) => {
            Restart::OnFailure(restart.maximum_retry_count.and_then(|most| u32::try_from(most).ok()).unwrap_or(0))
        }
        Some(RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY) | None => Restart::No,
    };
    settings.mem_limit_bytes = memory;
    settings.cpus_milli = nanos.map(|nanos| nanos / NANOS_A_MILLI);
    settings.limits = Limits {
        mem_reservation_bytes: number(memory_reservation),
        memswap_limit_bytes: memory_swap.filter(|swap| *swap != 0 && memory.is_some() && Some(*swap) != twice),
        mem_swappiness: memory_swappiness.and_then(|n| u8::try_from(n).ok()),
        pids: pids_limit.filter(|most| *most > 0),
        oom_kill_disable: oom_kill_disable.unwrap_or(false),
        oom_score_adj: oom_score_adj.filter(|n| *n != 0).and_then(|n| i16::try_from(n).ok()),
        shm_size_bytes: number(shm_size).filter(|bytes| *bytes != SHM_SIZE),
        ulimits: ulimits.into_iter().flatten().filter_map(ulimit).collect(),
        cpu: CpuLimits {
            shares: number(cpu_shares),
            period_us: number(cpu_period),
            quota_us: cpu_quota.filter(|quota| *quota != 0),
            rt_period_us: number(cpu_realtime_period),
            rt_runtime_us: number(cpu_realtime_runtime),
            set: text(cpuset_cpus),
        },
        blkio: BlkioLimits {
            weight: blkio_weight.filter(|weight| *weight > 0),
            weight_device: blkio_weight_device
                .into_iter()
                .flatten()
                .filter_map(|one| Some((one.path?, u16::try_from(one.weight?).ok()?)))
                .collect(),
            read_bps: rates(blkio_device_read_bps),
            write_bps: rates(blkio_device_write_bps),
            read_iops: rates(blkio_device_read_iops),
            write_iops: rates(blkio_device_write_iops),
        },
        storage_opt: sorted(storage_opt),
    };
    settings.isolation = Isolation {
        privileged,
        cap_add: cap_add.unwrap_or_default(),
        cap_drop: cap_drop.unwrap_or_default(),
        security_opt: options,
        sysctls: sorted(sysctls),
        // Docker writes its own default down.
        ipc: namespace(ipc_mode).filter(|ipc| *ipc != Namespace::Private),
        pid: namespace(pid_mode),
        uts: namespace(uts_mode),
        userns: namespace(userns_mode),
        cgroup: match cgroupns_mode {
            Some(CgroupMode::HOST) if defaults.private_cgroup && !privileged => Some(Namespace::Host),
            Some(CgroupMode::PRIVATE) if !defaults.private_cgroup => Some(Namespace::Private),
            _ => None,
        },
        cgroup_parent: text(cgroup_parent),
    };
    settings.devices = Devices {
        devices: devices
            .into_iter()
            .flatten()
            .map(|device| Device {
                source: device.path_on_host.unwrap_or_default(),
                target: device.path_in_container.unwrap_or_default(),
                permissions: device.cgroup_permissions.unwrap_or_default(),
            })
            .collect(),
        cgroup_rules: device_cgroup_rules.unwrap_or_default(),
        requests: device_requests
            .into_iter()
            .flatten()
            .map(|request| DeviceRequest {
                driver: text(request.driver),
                count: request.count.filter(|_| request.device_ids.as_ref().is_none_or(Vec::is_empty)),
                device_ids: request.device_ids.unwrap_or_default(),
                capabilities: request.capabilities.unwrap_or_default().into_iter().flatten().collect(),
                options: sorted(request.options),
            })
            .collect(),
    };
    settings.volumes_from = volumes_from.unwrap_or_default();
    settings.group_add = group_add.unwrap_or_default();
    settings.annotations = sorted(annotations);
    settings.read_only = readonly_rootfs.unwrap_or(false);
    settings.init = init;
    settings.runtime = text(runtime).filter(|runtime| *runtime != defaults.runtime);
    settings.logging = log_config.and_then(|logging| {
        let (driver, options) = (text(logging.typ), sorted(logging.config));
        (!options.is_empty() || driver.as_ref().is_some_and(|driver| *driver != defaults.logging))
            .then_some(Logging { driver, options })
    });
}

/// 0 and less is Docker's word for no limit.
fn number(seen: Option<i64>) -> Option<u64> {
    seen.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0)
}

fn ulimit(seen: bollard::models::ResourcesUlimits) -> Option<(String, Ulimit)> {
    Some((seen.name?, Ulimit { soft: seen.soft?, hard: seen.hard? }))
}

fn rates(seen: Option<Vec<ThrottleDevice>>) -> BTreeMap<String, u64> {
    seen.into_iter().flatten().filter_map(|one| Some((one.path?, number(one.rate)?))).collect()
}

fn namespace(word: Option<String>) -> Option<Namespace> {
    let word = word?;
    Some(match word.as_str() {
        "host" => Namespace::Host,
        "private" => Namespace::Private,
        "shareable" => Namespace::Shareable,
        "none" => Namespace::None,
        other => Namespace::Container(other.strip_prefix("container:")?.to_owned()),
    })
}
