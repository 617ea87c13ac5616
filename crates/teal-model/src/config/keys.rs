//! Every key of the Compose specification and what becomes of it (those of `x-teal` are in teal_keys.rs and safety_keys.rs): the tables
//! behind "unknown key", "not supported" and docs/configuration.md.

mod deploy;
mod lists;
mod project;
mod service;

pub use super::safety_keys::{CANARY, JUDGE, MIGRATE, PREVIEW, ROLLBACK, SMOKE, SMOKE_CHECK, STICKY, WARMUP};
pub use super::teal_keys::{HEALTH, HOLD, LISTEN, NGINX, NGINX_PORTS, ROUTE, TEAL_PROJECT, TEAL_SERVICE, TIMEOUTS};
pub use deploy::*;
pub use lists::*;
pub use project::*;
pub use service::*;

/// What becomes of a key. The text is one or two short sentences for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Read; the text says how.
    Honoured(&'static str),
    /// Without effect, as in Compose itself outside of Swarm or of development; with a warning where people may expect one.
    Accepted { why: &'static str, warns: bool },
    /// Refused by name; the text says what to do instead.
    Refused(&'static str),
    /// Teal's own, and to come; the text says what to do until then.
    NotBuilt(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub standing: Standing,
}

/// A map in the file whose keys are fixed.
#[derive(Debug)]
pub struct Level {
    /// As it stands in the file: `services.<name>.deploy`.
    pub name: &'static str,
    pub keys: &'static [Key],
    /// Whether the specification allows `x-...` here.
    pub extensions: bool,
}

impl Level {
    pub fn standing(&self, key: &str) -> Option<&Standing> {
        self.keys.iter().find(|k| k.name == key).map(|k| &k.standing)
    }
}

pub(super) const fn yes(name: &'static str, how: &'static str) -> Key {
    Key { name, standing: Standing::Honoured(how) }
}

/// Without effect, and nobody would expect one on a server.
pub(super) const fn same(name: &'static str, why: &'static str) -> Key {
    Key { name, standing: Standing::Accepted { why, warns: false } }
}

/// Without effect, and it is said.
pub(super) const fn idle(name: &'static str, why: &'static str) -> Key {
    Key { name, standing: Standing::Accepted { why, warns: true } }
}

pub(super) const fn no(name: &'static str, instead: &'static str) -> Key {
    Key { name, standing: Standing::Refused(instead) }
}

pub(super) const fn later(name: &'static str, until: &'static str) -> Key {
    Key { name, standing: Standing::NotBuilt(until) }
}

/// All levels, in the order of the manual.
pub static LEVELS: [&Level; 57] = [
    &PROJECT,
    &INCLUDE,
    &SERVICE,
    &EXTENDS,
    &BUILD,
    &PORT,
    &MOUNT,
    &MOUNT_BIND,
    &MOUNT_VOLUME,
    &MOUNT_TMPFS,
    &MOUNT_IMAGE,
    &GRANT,
    &DEPENDENCY,
    &ENV_FILE,
    &HEALTHCHECK,
    &LOGGING,
    &SERVICE_NETWORK,
    &ULIMIT,
    &DEVICE,
    &GPU,
    &BLKIO,
    &BLKIO_LIMIT,
    &BLKIO_WEIGHT,
    &DEPLOY,
    &UPDATE_CONFIG,
    &ROLLBACK_CONFIG,
    &RESOURCES,
    &RESOURCE_LIMITS,
    &RESERVATIONS,
    &DEVICE_REQUEST,
    &RESTART_POLICY,
    &PLACEMENT,
    &VOLUME,
    &EXTERNAL,
    &NETWORK,
    &IPAM,
    &IPAM_POOL,
    &SECRET,
    &CONFIG,
    &TEAL_PROJECT,
    &TEAL_SERVICE,
    &ROUTE,
    &LISTEN,
    &HEALTH,
    &WARMUP,
    &HOLD,
    &TIMEOUTS,
    &ROLLBACK,
    &JUDGE,
    &CANARY,
    &STICKY,
    &PREVIEW,
    &MIGRATE,
    &SMOKE,
    &SMOKE_CHECK,
    &NGINX,
    &NGINX_PORTS,
];
