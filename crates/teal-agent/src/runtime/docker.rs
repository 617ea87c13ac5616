//! The real engine: Docker 20.10 (API 1.41) and newer, over its Unix socket.
//!
//! ```text
//! DockerRuntime ─ lifecycle, files, places, network, holder, pull, streams    one file a noun, each call repeatable
//!        │              └─ container ─ limits, isolation, mounts              Teal's words into Docker's; seen, described: and back
//!        └─ connection, version                      where, which API version, what an error means, what is too new
//! ```
//!
//! Calls that answer at once are bounded by a minute; pulls, logs, events and stops end when they are done or dropped.

mod connection;
mod container;
mod credentials;
mod described;
mod files;
pub mod holder;
mod isolation;
mod lifecycle;
mod limits;
mod mounts;
mod network;
mod pid;
mod places;
mod pull;
mod reach;
pub mod reference;
mod seen;
mod streams;
mod subnet;
mod version;

use super::{
    Container, ContainerEvent, ContainerSpec, Engine, Image, ImageOnDisk, LogLine, NetworkFacts, NetworkSpec, Place,
    PullProgress, Result, Runtime, RuntimeError,
};
use async_trait::async_trait;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{
    ListImagesOptions, RemoveContainerOptions, RemoveImageOptions, RemoveVolumeOptions, TagImageOptions,
};
use connection::{Connection, bounded, status};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use teal_model::api::DescribedContainer;
use teal_model::config::{FileToWrite, Restart};
use tokio::sync::{Mutex, OnceCell, mpsc};

/// The shortest beginning of an id that people use.
const SHORT_ID: usize = 12;
const LINES_WAITING: usize = 64;

pub struct DockerRuntime {
    connection: Connection,
    /// Where `docker login` keeps credentials.
    config_dir: PathBuf,
    /// Held while networks are made or removed.
    networks: Mutex<()>,
    /// What `closed` has found.
    closed: OnceCell<Option<String>>,
}

/// Err: an engine with this API version cannot make that container. Nothing is asked of a daemon.
pub(super) fn refuse(spec: &ContainerSpec, api_version: &str) -> Result<()> {
    let what = format!("create container `{}`", spec.name);
    let unreadable = || RuntimeError::Refused { what: what.clone(), why: format!("no API version: {api_version}") };
    let speaks = version::Speaks::new(connection::parse_version(api_version).ok_or_else(unreadable)?, &what);
    container::body(spec, &speaks, None).map(drop)
}

impl DockerRuntime {
    /// At `$DOCKER_HOST`, else at Docker's usual socket; the first call makes the connection. Err: DOCKER_HOST is not
    /// one that Teal can use.
    pub fn from_env() -> Result<Self> {
        Connection::from_env().map(Self::on)
    }

    /// At `unix:///PATH`.
    pub fn at(host: &str) -> Result<Self> {
        Connection::at(host).map(Self::on)
    }

    /// Reads credentials from this folder's `config.json` instead of `$DOCKER_CONFIG` or `~/.docker`.
    pub fn with_config_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.config_dir = dir.into();
        self
    }

    fn on(connection: Connection) -> Self {
        Self { connection, config_dir: credentials::config_dir(), networks: Mutex::new(()), closed: OnceCell::new() }
    }

    async fn image_at(&self, exact: &str) -> Result<Option<Image>> {
        let client = self.connection.client().await?;
        match bounded(client.inspect_image(exact)).await {
            Ok(seen) => Ok(Some(seen::image(seen))),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.connection.fault(format!("inspect image {exact}"), error)),
        }
    }

    async fn image_tag(&self, id: &str, name: &str) -> Result<()> {
        let what = || format!("name image {id} `{name}`");
        let named =
            reference::Reference::parse(name).map_err(|why| RuntimeError::Refused { what: what(), why: why.into() })?;
        let options = TagImageOptions { repo: Some(named.name()), tag: named.tag };
        let client = self.connection.client().await?;
        bounded(client.tag_image(id, Some(options))).await.map_err(|error| self.connection.fault(what(), error))
    }

    async fn image_remove(&self, reference: &str) -> Result<bool> {
        let what = || format!("remove image `{reference}`");
        let exact = if reference::is_id(reference) {
            reference.to_owned()
        } else {
            let named = reference::Reference::parse(reference);
            named.map_err(|why| RuntimeError::Refused { what: what(), why: why.into() })?.full()
        };
        let client = self.connection.client().await?;
        match bounded(client.remove_image(&exact, None::<RemoveImageOptions>, None)).await {
            Ok(_) => Ok(true),
            // Gone, or in use: by a container, by an image made from it, or by other names (an id).
            Err(error) if matches!(status(&error), Some(404 | 409)) => Ok(false),
            Err(error) => Err(self.connection.fault(what(), error)),
        }
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    async fn engine(&self) -> Result<Engine> {
        let client = self.connection.client().await?;
        let info = bounded(client.info()).await.map_err(|e| self.connection.fault("ask for the engine's facts", e))?;
        let unreachable = self.unreachable(&info).await?;
        Ok(Engine {
            version: info.server_version.unwrap_or_default(),
            api_version: client.client_version().to_string(),
            root_dir: info.docker_root_dir.unwrap_or_default(),
            unreachable,
            live_restore: info.live_restore_enabled.unwrap_or(false),
        })
    }

    async fn closed(&self) -> Result<Option<String>> {
        self.closed.get_or_try_init(|| self.look_inside()).await.cloned()
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        if reference::is_id(reference) {
            return self.image_at(reference).await;
        }
        let named = reference::Reference::parse(reference)
            .map_err(|why| RuntimeError::Refused { what: format!("look for image `{reference}`"), why: why.into() })?;
        let found = self.image_at(&named.full()).await?;
        // By name first: `cafe` may be the beginning of somebody's id.
        let hex = reference.len() >= SHORT_ID && reference.chars().all(|c| c.is_ascii_hexdigit());
        if found.is_none() && hex { self.image_at(reference).await } else { Ok(found) }
    }

    async fn images(&self) -> Result<Vec<ImageOnDisk>> {
        let client = self.connection.client().await?;
        // Also those that another image was made from: a release may have been one.
        let options = ListImagesOptions { all: true, ..Default::default() };
        let listed = bounded(client.list_images(Some(options))).await;
        Ok(listed.map_err(|e| self.connection.fault("list images", e))?.into_iter().map(seen::image_on_disk).collect())
    }

    async fn pull(&self, reference: &str, progress: mpsc::Sender<PullProgress>) -> Result<Image> {
        pull::pull(self, reference, &progress).await?;
        let gone = || RuntimeError::Pull {
            image: reference.to_owned(),
            why: "it was pulled, and removed at once by somebody else".into(),
        };
        self.image(reference).await?.ok_or_else(gone)
    }

    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<NetworkFacts> {
        self.network_ensure(spec).await
    }

    async fn network_addresses(&self, name: &str) -> Result<BTreeMap<IpAddr, String>> {
        self.network_taken(name).await
    }

    async fn networks(&self, labels: &[(&str, &str)]) -> Result<Vec<String>> {
        self.networks_labelled(labels).await
    }

    async fn remove_network(&self, name: &str, agent: &str) -> Result<bool> {
        self.network_remove(name, agent).await
    }

    async fn ensure_volume(
        &self,
        name: &str,
        driver: Option<&str>,
        options: &BTreeMap<String, String>,
        labels: &BTreeMap<String, String>,
    ) -> Result<()> {
        let client = self.connection.client().await?;
        // One that exists is used as it is, whatever its driver: it holds somebody's data.
        match bounded(client.inspect_volume(lifecycle::plain(name)?)).await {
            Ok(_) => return Ok(()),
            Err(error) if status(&error) == Some(404) => {}
            Err(error) => {
                return Err(self.connection.fault(format!("inspect volume `{name}`"), error));
            }
        }
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            driver: driver.map(str::to_owned),
            driver_opts: Some(options.clone().into_iter().collect()),
            labels: Some(labels.clone().into_iter().collect()),
            ..Default::default()
        };
        bounded(client.create_volume(request))
            .await
            .map(drop)
            .map_err(|e| self.connection.fault(format!("create volume `{name}`"), e))
    }

    async fn volume_users(&self, name: &str) -> Result<Vec<String>> {
        self.containers_mounting(name).await
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        let client = self.connection.client().await?;
        match bounded(client.remove_volume(lifecycle::plain(name)?, None::<RemoveVolumeOptions>)).await {
            Ok(()) => Ok(()),
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) => Err(self.connection.fault(format!("remove volume `{name}`"), error)),
        }
    }

    async fn ensure_container(&self, spec: &ContainerSpec) -> Result<Container> {
        self.container_ensure(spec).await
    }

    async fn start(&self, id: &str) -> Result<()> {
        self.container_start(id).await
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        self.container_stop(id, grace).await
    }

    async fn remove(&self, id: &str, force: bool) -> Result<()> {
        self.container_remove(id, RemoveContainerOptions { force, v: false, link: false }).await
    }

    async fn remove_with_volumes(&self, id: &str) -> Result<()> {
        self.container_remove(id, RemoveContainerOptions { force: true, v: true, link: false }).await
    }

    async fn connect(&self, id: &str, place: &Place) -> Result<()> {
        self.network_connect(id, place).await
    }

    async fn disconnect(&self, id: &str, network: &str) -> Result<()> {
        self.network_disconnect(id, network).await
    }

    async fn write_files(&self, id: &str, files: &[FileToWrite]) -> Result<()> {
        self.files_write(id, files).await
    }

    async fn holder_image(&self) -> Result<Image> {
        self.holder().await
    }

    async fn remove_image(&self, reference: &str) -> Result<bool> {
        self.image_remove(reference).await
    }

    async fn tag_image(&self, id: &str, name: &str) -> Result<()> {
        self.image_tag(id, name).await
    }

    async fn rename(&self, id: &str, name: &str) -> Result<()> {
        self.container_rename(id, name).await
    }

    async fn set_restart(&self, id: &str, restart: Restart) -> Result<()> {
        self.container_set_restart(id, restart).await
    }

    async fn inspect(&self, id: &str) -> Result<Option<Container>> {
        self.container_inspect(id).await
    }

    async fn describe(&self, name: &str) -> Result<Option<DescribedContainer>> {
        self.container_describe(name).await
    }

    async fn list(&self, labels: &[(&str, &str)]) -> Result<Vec<Container>> {
        self.containers(labels).await
    }

    async fn publishing(&self, port: u16) -> Result<Vec<String>> {
        self.containers_publishing(port).await
    }

    async fn tail(&self, id: &str, lines: u32) -> Result<Vec<LogLine>> {
        let (to, mut from) = mpsc::channel(LINES_WAITING);
        let collect = async {
            let mut all = Vec::new();
            while let Some(line) = from.recv().await {
                all.push(line);
            }
            all
        };
        let (read, all) = tokio::time::timeout(connection::SHORT, async {
            tokio::join!(self.log_lines(id, lines, false, to), collect)
        })
        .await
        .map_err(|_| {
            self.connection
                .fault(format!("read the log of container {id}"), bollard::errors::Error::RequestTimeoutError)
        })?;
        read.map(|()| all)
    }

    async fn logs(&self, id: &str, lines: u32, follow: bool, to: mpsc::Sender<LogLine>) -> Result<()> {
        self.log_lines(id, lines, follow, to).await
    }

    async fn events(&self, labels: &[(&str, &str)]) -> Result<mpsc::Receiver<ContainerEvent>> {
        self.container_events(labels).await
    }

    async fn exec(
        &self,
        id: &str,
        command: &[String],
        tty: bool,
        input: mpsc::Receiver<Vec<u8>>,
        output: mpsc::Sender<Vec<u8>>,
    ) -> Result<i64> {
        self.run_inside(id, command, tty, input, output).await
    }
}
