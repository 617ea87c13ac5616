//! The state of the engine in memory, and how it changes with time.

use super::networks::{Net, joined};
use super::{App, Effect, Hook, Moment, Op};
use crate::runtime::{
    Container, ContainerEvent, ContainerHealth, ContainerSpec, Engine, HeldVolume, Image, ImageOnDisk, Joined, LogLine,
    Publish, Result, Rhythm, RuntimeError, Status, docker,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use teal_model::config::{FileToWrite, Healthcheck, MountKind, Restart};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

const KILLED: i64 = 137;
const BRIDGE: &str = "bridge";
const IMAGE_BYTES: u64 = 1024 * 1024;
const HOLDER: &str = "teal-holder:1";

pub(super) struct World {
    pub(super) life: u64,
    pub(super) dead: BTreeSet<u64>,
    pub(super) crash_told: Arc<Notify>,
    pub(super) crash_at: Option<(usize, Moment)>,
    pub(super) failures: Vec<(Op, RuntimeError)>,
    pub(super) inspections_fail: bool,
    pub(super) hook: Option<Hook>,
    pub(super) next_index: usize,
    pub(super) journal: Vec<Effect>,
    pub(super) down: bool,
    pub(super) engine: Engine,
    pub(super) closed: Option<String>,
    pub(super) networks: BTreeMap<String, Net>,
    pub(super) volumes: BTreeSet<String>,
    pub(super) said: Arc<Notify>,
    images: BTreeMap<String, (Image, App)>,
    /// Ids of those that are here, with a name or without.
    on_disk: BTreeSet<String>,
    /// By the image that was built from it.
    pub(super) parents: BTreeMap<String, String>,
    /// Name to id, here and at the registry.
    here: BTreeMap<String, String>,
    remote: BTreeMap<String, String>,
    pub(super) containers: Vec<Kept>,
    listeners: Vec<Listener>,
    born: Instant,
    starts: u64,
    made: u64,
}

/// The labels that it asked for, and the way to it.
type Listener = (Vec<(String, String)>, mpsc::Sender<ContainerEvent>);

pub(super) struct Kept {
    pub(super) seen: Container,
    pub(super) app: App,
    pub(super) publish: Vec<Publish>,
    /// By their path.
    pub(super) files: BTreeMap<String, FileToWrite>,
    pub(super) checked: bool,
    pub(super) restart: Restart,
    pub(super) started: Option<Instant>,
    pub(super) ends: Option<(Instant, i64)>,
    /// Asked to stop: no policy brings it back.
    pub(super) stopped: bool,
    pub(super) log: Vec<LogLine>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            life: 0,
            dead: BTreeSet::new(),
            crash_told: Arc::default(),
            crash_at: None,
            failures: Vec::new(),
            inspections_fail: false,
            hook: None,
            next_index: 0,
            journal: Vec::new(),
            down: false,
            engine: Engine {
                version: "0.0.0".into(),
                api_version: "1.41".into(),
                root_dir: "/var/lib/fake".into(),
                unreachable: None,
                live_restore: false,
            },
            closed: None,
            networks: BTreeMap::new(),
            volumes: BTreeSet::new(),
            said: Arc::default(),
            images: BTreeMap::new(),
            on_disk: BTreeSet::new(),
            parents: BTreeMap::new(),
            here: BTreeMap::new(),
            remote: BTreeMap::new(),
            containers: Vec::new(),
            listeners: Vec::new(),
            born: Instant::now(),
            starts: 0,
            made: 0,
        }
    }

    pub(super) fn add_image(&mut self, reference: &str, app: App) -> Image {
        let image = self.add_remote_image(reference, app);
        self.name_image(reference, &image.id);
        image
    }

    /// Whatever had this name before stays, without it.
    pub(super) fn name_image(&mut self, reference: &str, id: &str) -> Option<String> {
        self.on_disk.insert(id.to_owned());
        self.here.insert(reference.to_owned(), id.to_owned())
    }

    pub(super) fn add_remote_image(&mut self, reference: &str, app: App) -> Image {
        self.made += 1;
        let id = format!("sha256:{:064x}", self.made);
        let image = Image {
            id: id.clone(),
            repo_digests: Vec::new(),
            exposed: Vec::new(),
            volumes: Vec::new(),
            has_healthcheck: false,
            labels: BTreeMap::new(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            layers: Vec::new(),
        };
        self.images.insert(id.clone(), (image.clone(), app));
        self.remote.insert(reference.to_owned(), id);
        image
    }

    pub(super) fn change_image(&mut self, id: &str, change: impl FnOnce(&mut Image)) {
        if let Some((image, _)) = self.images.get_mut(id) {
            change(image);
        }
    }

    pub(super) fn image(&self, reference: &str) -> Option<Image> {
        let id = self.here.get(reference).map_or(reference, String::as_str);
        self.images.get(id).filter(|_| self.on_disk.contains(id)).map(|(image, _)| image.clone())
    }

    pub(super) fn images_on_disk(&self) -> Vec<ImageOnDisk> {
        let names = |id: &String| self.here.iter().filter(|(_, of)| *of == id).map(|(name, _)| name.clone()).collect();
        let parent = |id: &String| self.parents.get(id).cloned();
        let on_disk = self.on_disk.iter();
        on_disk
            .map(|id| ImageOnDisk { id: id.clone(), names: names(id), bytes: IMAGE_BYTES, parent: parent(id) })
            .collect()
    }

    pub(super) fn holder_image(&mut self) -> Result<(Image, bool)> {
        if let Some(image) = self.image(HOLDER) {
            return Ok((image, false));
        }
        Ok((self.add_image(HOLDER, App::default()), true))
    }

    /// As Docker: an image that a container has keeps its last name, and an id with several names is not enough.
    pub(super) fn remove_image(&mut self, reference: &str) -> bool {
        let Some(image) = self.image(reference) else { return false };
        let names: Vec<String> = self.here.iter().filter(|(_, id)| **id == image.id).map(|(n, _)| n.clone()).collect();
        let used = self.containers.iter().any(|kept| kept.seen.image_id == image.id);
        let has_child = self.parents.iter().any(|(child, parent)| *parent == image.id && self.on_disk.contains(child));
        match names.as_slice() {
            // The name is off by then.
            [_] if has_child && !used => {
                self.here.remove(reference);
                false
            }
            [] if has_child => false,
            [] | [_] if !used => {
                self.here.retain(|_, id| *id != image.id);
                self.on_disk.remove(&image.id)
            }
            [_, _, ..] if names.iter().any(|name| name == reference) => self.here.remove(reference).is_some(),
            _ => false,
        }
    }

    pub(super) fn pull(&mut self, reference: &str) -> Result<(Image, bool)> {
        let unknown = || RuntimeError::Pull { image: reference.to_owned(), why: "manifest unknown".into() };
        let id = self.remote.get(reference).cloned().ok_or_else(unknown)?;
        let before = self.name_image(reference, &id);
        let image = self.images.get(&id).map(|(image, _)| image.clone()).ok_or_else(unknown)?;
        Ok((image, before != Some(id)))
    }

    pub(super) fn create(&mut self, spec: &ContainerSpec) -> Result<(Container, bool)> {
        if let Some(found) = self.containers.iter().find(|k| k.seen.name == spec.name) {
            let ours = |labels: &BTreeMap<String, String>| {
                labels
                    .iter()
                    .filter(|(k, _)| k.starts_with("teal."))
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect::<Vec<_>>()
            };
            return match ours(&found.seen.labels) == ours(&spec.labels) {
                true => Ok((found.seen.clone(), false)),
                false => Err(RuntimeError::Refused {
                    what: format!("create container `{}`", spec.name),
                    why: "another container has that name".into(),
                }),
            };
        }
        let no_image = || RuntimeError::NotFound { kind: "image", name: spec.image_id.clone() };
        self.image(&spec.image_id).ok_or_else(no_image)?;
        let (image, app) = self.images.get(&spec.image_id).cloned().ok_or_else(no_image)?;
        docker::refuse(spec, &self.engine.api_version)?;
        let volumes = self.mount_volumes(spec, &image);
        let check = spec.settings.healthcheck.as_ref();
        let test = check.and_then(|check| check.test.as_ref());
        let checked = test.map_or(image.has_healthcheck, |t| t.first().is_none_or(|kind| kind != "NONE"));
        let time = |ms: fn(&Healthcheck) -> Option<u64>| check.and_then(ms).map(Duration::from_millis);
        let rhythm = Rhythm::of(time(|check| check.interval_ms), time(|check| check.timeout_ms));
        self.made += 1;
        let seen = Container {
            id: format!("{:064x}", self.made),
            name: spec.name.clone(),
            rhythm: checked.then_some(rhythm),
            labels: spec.settings.labels.iter().chain(&spec.labels).map(|(k, v)| (k.clone(), v.clone())).collect(),
            image_id: spec.image_id.clone(),
            status: Status::Created,
            health: None,
            restarts: 0,
            started_at: "0001-01-01T00:00:00Z".into(),
            pid: 0,
            addresses: BTreeMap::new(),
            networks: spec.networks.iter().map(|place| (place.network.clone(), joined(place))).collect(),
            published: Vec::new(),
            volumes,
        };
        let restart = if spec.restart_now { spec.settings.restart } else { Restart::No };
        let kept = Kept {
            seen: seen.clone(),
            app,
            publish: spec.publish.clone(),
            files: spec.settings.files.iter().map(|file| (file.target.clone(), file.clone())).collect(),
            checked,
            restart,
            started: None,
            ends: None,
            stopped: false,
            log: Vec::new(),
        };
        self.containers.push(kept);
        self.tell(&seen.id, "create");
        Ok((seen, true))
    }

    pub(super) fn start(&mut self, id: &str) -> Result<bool> {
        let at = self.position(id)?;
        let kept = &self.containers[at];
        if kept.seen.status == Status::Running {
            return Ok(false);
        }
        if let Some(why) = &kept.app.cannot_start {
            return Err(RuntimeError::Refused { what: format!("start container {id}"), why: why.clone() });
        }
        self.admit(at)?;
        self.run(at);
        Ok(true)
    }

    pub(super) fn run(&mut self, at: usize) {
        let now = Instant::now();
        self.starts += 1;
        let stamp = self.stamp(self.starts);
        self.plug_in(at);
        let kept = &mut self.containers[at];
        kept.started = Some(now);
        kept.stopped = false;
        let migrates = kept.seen.labels.contains_key(crate::runtime::label::MIGRATION);
        let replica = kept.seen.labels.get(crate::runtime::label::REPLICA).and_then(|replica| replica.parse().ok());
        let exits = kept.app.exits.filter(|_| replica.is_none_or(|replica: u32| replica >= kept.app.exits_from));
        let ends = kept.app.migrates.filter(|_| migrates).or(exits);
        kept.ends = ends.map(|(after, code)| (now + after, code));
        kept.seen.status = Status::Running;
        kept.seen.health = kept.checked.then_some(ContainerHealth::Starting);
        kept.seen.started_at = stamp.clone();
        kept.seen.pid = kept.app.pid;
        let (id, lines) = (kept.seen.id.clone(), kept.app.says.clone());
        self.tell(&id, "start");
        for line in lines {
            self.say(&id, &line, false);
        }
        self.settle();
    }

    /// Asks it to stop; returns how long the caller has to wait, None when it does not run.
    pub(super) fn ask_to_stop(&mut self, id: &str, grace: Duration) -> Option<Duration> {
        let at = self.position(id).ok()?;
        let kept = &mut self.containers[at];
        kept.stopped = true;
        if kept.seen.status != Status::Running {
            return None;
        }
        let (wait, code) = if kept.app.stops_in <= grace { (kept.app.stops_in, 0) } else { (grace, KILLED) };
        let end = Instant::now() + wait;
        if kept.ends.is_none_or(|(own, _)| own > end) {
            kept.ends = Some((end, code));
        }
        Some(wait)
    }

    pub(super) fn remove(&mut self, id: &str, force: bool) -> Result<bool> {
        let Ok(at) = self.position(id) else {
            return Ok(false);
        };
        if self.containers[at].seen.status == Status::Running && !force {
            let why = "You cannot remove a running container".to_owned();
            return Err(RuntimeError::Refused { what: format!("remove container {id}"), why });
        }
        if self.containers[at].seen.status == Status::Running {
            self.containers[at].stopped = true;
            self.end(at, KILLED);
        }
        let id = self.containers[at].seen.id.clone();
        self.tell(&id, "destroy");
        self.containers.remove(at);
        Ok(true)
    }

    pub(super) fn remove_with_volumes(&mut self, id: &str) -> Result<bool> {
        let held = self.find(id).map(|container| container.volumes).unwrap_or_default();
        let removed = self.remove(id, true)?;
        for volume in held.into_values().filter(|volume| volume.anonymous) {
            if self.volume_users(&volume.name).is_empty() {
                self.volumes.remove(&volume.name);
            }
        }
        Ok(removed)
    }

    pub(super) fn rename(&mut self, id: &str, name: &str) -> Result<bool> {
        let at = self.position(id)?;
        match self.containers.iter().position(|kept| kept.seen.name == name) {
            Some(other) if other == at => Ok(false),
            Some(_) => {
                let why = format!("the name \"{name}\" is in use");
                Err(RuntimeError::Refused { what: format!("rename container {id}"), why })
            }
            None => {
                self.containers[at].seen.name = name.to_owned();
                Ok(true)
            }
        }
    }

    pub(super) fn volume_users(&self, name: &str) -> Vec<String> {
        let using = self.containers.iter().filter(|kept| kept.seen.volumes.values().any(|held| held.name == name));
        using.map(|kept| kept.seen.name.clone()).collect()
    }

    pub(super) fn remove_volume(&mut self, name: &str) -> Result<bool> {
        match self.volume_users(name).is_empty() {
            true => Ok(self.volumes.remove(name)),
            false => {
                Err(RuntimeError::Refused { what: format!("remove volume `{name}`"), why: "volume is in use".into() })
            }
        }
    }

    pub(super) fn set_restart(&mut self, id: &str, restart: Restart) -> Result<bool> {
        let at = self.position(id)?;
        let before = std::mem::replace(&mut self.containers[at].restart, restart);
        Ok(before != restart)
    }

    pub(super) fn restart_policy(&self, id: &str) -> Option<Restart> {
        self.position(id).ok().map(|at| self.containers[at].restart)
    }

    pub(super) fn write_files(&mut self, id: &str, files: &[FileToWrite]) -> Result<bool> {
        let at = self.position(id)?;
        let there = &mut self.containers[at].files;
        let before = there.clone();
        there.extend(files.iter().map(|file| (file.target.clone(), file.clone())));
        Ok(*there != before)
    }

    pub(super) fn files(&self, id: &str) -> BTreeMap<String, FileToWrite> {
        self.position(id).map(|at| self.containers[at].files.clone()).unwrap_or_default()
    }

    /// Named, carried over, or new ones without a name.
    fn mount_volumes(&mut self, spec: &ContainerSpec, image: &Image) -> BTreeMap<String, HeldVolume> {
        let mounts = &spec.settings.mounts;
        let written =
            mounts.iter().filter(|m| m.kind == MountKind::Volume).map(|m| (m.target.clone(), m.source.clone()));
        let unmounted = |target: &&String| !mounts.iter().any(|mount| &mount.target == *target);
        let of_image = image.volumes.iter().chain(spec.anonymous.keys()).filter(unmounted).map(|at| (at.clone(), None));
        let wanted: BTreeMap<String, Option<String>> = written.chain(of_image).collect();
        let mut volumes = BTreeMap::new();
        for (target, source) in wanted {
            let anonymous = source.is_none();
            let name = source.or_else(|| spec.anonymous.get(&target).cloned()).unwrap_or_else(|| {
                self.made += 1;
                format!("{:064x}", self.made)
            });
            self.volumes.insert(name.clone());
            volumes.insert(target, HeldVolume { name, anonymous });
        }
        volumes
    }

    pub(super) fn containers(&mut self) -> Vec<Container> {
        self.settle();
        self.containers.iter().map(|k| k.seen.clone()).collect()
    }

    pub(super) fn find(&self, id: &str) -> Option<Container> {
        self.position(id).ok().map(|at| self.containers[at].seen.clone())
    }

    pub(super) fn publishing(&self, port: u16) -> Vec<String> {
        let publishes = self.containers.iter().filter(|k| k.seen.published.iter().any(|p| p.host_port == Some(port)));
        publishes.map(|k| k.seen.name.clone()).collect()
    }

    pub(super) fn exec(&self, id: &str) -> Result<(String, i64)> {
        let kept = &self.containers[self.position(id)?];
        match kept.seen.status {
            Status::Running => Ok(kept.app.exec.clone()),
            _ => Err(RuntimeError::Refused {
                what: format!("run a command in container {id}"),
                why: "it is not running".into(),
            }),
        }
    }

    pub(super) fn log(&self, id: &str) -> Result<(Vec<LogLine>, bool)> {
        let kept = &self.containers[self.position(id)?];
        Ok((kept.log.clone(), kept.seen.status == Status::Running))
    }

    pub(super) fn say(&mut self, id: &str, text: &str, stderr: bool) {
        let at = self.stamp(0);
        if let Ok(index) = self.position(id) {
            self.containers[index].log.push(LogLine { stderr, at, text: text.to_owned() });
            self.said.notify_waiters();
        }
    }

    pub(super) fn answers_at(&mut self, address: IpAddr) -> Option<Container> {
        self.settle();
        let booted = |k: &&Kept| k.started.is_some_and(|s| s + k.app.boots_in <= Instant::now());
        let here = |k: &&Kept| k.seen.status == Status::Running && k.seen.addresses.values().any(|a| *a == address);
        self.containers.iter().filter(here).find(booted).map(|k| k.seen.clone())
    }

    pub(super) fn kill(&mut self, id: &str, code: i64) {
        if let Ok(at) = self.position(id) {
            self.end(at, code);
        }
    }

    pub(super) fn add_stranger(&mut self, name: &str, image_id: &str, published: Option<u16>) -> Container {
        let app = self.images.get(image_id).map(|(_, app)| app.clone()).unwrap_or_default();
        self.made += 1;
        let seen = Container {
            id: format!("{:064x}", self.made),
            name: name.to_owned(),
            labels: BTreeMap::new(),
            image_id: image_id.to_owned(),
            status: Status::Created,
            health: None,
            rhythm: None,
            restarts: 0,
            started_at: String::new(),
            pid: 0,
            addresses: BTreeMap::new(),
            networks: BTreeMap::from([(BRIDGE.to_owned(), Joined::default())]),
            published: Vec::new(),
            volumes: BTreeMap::new(),
        };
        if !self.networks.contains_key(BRIDGE) {
            self.add_network(BRIDGE, BTreeMap::new(), false);
        }
        let publish =
            published.map(|port| Publish { host_port: Some(port), container_port: port, ..Default::default() });
        let kept = Kept {
            seen,
            app,
            publish: publish.into_iter().collect(),
            files: BTreeMap::new(),
            checked: false,
            restart: Restart::UnlessStopped,
            started: None,
            ends: None,
            stopped: false,
            log: Vec::new(),
        };
        self.containers.push(kept);
        let at = self.containers.len() - 1;
        self.run(at);
        self.containers[at].seen.clone()
    }

    pub(super) fn set_down(&mut self, down: bool) {
        self.down = down;
        if down {
            self.listeners.clear();
        }
    }

    pub(super) fn restart_engine(&mut self) {
        self.settle();
        let mut again = Vec::new();
        for at in 0..self.containers.len() {
            let kept = &mut self.containers[at];
            let ran = kept.seen.status == Status::Running;
            let wanted = match kept.restart {
                Restart::Always => ran || kept.started.is_some(),
                Restart::UnlessStopped => ran && !kept.stopped,
                Restart::OnFailure(_) | Restart::No => false,
            };
            kept.stopped = true;
            if ran {
                self.end(at, KILLED);
            }
            if wanted {
                again.push(at);
            }
        }
        self.listeners.clear();
        // Last first, so that addresses change hands.
        for at in again.into_iter().rev() {
            self.run(at);
        }
    }

    pub(super) fn subscribe(&mut self, labels: &[(&str, &str)], to: mpsc::Sender<ContainerEvent>) {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.listeners.push((labels, to));
    }

    pub(super) fn tell(&mut self, id: &str, action: &str) {
        let Some(labels) = self.find(id).map(|c| c.labels) else {
            return;
        };
        let event = ContainerEvent { container: id.to_owned(), action: action.to_owned() };
        self.listeners.retain(|(wanted, to)| {
            let matches = wanted.iter().all(|(k, v)| labels.get(k) == Some(v));
            !matches || to.try_send(event.clone()).is_ok()
        });
    }

    pub(super) fn position(&self, id: &str) -> Result<usize> {
        let found = self.containers.iter().position(|k| k.seen.id == id || k.seen.name == id);
        found.ok_or_else(|| RuntimeError::NotFound { kind: "container", name: id.to_owned() })
    }

    /// The world's time as RFC 3339; `extra` nanoseconds keep two starts of one moment apart.
    fn stamp(&self, extra: u64) -> String {
        let passed = self.born.elapsed();
        let (seconds, nanos) = (passed.as_secs(), u64::from(passed.subsec_nanos()) + extra);
        let (days, h, m, s) = (seconds / 86_400 + 1, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        format!("2026-01-{days:02}T{h:02}:{m:02}:{s:02}.{nanos:09}Z")
    }
}
