//! A container that somebody started with `docker run`, as a service of a compose file: the way back of container.rs.
//!
//! ```text
//! inspect of the container ┐
//! inspect of its image     ├─▶ what differs ─▶ Service, its networks and volumes; what Compose has no word for is told
//! the engine's defaults    ┘
//! ```
//!
//! Docker's structs are taken apart whole, so that a field that a later API adds is a field somebody has to think of.

mod host;
mod mounts;
mod places;

use super::container::NANOS_A_MILLI;
use super::reference;
use bollard::models::{
    ContainerConfig, ContainerInspectResponse, HealthConfig, ImageConfig, ImageInspect, SystemInfo,
    SystemInfoCgroupVersionEnum,
};
use std::collections::{BTreeMap, HashMap};
use teal_model::api::DescribedContainer;
use teal_model::config::{ContainerSettings, Healthcheck};

/// What the engine gives to a container that asks for nothing.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    pub runtime: String,
    pub logging: String,
    pub private_cgroup: bool,
}

impl Defaults {
    pub fn of(info: SystemInfo) -> Self {
        Self {
            runtime: info.default_runtime.unwrap_or_default(),
            logging: info.logging_driver.unwrap_or_default(),
            private_cgroup: info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_2),
        }
    }
}

/// Labels of Compose and of Teal say who manages a container; they are nobody else's to write.
const RESERVED: [&str; 2] = ["com.docker.compose.", "teal."];

pub fn container(seen: ContainerInspectResponse, image: ImageInspect, defaults: &Defaults) -> DescribedContainer {
    let config = seen.config.clone().unwrap_or_default();
    let host = seen.host_config.clone().unwrap_or_default();
    let own = image.config.clone().unwrap_or_default();
    let labels: BTreeMap<String, String> = config.labels.clone().unwrap_or_default().into_iter().collect();
    let mut out = DescribedContainer {
        id: seen.id.clone().unwrap_or_default(),
        name: seen.name.clone().unwrap_or_default().trim_start_matches('/').to_owned(),
        running: seen.state.as_ref().and_then(|state| state.running).unwrap_or(false),
        reserved: labels.keys().find(|key| RESERVED.iter().any(|one| key.starts_with(one))).cloned(),
        ..DescribedContainer::default()
    };
    image_name(&config, &image, &mut out);
    mounts::read(&host, &config, &own, &mut out);
    places::read(&seen, &config, &host, &own, &mut out);
    own_settings(config, own, &mut out);
    host::read(host, defaults, &mut out);
    out
}

/// A container that was started by an id still follows a name in the file, or no deployment could ever bring another image.
fn image_name(config: &ContainerConfig, image: &ImageInspect, out: &mut DescribedContainer) {
    let written = config.image.clone().unwrap_or_default();
    let is_id =
        reference::is_id(&written) || image.id.as_deref().is_some_and(|id| id[7.min(id.len())..].starts_with(&written));
    let tag = image.repo_tags.iter().flatten().find(|tag| !tag.contains("<none>"));
    out.service.container.image = match tag.filter(|_| is_id) {
        Some(tag) => {
            out.notes.push(format!("it was started from the image {written}; the file names it {tag}"));
            tag.clone()
        }
        None => written,
    };
}

/// What the image does not say itself.
fn own_settings(config: ContainerConfig, image: ImageConfig, out: &mut DescribedContainer) {
    let ContainerConfig {
        // Read by places.rs, mounts.rs and image_name.
        hostname: _,
        domainname: _,
        exposed_ports: _,
        image: _,
        volumes: _,
        user,
        // Who watched its start.
        attach_stdin: _,
        attach_stdout: _,
        attach_stderr: _,
        tty,
        open_stdin,
        // Meant for the terminal that it was started from.
        stdin_once: _,
        env,
        cmd,
        healthcheck,
        // Windows.
        args_escaped: _,
        working_dir,
        entrypoint,
        network_disabled,
        // The image's own, for builds.
        on_build: _,
        labels,
        stop_signal,
        stop_timeout,
        shell: _,
    } = config;
    let settings = &mut out.service.container;
    settings.user = other(user, image.user);
    settings.working_dir = other(working_dir, image.working_dir);
    settings.stop_signal = other(stop_signal, image.stop_signal);
    if let Some(seconds) = stop_timeout {
        settings.stop_grace_period_ms = u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
    }
    settings.tty = tty.unwrap_or(false);
    settings.stdin_open = open_stdin.unwrap_or(false);
    words(entrypoint, cmd, image.entrypoint, image.cmd, settings);
    settings.healthcheck = health(healthcheck.unwrap_or_default(), image.healthcheck.unwrap_or_default());
    let inherited = image.env.unwrap_or_default();
    for entry in env.unwrap_or_default().into_iter().filter(|entry| !inherited.contains(entry)) {
        match entry.split_once('=') {
            Some((name, value)) => {
                settings.environment.insert(name.to_owned(), value.to_owned());
            }
            None => out.unsaid.push(format!("the image's variable {entry} is taken away from it")),
        }
    }
    let inherited = image.labels.unwrap_or_default();
    for (key, value) in labels.unwrap_or_default() {
        if inherited.get(&key) != Some(&value) && !RESERVED.iter().any(|reserved| key.starts_with(reserved)) {
            settings.labels.insert(key, value);
        }
    }
    if network_disabled == Some(true) {
        out.unsaid.push("it has no network at all (`network_mode: none` is the nearest)".to_owned());
    }
}

/// Docker's word for nothing is an empty one.
fn other(own: Option<String>, images: Option<String>) -> Option<String> {
    own.filter(|own| !own.is_empty() && Some(own) != images.as_ref())
}

/// An entrypoint that is written drops the image's command, so that the command has to be written with it.
fn words(
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    image_entrypoint: Option<Vec<String>>,
    image_cmd: Option<Vec<String>>,
    settings: &mut ContainerSettings,
) {
    // `--entrypoint ""` is kept as one empty word.
    let plain = |words: Option<Vec<String>>| words.unwrap_or_default().into_iter().collect::<Vec<_>>();
    let bare = |words: Vec<String>| if words == [""] { Vec::new() } else { words };
    let (entrypoint, cmd) = (bare(plain(entrypoint)), plain(cmd));
    let differs = entrypoint != bare(plain(image_entrypoint));
    if cmd != plain(image_cmd) || differs && !cmd.is_empty() {
        settings.command = Some(cmd);
    }
    if differs {
        settings.entrypoint = Some(entrypoint);
        settings.command = settings.command.take().filter(|command| !command.is_empty());
    }
}

fn health(own: HealthConfig, image: HealthConfig) -> Option<Healthcheck> {
    let HealthConfig { test, interval, timeout, retries, start_period, start_interval } = own;
    let ms = |own: Option<i64>, images: Option<i64>| {
        let nanos = own.filter(|own| *own > 0 && Some(*own) != images)?;
        u64::try_from(nanos).ok().map(|nanos| (nanos / NANOS_A_MILLI).max(1))
    };
    let check = Healthcheck {
        test: test.filter(|test| !test.is_empty() && Some(test) != image.test.as_ref()),
        interval_ms: ms(interval, image.interval),
        timeout_ms: ms(timeout, image.timeout),
        start_period_ms: ms(start_period, image.start_period),
        start_interval_ms: ms(start_interval, image.start_interval),
        retries: retries.filter(|own| *own > 0 && Some(*own) != image.retries).and_then(|n| u32::try_from(n).ok()),
    };
    (check != Healthcheck::default()).then_some(check)
}

fn sorted(map: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    map.unwrap_or_default().into_iter().collect()
}

/// A key in the file for something that Docker has by this name.
fn key(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' }).collect()
}
