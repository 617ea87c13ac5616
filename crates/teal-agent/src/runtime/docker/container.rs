//! Teal's words for a container into Docker's, and back. Nothing here talks to the daemon.

use super::super::{Container, ContainerHealth, ContainerSpec, Image, Status};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, EndpointSettings,
    HealthConfig, HealthStatusEnum, HostConfig, HostConfigLogConfig, ImageInspect, Mount as DockerMount,
    MountBindOptions, MountBindOptionsPropagationEnum as Propagation, MountType, MountVolumeOptions, NetworkingConfig,
    RestartPolicy, RestartPolicyNameEnum,
};
use std::collections::HashMap;
use std::net::IpAddr;
use teal_model::config::{ContainerSettings, Healthcheck, Mount, MountKind, Restart};

const NANOS_A_MILLI: u64 = 1_000_000;
/// Networks without a name service: Docker refuses aliases there.
const PLAIN_NETWORKS: [&str; 4] = ["host", "none", "bridge", "default"];

/// `image_entrypoint` is asked for only by `needs_image_entrypoint`.
pub fn create_body(spec: &ContainerSpec, image_entrypoint: Option<Vec<String>>) -> ContainerCreateBody {
    let s = &spec.settings;
    let named = !spec.network.is_empty() && !PLAIN_NETWORKS.contains(&spec.network.as_str());
    let endpoint = EndpointSettings { aliases: Some(spec.aliases.clone()), ..Default::default() };
    ContainerCreateBody {
        image: Some(spec.image_id.clone()),
        cmd: s.command.clone(),
        entrypoint: entrypoint(s, image_entrypoint),
        env: Some(s.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(s.labels.iter().chain(&spec.labels).map(|(k, v)| (k.clone(), v.clone())).collect()),
        user: s.user.clone(),
        working_dir: s.working_dir.clone(),
        healthcheck: s.healthcheck.as_ref().map(healthcheck),
        stop_signal: s.stop_signal.clone(),
        stop_timeout: Some(signed(s.stop_grace_period_ms.div_ceil(1000))),
        networking_config: named
            .then(|| NetworkingConfig { endpoints_config: Some(HashMap::from([(spec.network.clone(), endpoint)])) }),
        host_config: Some(host_config(spec)),
        ..Default::default()
    }
}

/// `command: []` clears the image's CMD. Docker fills an empty command in again unless an entrypoint is set, so the
/// image's own is set.
pub fn needs_image_entrypoint(settings: &ContainerSettings) -> bool {
    settings.command.as_ref().is_some_and(Vec::is_empty) && settings.entrypoint.is_none()
}

fn entrypoint(settings: &ContainerSettings, images_own: Option<Vec<String>>) -> Option<Vec<String>> {
    // Docker's word for "none, and no CMD of the image either".
    let cleared = || vec![String::new()];
    match &settings.entrypoint {
        None if needs_image_entrypoint(settings) => Some(images_own.filter(|e| !e.is_empty()).unwrap_or_else(cleared)),
        Some(own) if own.is_empty() && settings.command.as_ref().is_some_and(Vec::is_empty) => Some(cleared()),
        own => own.clone(),
    }
}

fn host_config(spec: &ContainerSpec) -> HostConfig {
    let s = &spec.settings;
    let (short, long): (Vec<&Mount>, Vec<&Mount>) =
        s.mounts.iter().filter(|m| m.kind != MountKind::Tmpfs).partition(|m| needs_short_form(m));
    HostConfig {
        network_mode: (!spec.network.is_empty()).then(|| spec.network.clone()),
        binds: Some(short.into_iter().map(bind_text).collect()),
        mounts: Some(long.into_iter().map(mount).collect()),
        tmpfs: Some(s.mounts.iter().filter(|m| m.kind == MountKind::Tmpfs).map(tmpfs).collect()),
        memory: s.mem_limit_bytes.map(signed),
        nano_cpus: s.cpus_milli.map(|milli| signed(milli.saturating_mul(NANOS_A_MILLI))),
        log_config: s.logging.as_ref().map(|l| HostConfigLogConfig {
            typ: l.driver.clone(),
            config: Some(l.options.clone().into_iter().collect()),
        }),
        restart_policy: Some(restart_policy(if spec.restart_now { s.restart } else { Restart::No })),
        ..Default::default()
    }
}

pub fn restart_policy(restart: Restart) -> RestartPolicy {
    let (name, retries) = match restart {
        Restart::No => (RestartPolicyNameEnum::NO, None),
        Restart::Always => (RestartPolicyNameEnum::ALWAYS, None),
        Restart::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, None),
        Restart::OnFailure(most) => (RestartPolicyNameEnum::ON_FAILURE, Some(i64::from(most))),
    };
    RestartPolicy { name: Some(name), maximum_retry_count: retries }
}

fn healthcheck(h: &Healthcheck) -> HealthConfig {
    let nanos = |ms: Option<u64>| ms.map(|ms| signed(ms.saturating_mul(NANOS_A_MILLI)));
    HealthConfig {
        test: h.test.clone(),
        interval: nanos(h.interval_ms),
        timeout: nanos(h.timeout_ms),
        start_period: nanos(h.start_period_ms),
        retries: h.retries.map(i64::from),
        start_interval: nanos(h.start_interval_ms),
    }
}

/// The long form cannot say `z`, and below API 1.42 cannot create a host path; the short one cannot hold a colon.
fn needs_short_form(m: &Mount) -> bool {
    let Some(source) = &m.source else {
        return false;
    };
    let creates = m.kind == MountKind::Bind && m.create_host_path;
    let unknown = m.options.iter().any(|o| o != "nocopy" && propagation(o).is_none());
    (creates || unknown) && !source.contains(':')
}

fn bind_text(m: &Mount) -> String {
    let mut options = m.options.clone();
    options.retain(|o| o != "ro" && o != "rw");
    options.push(if m.read_only { "ro".into() } else { "rw".into() });
    format!("{}:{}:{}", m.source.as_deref().unwrap_or_default(), m.target, options.join(","))
}

fn mount(m: &Mount) -> DockerMount {
    let bind = m.kind == MountKind::Bind;
    let spread = m.options.iter().find_map(|o| propagation(o));
    DockerMount {
        target: Some(m.target.clone()),
        source: m.source.clone(),
        typ: Some(if bind { MountType::BIND } else { MountType::VOLUME }),
        read_only: Some(m.read_only),
        bind_options: bind.then(|| MountBindOptions {
            propagation: spread,
            create_mountpoint: m.create_host_path.then_some(true),
            ..Default::default()
        }),
        volume_options: (!bind).then(|| MountVolumeOptions {
            no_copy: Some(m.options.iter().any(|o| o == "nocopy")),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn tmpfs(m: &Mount) -> (String, String) {
    let mut options = m.options.clone();
    if m.read_only {
        options.push("ro".into());
    }
    (m.target.clone(), options.join(","))
}

fn propagation(option: &str) -> Option<Propagation> {
    Some(match option {
        "private" => Propagation::PRIVATE,
        "rprivate" => Propagation::RPRIVATE,
        "shared" => Propagation::SHARED,
        "rshared" => Propagation::RSHARED,
        "slave" => Propagation::SLAVE,
        "rslave" => Propagation::RSLAVE,
        _ => return None,
    })
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub fn image(seen: ImageInspect) -> Image {
    let config = seen.config.unwrap_or_default();
    let tested = config.healthcheck.and_then(|h| h.test).is_some_and(|t| t.first().is_some_and(|kind| kind != "NONE"));
    let tcp = |port: &String| match port.split_once('/') {
        Some((number, "tcp")) => number.parse().ok(),
        Some(_) => None,
        None => port.parse().ok(),
    };
    let mut exposed: Vec<u16> = config.exposed_ports.iter().flatten().filter_map(tcp).collect();
    exposed.sort_unstable();
    let mut volumes = config.volumes.unwrap_or_default();
    volumes.sort_unstable();
    Image {
        id: seen.id.unwrap_or_default(),
        repo_digests: seen.repo_digests.unwrap_or_default(),
        exposed,
        volumes,
        has_healthcheck: tested,
    }
}

pub fn container(seen: ContainerInspectResponse) -> Container {
    let state = seen.state.unwrap_or_default();
    let addresses = seen.network_settings.and_then(|n| n.networks).unwrap_or_default();
    let running = state.running.unwrap_or(false);
    Container {
        id: seen.id.unwrap_or_default(),
        name: seen.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        labels: seen.config.and_then(|c| c.labels).unwrap_or_default().into_iter().collect(),
        image_id: seen.image.unwrap_or_default(),
        status: status(&state),
        health: health(&state),
        restarts: seen.restart_count.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        pid: state.pid.filter(|_| running).and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0),
        started_at: state.started_at.unwrap_or_default(),
        addresses: addresses.into_iter().filter_map(|(name, e)| Some((name, address(&e)?))).collect(),
    }
}

fn address(endpoint: &EndpointSettings) -> Option<IpAddr> {
    let parse = |text: &Option<String>| text.as_deref().and_then(|t| t.parse().ok());
    parse(&endpoint.ip_address).or_else(|| parse(&endpoint.global_ipv6_address))
}

fn status(state: &ContainerState) -> Status {
    use ContainerStateStatusEnum as S;
    match state.status {
        Some(S::RUNNING | S::STOPPING) => Status::Running,
        Some(S::PAUSED) => Status::Paused,
        Some(S::RESTARTING) => Status::Restarting,
        Some(S::REMOVING) => Status::Removing,
        Some(S::DEAD) => Status::Dead,
        Some(S::EXITED) => {
            Status::Exited { code: state.exit_code.unwrap_or(-1), out_of_memory: state.oom_killed.unwrap_or(false) }
        }
        Some(S::CREATED | S::EMPTY) | None => Status::Created,
    }
}

fn health(state: &ContainerState) -> Option<ContainerHealth> {
    let health = state.health.as_ref()?;
    Some(match health.status? {
        HealthStatusEnum::STARTING => ContainerHealth::Starting,
        HealthStatusEnum::HEALTHY => ContainerHealth::Healthy,
        HealthStatusEnum::UNHEALTHY => {
            let output = health.log.as_ref().and_then(|log| log.last()?.output.as_deref());
            ContainerHealth::Unhealthy(output.unwrap_or_default().trim().to_owned())
        }
        HealthStatusEnum::NONE | HealthStatusEnum::EMPTY => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bollard::models::ImageConfig;

    fn bound(options: &[&str], create_host_path: bool, source: &str) -> Mount {
        Mount {
            kind: MountKind::Bind,
            source: Some(source.into()),
            target: "/in".into(),
            read_only: true,
            create_host_path,
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_bind_takes_the_form_that_can_say_it() {
        assert_eq!(bind_text(&bound(&["z"], true, "/srv")), "/srv:/in:z,ro");
        assert!(needs_short_form(&bound(&[], true, "/srv")) && needs_short_form(&bound(&["Z"], false, "/srv")));
        assert!(!needs_short_form(&bound(&["rshared"], false, "/srv")));
        let odd = bound(&[], true, "/srv/a:b");
        assert!(!needs_short_form(&odd));
        assert_eq!(mount(&odd).bind_options.and_then(|b| b.create_mountpoint), Some(true));
    }

    #[test]
    fn only_tcp_ports_count_as_exposed() {
        let config = ImageConfig {
            exposed_ports: Some(vec!["8080/tcp".into(), "53/udp".into(), "80/tcp".into()]),
            ..Default::default()
        };
        let seen = image(ImageInspect { config: Some(config), ..Default::default() });
        assert_eq!(seen.exposed, [80, 8080]);
        assert!(!seen.has_healthcheck);
    }
}
