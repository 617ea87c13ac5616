//! Teal's words for a container into Docker's: `POST /containers/create`. Nothing here talks to the daemon.
//!
//! ```text
//! ContainerSpec ─ container ─ limits, isolation, mounts, places ─▶ ContainerCreateBody
//!                      └─ what the engine is too old for: an error that names the key
//! ```

use super::super::{ContainerSpec, Result};
use super::version::Speaks;
use super::{files, isolation, limits, mounts, places};
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, RestartPolicy, RestartPolicyNameEnum,
};
use std::collections::{BTreeMap, HashMap};
use teal_model::config::{ContainerSettings, Healthcheck, Restart};

pub const NANOS_A_MILLI: u64 = 1_000_000;

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
        hostname: s.resolver.hostname.clone(),
        domainname: s.resolver.domainname.clone(),
        healthcheck: s.healthcheck.as_ref().map(|check| healthcheck(check, speaks)),
        stop_signal: s.stop_signal.clone(),
        stop_timeout: Some(signed(s.stop_grace_period_ms.div_ceil(1000))),
        tty: s.tty.then_some(true),
        open_stdin: s.stdin_open.then_some(true),
        exposed_ports: places::exposed(spec),
        networking_config: places::networking(spec, speaks)?,
        host_config: Some(host_config(spec, speaks)?),
        ..Default::default()
    })
}

fn host_config(spec: &ContainerSpec, speaks: &Speaks) -> Result<HostConfig> {
    let s = &spec.settings;
    if !s.annotations.is_empty() {
        speaks.needs("annotations", "24.0", 43)?;
    }
    let mut host = HostConfig {
        network_mode: places::mode(spec),
        port_bindings: places::bindings(spec),
        restart_policy: Some(restart_policy(if spec.restart_now { s.restart } else { Restart::No })),
        log_config: s.logging.as_ref().map(|logging| HostConfigLogConfig {
            typ: logging.driver.clone(),
            config: Some(logging.options.clone().into_iter().collect()),
        }),
        annotations: map(&s.annotations),
        group_add: list(&s.group_add),
        init: s.init,
        readonly_rootfs: s.read_only.then_some(true),
        runtime: s.runtime.clone(),
        dns: list(&s.resolver.dns),
        dns_search: list(&s.resolver.dns_search),
        dns_options: list(&s.resolver.dns_opt),
        extra_hosts: list(&s.resolver.extra_hosts),
        ..Default::default()
    };
    limits::set(&mut host, s);
    isolation::set(&mut host, spec, speaks)?;
    mounts::set(&mut host, spec, speaks)?;
    Ok(host)
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

pub fn restart_policy(restart: Restart) -> RestartPolicy {
    let (name, retries) = match restart {
        Restart::No => (RestartPolicyNameEnum::NO, None),
        Restart::Always => (RestartPolicyNameEnum::ALWAYS, None),
        Restart::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, None),
        Restart::OnFailure(most) => (RestartPolicyNameEnum::ON_FAILURE, Some(i64::from(most))),
    };
    RestartPolicy { name: Some(name), maximum_retry_count: retries }
}

fn healthcheck(check: &Healthcheck, speaks: &Speaks) -> HealthConfig {
    let nanos = |ms: Option<u64>| ms.map(|ms| signed(ms.saturating_mul(NANOS_A_MILLI)));
    HealthConfig {
        test: check.test.clone(),
        interval: nanos(check.interval_ms),
        timeout: nanos(check.timeout_ms),
        start_period: nanos(check.start_period_ms),
        retries: check.retries.map(i64::from),
        // Docker 25. Left out before: there the agent runs the test itself while a replica warms.
        start_interval: nanos(check.start_interval_ms).filter(|_| speaks.at_least(44)),
    }
}

pub fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// What is not written is left to the daemon.
pub fn list(written: &[String]) -> Option<Vec<String>> {
    (!written.is_empty()).then(|| written.to_vec())
}

pub fn map(written: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!written.is_empty()).then(|| written.clone().into_iter().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bollard::ClientVersion;

    fn speaks(minor: usize) -> Speaks {
        Speaks::new(ClientVersion { major_version: 1, minor_version: minor }, "create container `a`")
    }

    #[test]
    fn annotations_need_docker_24_and_the_start_interval_waits_for_25() {
        let mut spec = ContainerSpec::default();
        spec.settings.healthcheck = Some(Healthcheck { start_interval_ms: Some(500), ..Default::default() });
        let interval = |minor| body(&spec, &speaks(minor), None).unwrap().healthcheck.unwrap().start_interval;
        assert_eq!((interval(43), interval(44)), (None, Some(500_000_000)));
        spec.settings.annotations.insert("team".into(), "core".into());
        let text = body(&spec, &speaks(42), None).unwrap_err().to_string();
        assert!(text.contains("`annotations` needs Docker 24.0"), "{text}");
        let host = body(&spec, &speaks(43), None).unwrap().host_config.unwrap();
        assert_eq!(host.annotations.unwrap()["team"], "core");
    }

    #[test]
    fn what_is_not_written_is_left_to_the_daemon() {
        let host = body(&ContainerSpec::default(), &speaks(41), None).unwrap().host_config.unwrap();
        let written = serde_json::to_value(host).unwrap();
        let keys: Vec<&String> = written.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["RestartPolicy"]);
    }
}
