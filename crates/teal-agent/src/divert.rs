//! The ports of adopted containers: Docker has them until the first deployment, and then they change hands under load.
//!
//! ```text
//! candidate's turn   stand-ins open (:41234), table routes them, then a firewall rule leads new connections there
//! Draining           connections that Docker holds are counted with those in flight
//! Retiring           adopted containers stop, Docker gives the port back, the listener itself opens (nobody is led there yet)
//! Tidy               the rule goes: new connections find the listener; a moment later the stand-in closes
//! ```
//!
//! A revert leaves out Retiring: the rule goes, and new connections find Docker's port again. What came through a stand-in
//! stays, and is routed as its port is.

use crate::agent::{Agent, fault_of};
use crate::journal::{AdoptedReplica, Diversion};
use crate::runtime::Status;
use crate::sockets::Sockets;
use crate::traffic::Opening;
use crate::world::Adopted;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use teal_model::config::{Restart, Service};
use teal_model::deployment::{Deployment, Health, Routing, State};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::plan::{listeners, overlap};
use teal_model::wire::ListenerKey;

/// How long a stand-in takes connections after its rule has gone: those whose first packet was led there are accepted.
const LINGER: Duration = Duration::from_secs(1);

impl Agent {
    /// The adopted containers of a release; of one that Teal has made, none.
    pub fn adopted_of(&self, release: &ReleaseKey) -> Result<Vec<AdoptedReplica>, Fault> {
        Ok(self.journal.release(release)?.map(|record| record.adopted).unwrap_or_default())
    }

    /// Tells the watcher which containers of somebody else are replicas of ours, by the journal.
    pub fn know_adopted(&self) -> Result<(), Fault> {
        let mut releases: BTreeSet<ReleaseKey> =
            self.journal.services()?.into_iter().filter_map(|record| Some(record.live?.release)).collect();
        for kept in self.journal.unfinished()? {
            let live = kept.deployment.plan.members.into_iter().filter_map(|member| member.live);
            releases.extend(live.filter(|live| live.adopted.is_some()).map(|live| live.release));
        }
        let mut adopted = Adopted::new();
        for release in releases {
            let replicas = self.adopted_of(&release)?;
            adopted.extend(replicas.into_iter().map(|replica| (replica.id, (release.clone(), replica.index))));
        }
        self.watch.adopt(adopted);
        Ok(())
    }

    /// Addresses that Docker has: of adopted containers that run, and of those that would be started again.
    pub fn dockers_ports(&self) -> Result<BTreeSet<ListenerKey>, Fault> {
        let records = self.journal.services()?;
        let mut all: BTreeSet<ListenerKey> =
            records.iter().filter_map(|record| record.live.as_ref()).flat_map(|live| live.published()).collect();
        for replica in self.watch.now().replicas.values() {
            if replica.adopted && replica.container.status == Status::Running {
                all.extend(published(&replica.container));
            }
        }
        Ok(all)
    }

    /// The containers as they were; the engine publishes their ports again.
    pub async fn start_adopted(
        &self,
        release: &ReleaseKey,
        replicas: &[AdoptedReplica],
        restart: Restart,
    ) -> Result<(), Fault> {
        for replica in replicas {
            let gone = || {
                Fault::new(
                    Code::ReplicaExited,
                    format!("{} of {release} is gone: it was adopted, and Teal cannot make it again", replica.name),
                )
                .hint("`teal deploy` puts a release of Teal's own in its place")
            };
            let container = self.runtime.inspect(&replica.id).await.map_err(fault_of)?.ok_or_else(gone)?;
            if container.status != Status::Running {
                self.runtime.start(&replica.id).await.map_err(fault_of)?;
            }
            self.runtime.set_restart(&replica.id, restart).await.map_err(fault_of)?;
        }
        self.watch.refresh().await;
        Ok(())
    }

    /// Names a stand-in for every port that Docker has and the members whose turn has come need, in the journal and to the
    /// publisher.
    pub async fn prepare_diversions(&self, deployment: &Deployment) -> Result<(), Fault> {
        if !leads_away(&deployment.state) {
            return Ok(());
        }
        let mut known = self.journal.diversions()?;
        let dockers = self.dockers_ports()?;
        for member in deployment.plan.members.iter().take(deployment.state.reached(&deployment.plan)) {
            if member.adopted().is_none_or(|adopted| adopted.gap.is_some())
                || !self.answers(deployment, &member.service)
            {
                continue;
            }
            for listener in member.taken_over().filter(|listener| dockers.iter().any(|taken| overlap(taken, listener)))
            {
                if known.iter().any(|one| &one.listener == listener && one.open) {
                    continue;
                }
                let Some(stand_in) = free_beside(listener) else { continue };
                let one =
                    Diversion { listener: listener.clone(), service: member.service.clone(), stand_in, open: true };
                self.journal.put_diversion(&one)?;
                known.retain(|known| known.listener != one.listener);
                known.push(one);
            }
        }
        self.publisher.divert(known).await;
        Ok(())
    }

    /// Somebody would answer what is led to the proxy, or it would wait to be answered. An adopted container whose probe
    /// fails is in no table, and Docker brings it requests all the same.
    fn answers(&self, deployment: &Deployment, service: &ServiceKey) -> bool {
        let world = self.watch.now();
        let serves = |routing: Routing| {
            let mut shared = routing.split.iter().filter(|(_, weight)| *weight > 0);
            routing.holding
                || shared.any(|(release, _)| world.of(release).any(|replica| replica.health() == Health::Ready))
        };
        deployment.routing().remove(service).flatten().is_some_and(serves)
    }

    /// The rules that the journal asks for, and no others: each once its stand-in takes connections.
    pub async fn divert(&self, deployment: Option<&Deployment>) -> Result<(), Fault> {
        let needed = self.publisher.listeners().await;
        let mut led = BTreeMap::new();
        let open = self.journal.diversions()?;
        if deployment.is_some_and(|deployment| !leads_away(&deployment.state)) {
            return Ok(());
        }
        for one in open.into_iter().filter(|one| one.open && needed.contains(&one.stand_in)) {
            let opening = Opening::host(one.stand_in.clone(), true);
            self.traffic.bind(&[opening]).await?;
            led.insert(one.listener, one.stand_in);
        }
        if led.is_empty()
            && deployment.is_some_and(|deployment| deployment.plan.members.iter().all(|one| one.adopted().is_none()))
        {
            return Ok(());
        }
        self.traffic.divert(&led).await
    }

    /// Gives ports that were led away to those who have them from now on: our own listeners, or Docker again. `asking`: the
    /// deployment whose end this is.
    pub async fn end_diversions(&self, project: &str, asking: Option<u64>) -> Result<(), Fault> {
        let all = self.journal.diversions()?;
        let mut busy = BTreeSet::new();
        for kept in self.journal.unfinished()?.into_iter().filter(|kept| Some(kept.deployment.number) != asking) {
            busy.extend(kept.deployment.plan.members.into_iter().map(|member| member.service));
        }
        let ending = |one: &&Diversion| one.open && one.service.project == project && !busy.contains(&one.service);
        let (mut ended, dockers) = (Vec::new(), self.dockers_ports()?);
        let published: BTreeSet<ListenerKey> = self.needed_listeners(asking).await?;
        for one in all.iter().filter(ending) {
            let of_docker = dockers.iter().any(|taken| overlap(taken, &one.listener));
            if !of_docker && published.contains(&one.listener) {
                let opening = Opening::host(one.listener.clone(), true);
                match self.traffic.bind(&[opening]).await {
                    // Somebody has it: what is led away from there stays so, rather than fail.
                    Err(fault) if asking.is_none() => {
                        tracing::warn!(listener = %one.listener, %fault, "it stays led away");
                        continue;
                    }
                    bound => bound?,
                }
            }
            ended.push(Diversion { open: false, ..one.clone() });
        }
        if ended.is_empty() {
            return Ok(());
        }
        let stay = |one: &&Diversion| one.open && !ended.iter().any(|other| other.listener == one.listener);
        let stay: BTreeMap<_, _> =
            all.iter().filter(stay).map(|one| (one.listener.clone(), one.stand_in.clone())).collect();
        self.traffic.divert(&stay).await?;
        tokio::time::sleep(LINGER).await;
        for one in &ended {
            self.journal.put_diversion(one)?;
        }
        self.publisher.divert(self.journal.diversions()?).await;
        Ok(())
    }

    /// Connections to adopted containers that did not come through the proxy. None: nobody can say.
    pub fn direct_connections(&self, release: &ReleaseKey) -> Option<u64> {
        let world = self.watch.now();
        let proxy = self.traffic.state().borrow().pid;
        let mut count = 0;
        for replica in world.of(release).filter(|replica| replica.adopted && replica.container.pid != 0) {
            let pid = u32::try_from(replica.container.pid).ok()?;
            match Sockets::of(pid).and_then(|sockets| sockets.connections(proxy)) {
                Ok(open) => count += open as u64,
                Err(error) => {
                    tracing::warn!(container = replica.container.name, %error, "its connections cannot be counted");
                    return None;
                }
            }
        }
        Some(count)
    }
}

/// From the first table of a member's turn on, and not in a revert: there, what is led away stays so until its end.
fn leads_away(state: &State) -> bool {
    !matches!(state, State::Planned | State::Pulling | State::Migrating { turn: false, .. } | State::Reverting { .. })
        && !state.has_ended()
}

/// A port on the same address that nobody has at this moment.
fn free_beside(listener: &ListenerKey) -> Option<ListenerKey> {
    let ip = listener.tcp()?.ip();
    let bound = TcpListener::bind(SocketAddr::new(ip, 0)).and_then(|listener| listener.local_addr());
    match bound {
        Ok(addr) => Some(ListenerKey::host(addr)),
        Err(error) => {
            // An address of IPv6 on a host without it: nobody comes there.
            tracing::info!(%listener, %error, "it gets no stand-in");
            None
        }
    }
}

/// The addresses that Docker publishes for a container, as listeners would be named.
pub fn published(container: &crate::runtime::Container) -> Vec<ListenerKey> {
    let ports = container.published.iter().filter(|port| !port.udp).filter_map(|port| {
        Some(teal_model::config::Port {
            host_ip: port.host_ip,
            published: port.host_port?,
            target: port.container_port,
            ..Default::default()
        })
    });
    listeners(&Service { ports: ports.collect(), ..Service::default() })
}
