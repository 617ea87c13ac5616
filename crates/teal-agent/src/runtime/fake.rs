//! An engine in memory for tests: its world outlives the agent, and it fails, waits or crashes wherever a test says.
//!
//! ```text
//! agent 1 ─ FakeRuntime ─┐                 each effect:  Before ─ hook ─ change the world ─ journal ─ After ─ hook
//!    (crashed)           ├─▶ World (images, containers, networks, journal)
//! agent 2 ─ FakeRuntime ─┘                 a crashed agent's calls never return: drop its task, take `restarted()`
//! ```
//!
//! Time is tokio's, so a paused clock boots a container in no time. Networks are 127.0.0.0/24, 127.0.1.0/24...; a container
//! gets the lowest free address of the range at each start (127.0.0.128 and up), as Docker's permute, or its fixed one. Pids
//! are 0 unless the app has one. Whether an app answers at an address, ask `answers_at`; where a name leads to, `resolve`. What Docker is too old for
//! by its API version (1.41 here, see `change_engine`) is refused as there.

mod engine;
mod networks;
mod passing;
mod world;

use super::{
    Container, ContainerEvent, ContainerHealth, ContainerSpec, Engine, Image, ImageOnDisk, LogLine, NetworkFacts,
    NetworkSpec, Place, PullProgress, Result, Runtime, RuntimeError,
};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use teal_model::config::{FileToWrite, Restart};
use tokio::sync::{Notify, mpsc};
use world::World;

/// What the app of an image does once its container starts.
#[derive(Debug, Clone, Default)]
pub struct App {
    /// From the start until it answers at its address.
    pub boots_in: Duration,
    /// It ends by itself, this long after its start, with this code.
    pub exits: Option<(Duration, i64)>,
    /// Replicas before this one do not.
    pub exits_from: u32,
    /// The same of a container that runs its migration.
    pub migrates: Option<(Duration, i64)>,
    /// What the container's HEALTHCHECK finds; only looked at when image or settings have one.
    pub health: Checked,
    /// From the stop signal until it is gone. Longer than the grace: SIGKILL, code 137.
    pub stops_in: Duration,
    /// The engine cannot start it, and says this.
    pub cannot_start: Option<String>,
    /// Lines that it writes when it starts.
    pub says: Vec<String>,
    /// The host's process id of its containers while they run; 0: none that could be held.
    pub pid: i32,
    /// What a command run inside prints, and its exit code.
    pub exec: (String, i64),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Checked {
    /// As soon as the app has booted.
    #[default]
    HealthyOnceBooted,
    HealthyAfter(Duration),
    /// Still `starting` at the end of time.
    StartingForEver,
    /// Unhealthy after this long, with this output.
    UnhealthyAfter(Duration, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    Pull,
    EnsureNetwork,
    RemoveNetwork,
    EnsureVolume,
    RemoveVolume,
    EnsureContainer,
    Start,
    Stop,
    Remove,
    SetRestart,
    Rename,
    Connect,
    Disconnect,
    WriteFiles,
    LoadHolder,
    RemoveImage,
    TagImage,
    Exec,
}

/// One call that may change the world. `on` is a name (of a container, network, volume or image).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Counts from 0 over the life of the world, whoever calls.
    pub index: usize,
    pub op: Op,
    pub on: String,
    /// False: everything was as it should be already. Known from `Moment::After` on.
    pub changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Nothing has happened yet.
    Before,
    /// It happened, and the caller has not heard of it.
    After,
}

/// What a hook makes of a moment.
#[derive(Debug)]
pub enum Fault {
    None,
    /// The caller gets this error; at `After` although it happened.
    Fail(RuntimeError),
    /// This call and all later ones of the same agent never return.
    Crash,
    Delay(Duration),
    /// Until the test says `notify_one`.
    Hold(Arc<Notify>),
}

type Hook = Arc<dyn Fn(&Effect, Moment) -> Fault + Send + Sync>;

/// One agent's way to the world; clones are the same agent.
#[derive(Clone)]
pub struct FakeRuntime {
    world: Arc<Mutex<World>>,
    /// Which life of the agent this handle belongs to.
    life: u64,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self { world: Arc::new(Mutex::new(World::new())), life: 0 }
    }
}

impl FakeRuntime {
    pub fn new() -> Self {
        Self::default()
    }

    /// The same world for the next life of the agent. Calls of earlier lives never return.
    pub fn restarted(&self) -> Self {
        let mut world = self.world();
        world.life += 1;
        Self { world: self.world.clone(), life: world.life }
    }

    /// Resolves when a fault crashed the agent of this handle.
    pub async fn crashed(&self) {
        loop {
            let told = self.world().crash_told.clone();
            let mut waiting = std::pin::pin!(told.notified());
            waiting.as_mut().enable();
            if self.is_dead() {
                return;
            }
            waiting.await;
        }
    }

    /// An image that is here, under this name; its id comes from the name and the version given.
    pub fn add_image(&self, reference: &str, app: App) -> Image {
        self.world().add_image(reference, app)
    }

    /// One more name for an image that is here.
    pub fn tag(&self, id: &str, reference: &str) {
        self.world().name_image(reference, id);
    }

    /// Both are here, and one was built from the other.
    pub fn build_from(&self, parent: &str, child: &str) {
        self.world().parents.insert(child.to_owned(), parent.to_owned());
    }

    /// An image that is here once it is pulled.
    pub fn add_remote_image(&self, reference: &str, app: App) -> Image {
        self.world().add_remote_image(reference, app)
    }

    /// Exposed ports, volumes and a healthcheck for an image that was added.
    pub fn change_image(&self, id: &str, change: impl FnOnce(&mut Image)) {
        self.world().change_image(id, change);
    }

    /// Asked before and after each effect; replaces the hook before it.
    pub fn hook(&self, hook: impl Fn(&Effect, Moment) -> Fault + Send + Sync + 'static) {
        self.world().hook = Some(Arc::new(hook));
    }

    pub fn unhook(&self) {
        self.world().hook = None;
    }

    /// The next effect of this kind fails before it happens. Several calls queue up.
    pub fn fail_next(&self, op: Op, error: RuntimeError) {
        self.world().failures.push((op, error));
    }

    /// The agent crashes at this moment of the effect with this index, once.
    pub fn crash_at(&self, index: usize, moment: Moment) {
        self.world().crash_at = Some((index, moment));
    }

    /// All effects that happened, in order.
    pub fn journal(&self) -> Vec<Effect> {
        self.world().journal.clone()
    }

    /// Only what changed something, as `start app-blue-1`, for assertions.
    pub fn changes(&self) -> Vec<String> {
        self.world().journal.iter().filter(|e| e.changed).map(|e| format!("{:?} {}", e.op, e.on)).collect()
    }

    /// Everything there is, whatever its labels.
    pub fn containers(&self) -> Vec<Container> {
        self.world().containers()
    }

    pub fn networks(&self) -> Vec<String> {
        self.world().networks.keys().cloned().collect()
    }

    pub fn volumes(&self) -> Vec<String> {
        self.world().volumes.iter().cloned().collect()
    }

    /// A network that somebody else made, with a subnet that nobody configured.
    pub fn add_network(&self, name: &str) {
        self.world().add_network(name, BTreeMap::new(), false);
    }

    /// Where a name leads to on a network now: aliases and names of containers that run.
    pub fn resolve(&self, network: &str, name: &str) -> Vec<IpAddr> {
        self.world().resolve(network, name)
    }

    /// Files that were written into a container, by their path.
    pub fn files(&self, id: &str) -> BTreeMap<String, FileToWrite> {
        self.world().files(id)
    }

    /// API version, whether containers are reached...
    pub fn change_engine(&self, change: impl FnOnce(&mut Engine)) {
        change(&mut self.world().engine);
    }

    /// Nobody may enter its containers' network namespaces, for this reason.
    pub fn close_networks(&self, why: &str) {
        self.world().closed = Some(why.to_owned());
    }

    /// The restart policy that a container has now.
    pub fn restart_policy(&self, id: &str) -> Option<Restart> {
        self.world().restart_policy(id)
    }

    /// The container whose app answers at this address now.
    pub fn answers_at(&self, address: IpAddr) -> Option<Container> {
        self.world().answers_at(address)
    }

    /// The container dies now with this code; its restart policy decides what follows.
    pub fn kill(&self, id: &str, code: i64) {
        self.world().kill(id, code);
        self.schedule();
    }

    /// From now on its HEALTHCHECK finds this.
    pub fn set_health(&self, id: &str, health: ContainerHealth) {
        let mut world = self.world();
        if let Ok(at) = world.position(id) {
            world.containers[at].seen.health = Some(health);
            world.tell(id, "health_status");
        }
    }

    /// The container writes a line.
    pub fn say(&self, id: &str, text: &str) {
        self.world().say(id, text, false);
    }

    /// A container that Teal did not make, running, with this published port.
    pub fn add_stranger(&self, name: &str, image_id: &str, published: Option<u16>) -> Container {
        let made = self.world().add_stranger(name, image_id, published);
        self.schedule();
        made
    }

    /// Gives a container these labels instead of its own.
    pub fn relabel(&self, id: &str, labels: &[(&str, &str)]) {
        let mut world = self.world();
        if let Ok(at) = world.position(id) {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            world.containers[at].seen.labels = labels.collect();
        }
    }

    /// From now on (or no more) containers can be listed and not inspected.
    pub fn fail_inspections(&self, fail: bool) {
        self.world().inspections_fail = fail;
    }

    /// From now on (or no more) every call finds the engine unreachable; event streams end.
    pub fn set_down(&self, down: bool) {
        self.world().set_down(down);
    }

    /// The daemon restarts: all containers stop, those whose policy says so start again, at addresses that permute.
    pub fn restart_engine(&self) {
        self.world().restart_engine();
        self.schedule();
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_dead(&self) -> bool {
        let world = self.world();
        world.dead.contains(&self.life) || self.life < world.life
    }

    /// One effect with its moments. `change` says whether it changed anything.
    async fn effect<T>(&self, op: Op, on: &str, change: impl FnOnce(&mut World) -> Result<(T, bool)>) -> Result<T> {
        self.alive().await?;
        let mut effect = {
            let mut world = self.world();
            let index = world.next_index;
            world.next_index += 1;
            Effect { index, op, on: on.to_owned(), changed: false }
        };
        self.moment(&effect, Moment::Before).await?;
        let done = {
            let mut world = self.world();
            world.settle();
            let (done, changed) = change(&mut world)?;
            effect.changed = changed;
            world.journal.push(effect.clone());
            done
        };
        self.schedule();
        self.moment(&effect, Moment::After).await?;
        Ok(done)
    }

    /// A look at the world.
    async fn look<T>(&self, look: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        self.alive().await?;
        let mut world = self.world();
        world.settle();
        look(&mut world)
    }

    async fn alive(&self) -> Result<()> {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
        // An engine answers over a socket: other tasks get their turn.
        tokio::task::yield_now().await;
        match self.world().down {
            true => Err(RuntimeError::Unreachable { at: "fake".into(), why: "connection refused".into() }),
            false => Ok(()),
        }
    }

    async fn moment(&self, effect: &Effect, moment: Moment) -> Result<()> {
        let fault = {
            let mut world = self.world();
            let failing = world.failures.iter().position(|(op, _)| *op == effect.op && moment == Moment::Before);
            if world.crash_at == Some((effect.index, moment)) {
                world.crash_at = None;
                Fault::Crash
            } else if let Some(at) = failing {
                Fault::Fail(world.failures.remove(at).1)
            } else {
                let hook = world.hook.clone();
                drop(world);
                hook.map_or(Fault::None, |hook| hook(effect, moment))
            }
        };
        match fault {
            Fault::None => {}
            Fault::Fail(error) => return Err(error),
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::Hold(until) => until.notified().await,
            Fault::Crash => {
                let mut world = self.world();
                world.dead.insert(self.life);
                world.crash_told.notify_waiters();
            }
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    /// Wakes the world when the next container is due to change, so that events are told in time.
    fn schedule(&self) {
        let Some(due) = self.world().next_due() else {
            return;
        };
        let world = Arc::downgrade(&self.world);
        tokio::spawn(async move {
            let mut due = Some(due);
            while let Some(at) = due {
                tokio::time::sleep_until(at).await;
                let Some(world) = world.upgrade() else { return };
                let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
                world.settle();
                due = world.next_due();
            }
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
