//! How a service's image is built: what `docker build` needs to know.

use super::limits::Ulimit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The agent never reads it: the CLI builds before it deploys. `args` may be secret.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// An absolute folder, or a URL.
    pub context: String,
    /// Relative to the context, or absolute.
    pub dockerfile: Option<String>,
    pub dockerfile_inline: Option<String>,
    pub args: BTreeMap<String, String>,
    pub target: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Further names of the image.
    pub tags: Vec<String>,
    pub platforms: Vec<String>,
    pub cache_from: Vec<String>,
    pub cache_to: Vec<String>,
    pub no_cache: bool,
    /// Pull the base images again.
    pub pull: bool,
    pub network: Option<String>,
    /// Name and place: an absolute folder, a URL, `docker-image://...`.
    pub additional_contexts: BTreeMap<String, String>,
    /// `name:address`.
    pub extra_hosts: Vec<String>,
    pub secrets: Vec<BuildSecret>,
    /// `default`, `id=path`.
    pub ssh: Vec<String>,
    pub shm_size_bytes: Option<u64>,
    pub ulimits: BTreeMap<String, Ulimit>,
    pub entitlements: Vec<String>,
    /// As `docker build --provenance` takes it.
    pub provenance: Option<String>,
    pub sbom: Option<String>,
    /// `pull_policy: build`: at every deployment, whether the image is here or not.
    pub always: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildSecret {
    /// What the Dockerfile calls it: `RUN --mount=type=secret,id=...`.
    pub id: String,
    pub from: BuildSecretSource,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildSecretSource {
    /// An absolute path.
    File(String),
    /// The name of a variable of the environment.
    Environment(String),
}
