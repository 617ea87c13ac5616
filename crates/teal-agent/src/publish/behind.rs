//! Services behind an nginx: what it is told of them, which follows from the routings and from ports that stay the same.

use super::{Publisher, Tables};
use crate::journal::Slot;
use crate::nginx::{Need, Server, Upstream, Upstreams};
use crate::store::StoredRelease;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use teal_model::config::{Nginx, NginxProcess};
use teal_model::deployment::Routing;
use teal_model::fault::{Code, Fault};
use teal_model::ids::{ReleaseKey, ServiceKey};

pub(super) type Told = BTreeMap<NginxProcess, Upstreams>;

impl Publisher {
    /// Each nginx serves by these routings. Returns what is to be said and stops nothing.
    pub(super) async fn tell_nginx(
        &self,
        tables: &mut Tables,
        routings: &BTreeMap<ServiceKey, Routing>,
        need: Need,
    ) -> Result<Vec<Fault>, Fault> {
        let told = self.to_tell(tables, routings)?;
        if tables.told.as_ref() == Some(&told) {
            return Ok(Vec::new());
        }
        // Until it has succeeded nobody knows what was told.
        tables.told = None;
        let said = self.nginx.ensure(told.clone(), need).await?;
        tables.told = Some(told);
        Ok(said)
    }

    /// Looks whether each nginx is as it was left: somebody may have restarted it, or removed its file.
    pub async fn look_at_nginx(&self) -> Result<Vec<Fault>, Fault> {
        let mut tables = self.state.lock().await;
        let routings = tables.routings.clone();
        tables.told = None;
        self.tell_nginx(&mut tables, &routings, Need::WillServe).await
    }

    fn to_tell(&self, tables: &mut Tables, routings: &BTreeMap<ServiceKey, Routing>) -> Result<Told, Fault> {
        let world = self.watch.now();
        let mut told = Told::new();
        for (service, routing) in routings {
            // One whose settings cannot be read: what nginx knows of it stays, by not being told at all.
            let settings = self.settings(tables, &routing.settings)?;
            let Some(nginx) = &settings.service.teal.nginx else { continue };
            let mut servers = Vec::new();
            for (release, weight) in routing.split.iter().filter(|(_, weight)| *weight > 0) {
                let stored = self.settings(tables, release)?;
                let addrs = self.called_at(&world, release, &stored)?;
                // One share is all of them, whatever its number.
                let weight = if routing.split.len() == 1 { 1 } else { *weight };
                let server =
                    |addr| Server { addr, release: release.clone(), color: stored.color.unwrap_or_default(), weight };
                servers.extend(addrs.into_iter().map(server));
            }
            let upstream = Upstream { servers, keepalive: nginx.keepalive };
            let of_one = told.entry(nginx.process.clone()).or_default();
            if of_one.insert(nginx.upstream.clone(), upstream).is_some() {
                return Err(taken(service, nginx));
            }
        }
        Ok(told)
    }

    /// Where nginx calls the replicas of a release: ports that their color and index keep, or those that an adopted one has.
    fn called_at(
        &self,
        world: &World,
        release: &ReleaseKey,
        stored: &StoredRelease,
    ) -> Result<BTreeSet<SocketAddr>, Fault> {
        let Some(nginx) = &stored.service.teal.nginx else { return Ok(BTreeSet::new()) };
        let Some(target) = nginx.port else { return Ok(BTreeSet::new()) };
        let mut addrs = BTreeSet::new();
        if let Some(color) = stored.color {
            for replica in 1..=stored.service.replicas {
                let given = given_port(nginx, color, replica, target);
                let slot = Slot { service: release.service.clone(), color, replica, target };
                let port = match given {
                    Some(port) => Some(port),
                    None => self.journal.host_port(&slot)?,
                };
                addrs.extend(port.map(|port| SocketAddr::new(nginx.address, port)));
            }
        }
        for replica in world.of(release).filter(|replica| replica.adopted) {
            let published = replica.container.published.iter().filter(|port| !port.udp);
            let published = published.filter(|port| port.container_port == target).filter_map(|port| port.host_port);
            addrs.extend(published.map(|port| SocketAddr::new(nginx.address, port)));
        }
        Ok(addrs)
    }

    /// The nginx that a release is behind, and where that calls it.
    pub async fn behind(&self, release: &ReleaseKey) -> Result<Option<(NginxProcess, BTreeSet<SocketAddr>)>, Fault> {
        let mut tables = self.state.lock().await;
        let stored = self.settings(&mut tables, release)?;
        let Some(nginx) = &stored.service.teal.nginx else { return Ok(None) };
        Ok(Some((nginx.process.clone(), self.called_at(&self.watch.now(), release, &stored)?)))
    }

    /// Each service behind an nginx, by the settings that hold now.
    pub async fn all_behind(&self) -> Result<BTreeMap<ServiceKey, Nginx>, Fault> {
        let mut tables = self.state.lock().await;
        let mut all = BTreeMap::new();
        for (service, routing) in tables.routings.clone() {
            let settings = self.settings(&mut tables, &routing.settings)?;
            all.extend(settings.service.teal.nginx.clone().map(|nginx| (service, nginx)));
        }
        Ok(all)
    }
}

/// A port of the host that the file gives to a replica: the first of its pair is for the port that nginx calls, the second
/// for the health port.
pub fn given_port(nginx: &Nginx, color: teal_model::ids::Color, replica: u32, target: u16) -> Option<u16> {
    let pair = nginx.ports.get(&color)?.get(replica.checked_sub(1)? as usize)?;
    pair.get(usize::from(nginx.port != Some(target))).copied()
}

/// A name that leads to one service cannot lead to another.
pub fn taken(service: &ServiceKey, nginx: &Nginx) -> Fault {
    let what = format!("the upstream {} of {} is {service}'s already", nginx.upstream, nginx.process.words());
    Fault::new(Code::NginxRefused, what).hint("name another one in `x-teal.nginx.upstream`")
}
