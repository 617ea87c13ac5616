//! Teal's words for a container into Docker's, and back. Nothing here talks to the daemon.

use super::super::{ContainerSpec, Result};
use super::version::Speaks;
use super::{files, places};
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount as DockerMount, MountBindOptions,
    MountBindOptionsPropagationEnum as Propagation, MountType, MountVolumeOptions, RestartPolicy,
    RestartPolicyNameEnum,
};
use teal_model::config::{ContainerSettings, Healthcheck, Mount, MountKind, Restart};

const NANOS_A_MILLI: u64 = 1_000_000;

/// `image_entrypoint` is asked for only by `needs_image_entrypoint`.
pub fn body(
    spec: &ContainerSpec,
    speaks: &Speaks,
    image_entrypoint: Option<Vec<String>>,
) -> Result<ContainerCreateBody> {
    files::refuse_lost(spec)?;
    places::refuse_unsayable(spec, speaks)?;
    let s = &spec.settings;
    Ok(ContainerCreateBody {
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
        exposed_ports: places::exposed(spec),
        networking_config: places::networking(spec, speaks)?,
        host_config: Some(host_config(spec)),
        ..Default::default()
    })
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
        network_mode: places::mode(spec),
        port_bindings: places::bindings(spec),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
}
