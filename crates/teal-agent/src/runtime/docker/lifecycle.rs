//! A container's life: created, started, stopped, removed; each step may be repeated.

use super::super::{Container, ContainerSpec, Result, RuntimeError, Status};
use super::DockerRuntime;
use super::connection::{self, SHORT, bounded, status};
use super::container::{body, needs_image_entrypoint, restart_policy};
use super::described;
use super::places;
use super::seen::container;
use super::version::Speaks;
use bollard::models::{ContainerSummary, ContainerUpdateBody};
use bollard::query_parameters::{
    CreateContainerOptions, KillContainerOptions, ListContainersOptions, RemoveContainerOptions,
    RenameContainerOptions, StopContainerOptions,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use teal_model::api::DescribedContainer;
use teal_model::config::Restart;
use tokio::time::{Instant, sleep, timeout};

/// Between two looks at something that Docker is about to finish.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const INSPECTS_AT_ONCE: usize = 16;

impl DockerRuntime {
    pub(super) async fn container_ensure(&self, spec: &ContainerSpec) -> Result<Container> {
        let made = self.container_create(spec).await?;
        if made.status != Status::Created {
            return Ok(made);
        }
        // An earlier try may have got no further than the container.
        self.files_write(&made.id, &spec.settings.files).await?;
        if !self.join_the_rest(&made, spec).await? {
            return Ok(made);
        }
        let gone = || RuntimeError::NotFound { kind: "container", name: spec.name.clone() };
        self.container_inspect(&made.id).await?.ok_or_else(gone)
    }

    /// Created by this call or an earlier one, in one network at least.
    async fn container_create(&self, spec: &ContainerSpec) -> Result<Container> {
        let what = || format!("create container `{}`", spec.name);
        let entrypoint =
            if needs_image_entrypoint(&spec.settings) { self.image_entrypoint(&spec.image_id).await? } else { None };
        let speaks = Speaks::new(self.connection.client().await?.client_version(), what());
        let body = body(spec, &speaks, entrypoint)?;
        let until = Instant::now() + SHORT;
        loop {
            let options = CreateContainerOptions {
                name: Some(spec.name.clone()),
                platform: spec.settings.platform.clone().unwrap_or_default(),
            };
            let client = self.connection.client().await?;
            let client = match places::old_mac(spec, &speaks) {
                Some(mac) => connection::with_mac(client, &body, mac),
                None => client,
            };
            match bounded(client.create_container(Some(options), body.clone())).await {
                Ok(made) => {
                    for warning in &made.warnings {
                        tracing::warn!(container = spec.name, "Docker: {warning}");
                    }
                    let gone = || RuntimeError::NotFound { kind: "container", name: spec.name.clone() };
                    return self.container_inspect(&made.id).await?.ok_or_else(gone);
                }
                Err(error) if status(&error) == Some(409) => match self.container_inspect(&spec.name).await? {
                    // The name is free again in a moment, or the container is being created by a call that was given up.
                    None | Some(Container { status: Status::Removing, .. }) if Instant::now() < until => {
                        sleep(LOOK_AGAIN).await
                    }
                    Some(found) if ours(&found.labels) == ours(&spec.labels) => return Ok(found),
                    Some(found) => {
                        return Err(RuntimeError::Refused { what: what(), why: name_taken(&found) });
                    }
                    None => return Err(self.connection.fault(what(), error)),
                },
                Err(error) => return Err(self.connection.fault(what(), error)),
            }
        }
    }

    async fn image_entrypoint(&self, id: &str) -> Result<Option<Vec<String>>> {
        let client = self.connection.client().await?;
        let seen = bounded(client.inspect_image(id))
            .await
            .map_err(|e| self.connection.fault(format!("inspect image {id}"), e))?;
        Ok(seen.config.and_then(|c| c.entrypoint))
    }

    pub(super) async fn container_start(&self, id: &str) -> Result<()> {
        let id = plain(id)?;
        let client = self.connection.client().await?;
        bounded(client.start_container(id, None))
            .await
            .map_err(|e| self.connection.fault(format!("start container {id}"), e))
    }

    /// Docker's own stop does the work (it also calls a pending restart off, and goes on when Teal dies meanwhile).
    /// It counts whole seconds, so for a fraction it gets the next whole one, and the SIGKILL comes from here.
    pub(super) async fn container_stop(&self, id: &str, grace: Duration) -> Result<()> {
        let Ok(id) = plain(id) else { return Ok(()) };
        let client = self.connection.client().await?;
        let whole = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let options = StopContainerOptions { t: Some(i32::try_from(whole).unwrap_or(i32::MAX)), ..Default::default() };
        let stopped = timeout(Duration::from_secs(whole) + SHORT, client.stop_container(id, Some(options)));
        let kill = async {
            if grace.subsec_nanos() == 0 {
                return;
            }
            sleep(grace).await;
            let signal = KillContainerOptions { signal: "SIGKILL".into() };
            // Gone already is fine; everything else Docker's own SIGKILL mends within the second.
            let _ = bounded(client.kill_container(id, Some(signal))).await;
        };
        tokio::pin!(stopped, kill);
        let mut killed = false;
        let outcome = loop {
            tokio::select! {
                outcome = &mut stopped => break outcome,
                () = &mut kill, if !killed => killed = true,
            }
        };
        match outcome.unwrap_or(Err(bollard::errors::Error::RequestTimeoutError)) {
            Ok(()) => Ok(()),
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) => Err(self.connection.fault(format!("stop container {id}"), error)),
        }
    }

    pub(super) async fn container_remove(&self, id: &str, options: RemoveContainerOptions) -> Result<()> {
        let Ok(id) = plain(id) else { return Ok(()) };
        let client = self.connection.client().await?;
        match bounded(client.remove_container(id, Some(options))).await {
            Ok(()) => Ok(()),
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) if status(&error) == Some(409) && error.to_string().contains("already in progress") => {
                self.until_gone(id).await
            }
            Err(error) => Err(self.connection.fault(format!("remove container {id}"), error)),
        }
    }

    async fn until_gone(&self, id: &str) -> Result<()> {
        let gone = async {
            while self.container_inspect(id).await?.is_some() {
                sleep(LOOK_AGAIN).await;
            }
            Ok(())
        };
        let late = || RuntimeError::Refused {
            what: format!("remove container {id}"),
            why: format!("Docker has been removing it for {} s", SHORT.as_secs()),
        };
        timeout(SHORT, gone).await.unwrap_or_else(|_| Err(late()))
    }

    pub(super) async fn container_rename(&self, id: &str, name: &str) -> Result<()> {
        let id = plain(id)?;
        if self.container_inspect(id).await?.is_some_and(|container| container.name == name) {
            return Ok(());
        }
        let client = self.connection.client().await?;
        let options = RenameContainerOptions { name: plain(name)?.to_owned() };
        bounded(client.rename_container(id, options))
            .await
            .map_err(|e| self.connection.fault(format!("rename container {id} to `{name}`"), e))
    }

    pub(super) async fn containers_mounting(&self, volume: &str) -> Result<Vec<String>> {
        let client = self.connection.client().await?;
        let filters = HashMap::from([("volume".to_owned(), vec![volume.to_owned()])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let listed = bounded(client.list_containers(Some(options)))
            .await
            .map_err(|e| self.connection.fault("list containers", e))?;
        let mounts = |c: &ContainerSummary| c.mounts.iter().flatten().any(|m| m.name.as_deref() == Some(volume));
        // Docker's filter takes a path in the container for a volume, too.
        let using = listed.into_iter().filter(mounts);
        Ok(using.filter_map(|c| Some(c.names?.first()?.trim_start_matches('/').to_owned())).collect())
    }

    pub(super) async fn container_set_restart(&self, id: &str, restart: Restart) -> Result<()> {
        let id = plain(id)?;
        let client = self.connection.client().await?;
        let body = ContainerUpdateBody { restart_policy: Some(restart_policy(restart)), ..Default::default() };
        bounded(client.update_container(id, body))
            .await
            .map_err(|e| self.connection.fault(format!("set the restart policy of container {id}"), e))
    }

    pub(super) async fn container_inspect(&self, id: &str) -> Result<Option<Container>> {
        let Ok(id) = plain(id) else { return Ok(None) };
        let client = self.connection.client().await?;
        match bounded(client.inspect_container(id, None)).await {
            Ok(seen) => Ok(Some(container(seen))),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.connection.fault(format!("inspect container {id}"), error)),
        }
    }

    pub(super) async fn container_describe(&self, name: &str) -> Result<Option<DescribedContainer>> {
        let Ok(name) = plain(name) else { return Ok(None) };
        let what = || format!("inspect container {name}");
        let client = self.connection.client().await?;
        let seen = match bounded(client.inspect_container(name, None)).await {
            Ok(seen) => seen,
            Err(error) if status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(self.connection.fault(what(), error)),
        };
        // By its id: the name may mean another image by now.
        let image = seen.image.clone().unwrap_or_default();
        let image = bounded(client.inspect_image(&image))
            .await
            .map_err(|e| self.connection.fault(format!("inspect the image of container {name}"), e))?;
        let info = bounded(client.info()).await.map_err(|e| self.connection.fault("ask for the engine's facts", e))?;
        Ok(Some(described::container(seen, image, &described::Defaults::of(info))))
    }

    pub(super) async fn containers(&self, labels: &[(&str, &str)]) -> Result<Vec<Container>> {
        let client = self.connection.client().await?;
        let options = ListContainersOptions { all: true, filters: Some(label_filter(labels)), ..Default::default() };
        let listed = bounded(client.list_containers(Some(options)))
            .await
            .map_err(|e| self.connection.fault("list containers", e))?;
        let ids: Vec<String> = listed.into_iter().filter_map(|c| c.id).collect();
        let looks = ids.iter().map(|id| self.container_inspect(id)).collect::<Vec<_>>();
        // Whatever was removed in between is left out.
        let seen: Vec<Option<Container>> = stream::iter(looks).buffered(INSPECTS_AT_ONCE).try_collect().await?;
        Ok(seen.into_iter().flatten().collect())
    }

    pub(super) async fn containers_publishing(&self, port: u16) -> Result<Vec<String>> {
        let client = self.connection.client().await?;
        let listed = bounded(client.list_containers(Some(ListContainersOptions::default())))
            .await
            .map_err(|e| self.connection.fault("list containers", e))?;
        let publishes = listed.into_iter().filter(|c| c.ports.iter().flatten().any(|p| p.public_port == Some(port)));
        Ok(publishes.filter_map(|c| Some(c.names?.first()?.trim_start_matches('/').to_owned())).collect())
    }
}

pub(super) fn label_filter(labels: &[(&str, &str)]) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), labels.iter().map(|(key, value)| format!("{key}={value}")).collect())])
}

/// An id or a name goes into the path of a request: nothing else may.
pub(super) fn plain(id: &str) -> Result<&str> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    match id.starts_with(|c: char| c.is_ascii_alphanumeric()) && id.chars().all(good) {
        true => Ok(id),
        false => Err(RuntimeError::NotFound { kind: "container", name: id.to_owned() }),
    }
}

fn ours(labels: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    labels.iter().filter(|(key, _)| key.starts_with("teal.")).map(|(k, v)| (k.as_str(), v.as_str())).collect()
}

fn name_taken(found: &Container) -> String {
    let short: String = found.id.chars().take(12).collect();
    match ours(&found.labels).is_empty() {
        true => format!("container {short}, which Teal did not make, has that name; rename or remove it"),
        false => format!("container {short} of another release has that name"),
    }
}
