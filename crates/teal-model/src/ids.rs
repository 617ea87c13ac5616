//! The names of things: services, releases, colors, route tables.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A service of a project, written `project/service`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ServiceKey {
    pub project: String,
    pub service: String,
}

impl ServiceKey {
    pub fn new(project: impl Into<String>, service: impl Into<String>) -> Self {
        Self { project: project.into(), service: service.into() }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.service)
    }
}

impl From<ServiceKey> for String {
    fn from(key: ServiceKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for ServiceKey {
    type Error = String;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once('/') {
            Some((project, service)) if !project.is_empty() && !service.is_empty() => Ok(Self::new(project, service)),
            _ => Err(format!("`{text}` is not `project/service`")),
        }
    }
}

/// A release of a service, written `project/service@number`; the number only grows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ReleaseKey {
    pub service: ServiceKey,
    pub number: u64,
}

impl ReleaseKey {
    pub fn new(service: ServiceKey, number: u64) -> Self {
        Self { service, number }
    }
}

impl fmt::Display for ReleaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.service, self.number)
    }
}

impl From<ReleaseKey> for String {
    fn from(key: ReleaseKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for ReleaseKey {
    type Error = String;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = || format!("`{text}` is not `project/service@number`");
        let (service, number) = text.rsplit_once('@').ok_or_else(wrong)?;
        Ok(Self { service: ServiceKey::try_from(service.to_owned())?, number: number.parse().map_err(|_| wrong())? })
    }
}

/// The slot that a release's containers are named after; the colors take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    #[default]
    Blue,
    Green,
}

impl Color {
    pub fn other(self) -> Self {
        match self {
            Color::Blue => Color::Green,
            Color::Green => Color::Blue,
        }
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Color::Blue => "blue",
            Color::Green => "green",
        })
    }
}

/// The number of a route table. `epoch` grows with every start of an agent, `n` with every table it builds;
/// a proxy refuses a number lower than the one it serves by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct TableNumber {
    pub epoch: u64,
    pub n: u64,
}

impl fmt::Display for TableNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.n)
    }
}
