//! The resolved settings of releases, secrets included: root-only files beside the journal.
//!
//! A crash or a reboot must be able to start a release again, so its environment has to be somewhere; it is here and
//! nowhere else (not in the journal, not in an event, not in a log).

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use teal_model::api::DeployRequest;
use teal_model::config::{Network, Service, Volume};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{Color, ReleaseKey};
use teal_model::plan::{Naming, Reach};

/// All that is needed to run a release again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StoredRelease {
    pub service: Service,
    pub volumes: BTreeMap<String, Volume>,
    #[serde(default)]
    pub networks: BTreeMap<String, Network>,
    pub trusted_proxies: Vec<String>,
    pub image_id: Option<String>,
    /// TCP ports that the image names (EXPOSE).
    #[serde(default)]
    pub exposed: Vec<u16>,
    #[serde(default)]
    pub naming: Naming,
    #[serde(default)]
    pub reach: Reach,
    /// None: it was adopted.
    #[serde(default)]
    pub color: Option<Color>,
    /// Other services live in its network: ports that are open there may be theirs, and those come up after it.
    #[serde(default)]
    pub shares_network: bool,
    /// Of the project: where commands of its file run.
    #[serde(default)]
    pub directory: String,
}

pub struct ReleaseStore {
    dir: PathBuf,
}

impl ReleaseStore {
    pub fn open(state_dir: &Path) -> Result<Self, Fault> {
        let dir = state_dir.join("secrets");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|error| unwritable(&dir, &error))?;
        Ok(Self { dir })
    }

    pub fn put_release(&self, release: &ReleaseKey, stored: &StoredRelease) -> Result<(), Fault> {
        self.put(&self.release_path(release), stored)
    }

    pub fn release(&self, release: &ReleaseKey) -> Result<StoredRelease, Fault> {
        get(&self.release_path(release))
    }

    pub fn has_release(&self, release: &ReleaseKey) -> bool {
        self.release_path(release).exists()
    }

    pub fn remove_release(&self, release: &ReleaseKey) -> Result<(), Fault> {
        remove(&self.release_path(release))?;
        remove(&self.migration_path(release))
    }

    /// From here on its migration may have run.
    pub fn mark_migrated(&self, release: &ReleaseKey) -> Result<(), Fault> {
        self.put(&self.migration_path(release), &())
    }

    pub fn may_have_migrated(&self, release: &ReleaseKey) -> bool {
        self.migration_path(release).exists()
    }

    /// What a running deployment was asked for: the plan is made again when the images are here.
    pub fn put_request(&self, deployment: u64, request: &DeployRequest) -> Result<(), Fault> {
        self.put(&self.request_path(deployment), request)
    }

    pub fn request(&self, deployment: u64) -> Result<DeployRequest, Fault> {
        get(&self.request_path(deployment))
    }

    /// Removes everything that is not named, what an interrupted write left included.
    pub fn retain(&self, releases: &BTreeSet<ReleaseKey>, deployments: &BTreeSet<u64>) -> Result<(), Fault> {
        let kept: BTreeSet<PathBuf> = releases
            .iter()
            .flat_map(|release| [self.release_path(release), self.migration_path(release)])
            .chain(deployments.iter().map(|number| self.request_path(*number)))
            .collect();
        let entries = std::fs::read_dir(&self.dir).map_err(|error| unwritable(&self.dir, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| unwritable(&self.dir, &error))?.path();
            if !kept.contains(&path) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn release_path(&self, release: &ReleaseKey) -> PathBuf {
        self.dir.join(format!("{}.{}.{}.json", release.service.project, release.service.service, release.number))
    }

    fn migration_path(&self, release: &ReleaseKey) -> PathBuf {
        self.release_path(release).with_extension("migration.json")
    }

    fn request_path(&self, deployment: u64) -> PathBuf {
        self.dir.join(format!("deployment-{deployment}.json"))
    }

    /// Whole or not at all: a crash leaves the old file or the new one.
    fn put(&self, path: &Path, value: &impl Serialize) -> Result<(), Fault> {
        let text = serde_json::to_vec(value)
            .map_err(|error| Fault::new(Code::Internal, format!("{}: {error}", path.display())))?;
        let part = path.with_extension("part");
        let write = || -> std::io::Result<()> {
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&part, path)
        };
        write().map_err(|error| {
            // What could not be written whole is not left behind; that it cannot be removed either adds nothing to the error.
            let _ = std::fs::remove_file(&part);
            unwritable(path, &error)
        })
    }
}

fn get<T: DeserializeOwned>(path: &Path) -> Result<T, Fault> {
    let text = std::fs::read(path)
        .map_err(|error| Fault::new(Code::StateDir, format!("{} cannot be read: {error}", path.display())))?;
    serde_json::from_slice(&text).map_err(|error| {
        // serde_json's error tells line and column, never a value.
        Fault::new(
            Code::StateDir,
            format!("{} is damaged: line {}, column {}", path.display(), error.line(), error.column()),
        )
    })
}

fn remove(path: &Path) -> Result<(), Fault> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unwritable(path, &error)),
        _ => Ok(()),
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Fault {
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    Fault::new(
        if full { Code::DiskFull } else { Code::StateDir },
        format!("{} cannot be written: {error}", path.display()),
    )
}
