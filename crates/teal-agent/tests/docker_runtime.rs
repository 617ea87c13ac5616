//! The contract of `Runtime`, kept by the real Docker. Needs root, a daemon (scripts/docker.sh), gcc and docker-registry.

#![allow(clippy::unwrap_used)]

#[path = "docker_runtime/files.rs"]
mod files;
#[path = "docker_runtime/holder.rs"]
mod holder;
#[path = "docker_runtime/images.rs"]
mod images;
#[path = "docker_runtime/lifecycle.rs"]
mod lifecycle;
#[path = "docker_runtime/migrate.rs"]
mod migrate;
#[path = "docker_runtime/networks.rs"]
mod networks;
#[path = "docker_runtime/places.rs"]
mod places;
#[path = "docker_runtime/prune.rs"]
mod prune;
#[path = "docker_runtime/settings.rs"]
mod settings;
#[path = "docker_runtime/streams.rs"]
mod streams;
#[path = "docker_runtime/support.rs"]
mod support;
#[path = "docker_runtime/volumes.rs"]
mod volumes;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::{PATIENCE, Place, Registry, docker};
use teal_agent::runtime::docker::DockerRuntime;
use teal_agent::runtime::{ContainerHealth, ContainerSpec, Runtime, RuntimeError, Status, label};
use teal_model::config::{Healthcheck, Logging, Mount, MountKind, Restart};
use tokio::sync::mpsc;
use tokio::time::timeout;

const GRACE: Duration = Duration::from_secs(10);

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|w| (*w).to_owned()).collect()
}

fn mount(kind: MountKind, source: Option<&str>, target: &str) -> Mount {
    Mount {
        kind,
        source: source.map(str::to_owned),
        target: target.into(),
        read_only: false,
        create_host_path: kind == MountKind::Bind,
        ..Default::default()
    }
}

/// One fact of a container, as Docker's own client tells it.
fn fact(id: &str, of: &str) -> String {
    docker(&["inspect", "-f", &format!("{{{{json {of}}}}}"), id])
}
