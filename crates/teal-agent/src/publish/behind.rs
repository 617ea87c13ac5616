//! Services behind an nginx: what it is told of them, which follows from the routings and from ports that stay the same.

use super::{Publisher, Tables};
use crate::journal::Slot;
use crate::nginx::{Ensured, Need, Server, Upstream, Wanted};
use crate::store::StoredRelease;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use teal_model::config::{Nginx, NginxPlace, NginxProcess, Probe};
use teal_model::deployment::Routing;
use teal_model::fault::{Code, Fault};
use teal_model::ids::{Color, ReleaseKey, ServiceKey};

/// By place, what each nginx was told last, and what it had to say. One that is missing may not know.
#[derive(Default)]
pub(super) struct Told {
    wanted: BTreeMap<NginxPlace, Wanted>,
    said: BTreeMap<NginxPlace, Vec<Fault>>,
    /// What an nginx did not take: on the way back, which begins with the same routing, it is not tried again.
    refused: BTreeMap<NginxPlace, Wanted>,
}

impl Told {
    fn of(&self, service: &ServiceKey) -> impl Iterator<Item = (&NginxPlace, &String, &Upstream)> {
        let all =
            self.wanted.iter().flat_map(|(place, one)| one.upstreams.iter().map(move |(name, it)| (place, name, it)));
        all.filter(move |(_, _, upstream)| upstream.service == *service)
    }

    fn take(&mut self, wanted: BTreeMap<NginxPlace, Wanted>, ensured: &Ensured) {
        for (place, said) in &ensured.done {
            match wanted.get(place) {
                Some(one) => drop(self.wanted.insert(place.clone(), one.clone())),
                None => drop(self.wanted.remove(place)),
            }
            self.said.insert(place.clone(), said.clone());
        }
    }

    fn words(&self, ensured: Ensured) -> Vec<Fault> {
        self.said.values().flatten().cloned().chain(ensured.said).chain(ensured.failed).collect()
    }
}

impl Publisher {
    /// Each nginx serves by these routings. Those of `changed` services must; returns what is to be said of all.
    pub(super) async fn tell_nginx(
        &self,
        tables: &mut Tables,
        routings: &BTreeMap<ServiceKey, Routing>,
        need: Need,
        changed: &[ServiceKey],
    ) -> Result<Vec<Fault>, Fault> {
        let wanted = self.to_tell(tables, routings, changed)?;
        let is_told = |place: &NginxPlace| tables.told.wanted.get(place) == wanted.get(place);
        let is_refused = |place: &NginxPlace| need == Need::Back && tables.told.refused.get(place) == wanted.get(place);
        let skip: BTreeSet<NginxPlace> =
            wanted.keys().filter(|place| is_told(place) || is_refused(place)).cloned().collect();
        if skip.len() == wanted.len() && tables.told.wanted.len() == wanted.len() {
            return Ok(tables.told.words(Ensured::default()));
        }
        let is_changed = |one: &Wanted| one.upstreams.values().any(|upstream| changed.contains(&upstream.service));
        let all = wanted.iter().chain(&tables.told.wanted);
        let asked = all.filter(|(_, one)| is_changed(one)).map(|(place, _)| place.clone()).collect();
        tables.told.wanted.retain(|place, _| skip.contains(place));
        let mut ensured = self.nginx.ensure(&wanted, &skip, need, &asked).await;
        tables.told.refused.retain(|place, _| !ensured.done.contains_key(place));
        if need == Need::Serves {
            let refused =
                wanted.iter().filter(|(place, _)| !ensured.done.contains_key(*place) && !skip.contains(*place));
            tables.told.refused.extend(refused.map(|(place, one)| (place.clone(), one.clone())));
        }
        tables.told.take(wanted, &ensured);
        match ensured.failed.take() {
            Some(fault) => Err(fault),
            None => Ok(tables.told.words(ensured)),
        }
    }

    /// Looks whether each nginx is as it was left: somebody may have restarted it, or removed its file. The tables are not
    /// locked meanwhile; a flip waits.
    pub async fn look_at_nginx(&self) -> Vec<Fault> {
        let _telling = self.telling.lock().await;
        let wanted = {
            let mut tables = self.state.lock().await;
            let routings = tables.routings.clone();
            self.to_tell(&mut tables, &routings, &[])
        };
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(fault) => return vec![fault],
        };
        let nobody = BTreeSet::new();
        let ensured = self.nginx.ensure(&wanted, &nobody, Need::Kept, &nobody).await;
        let mut tables = self.state.lock().await;
        // All of them were looked at: one that has gone has nothing to say.
        tables.told.said.clear();
        tables.told.take(wanted, &ensured);
        tables.told.words(ensured)
    }

    fn to_tell(
        &self,
        tables: &mut Tables,
        routings: &BTreeMap<ServiceKey, Routing>,
        changed: &[ServiceKey],
    ) -> Result<BTreeMap<NginxPlace, Wanted>, Fault> {
        let world = self.watch.now();
        let mut wanted: BTreeMap<NginxPlace, Wanted> = BTreeMap::new();
        for (service, routing) in routings {
            match self.upstream_of(tables, &world, service, routing) {
                Ok(None) => {}
                // Nginx goes on as the team has it until the first release has its requests.
                Ok(Some((_, upstream))) if upstream.servers.is_empty() && !self.has_live(service)? => {}
                Ok(Some((nginx, upstream))) => {
                    let one = wanted.entry(nginx.process.place());
                    let one =
                        one.or_insert_with(|| Wanted { process: nginx.process.clone(), upstreams: BTreeMap::new() });
                    // What a service says that changes now is the newest word on a process that several have.
                    if changed.contains(service) {
                        one.process.clone_from(&nginx.process);
                    }
                    if one.upstreams.insert(nginx.upstream.clone(), upstream).is_some() {
                        return Err(taken(service, &nginx));
                    }
                }
                Err(fault) if changed.contains(service) => return Err(fault),
                // As it was told last.
                Err(fault) => {
                    tracing::warn!(%service, %fault, "what its nginx was told of it stays");
                    let before: Vec<_> =
                        tables.told.of(service).map(|(at, name, it)| (at.clone(), name.clone(), it.clone())).collect();
                    for (place, name, upstream) in before {
                        let process = tables.told.wanted[&place].process.clone();
                        let one = wanted.entry(place).or_insert_with(|| Wanted { process, upstreams: BTreeMap::new() });
                        one.upstreams.insert(name, upstream);
                    }
                }
            }
        }
        Ok(wanted)
    }

    fn has_live(&self, service: &ServiceKey) -> Result<bool, Fault> {
        let records = self.journal.services()?;
        Ok(records.iter().any(|record| record.service == *service && record.live.is_some()))
    }

    fn upstream_of(
        &self,
        tables: &mut Tables,
        world: &World,
        service: &ServiceKey,
        routing: &Routing,
    ) -> Result<Option<(Nginx, Upstream)>, Fault> {
        let settings = self.settings(tables, &routing.settings)?;
        let Some(nginx) = &settings.service.teal.nginx else { return Ok(None) };
        let mut called = Vec::new();
        for (release, share) in routing.split.iter().filter(|(_, share)| *share > 0) {
            let stored = self.settings(tables, release)?;
            let addrs = self.called_at(world, release, &stored, |replica| routing.takes(release, replica))?;
            if addrs.is_empty() {
                let what = format!("no port of the host is known at which nginx would call {release}");
                return Err(Fault::new(Code::Internal, what));
            }
            called.push((release, *share, stored.color.unwrap_or_default(), addrs));
        }
        let shares: Vec<(u32, usize)> = called.iter().map(|(_, share, _, addrs)| (*share, addrs.len())).collect();
        let mut servers = Vec::new();
        for ((release, _, color, addrs), weight) in called.into_iter().zip(weights(&shares)) {
            servers.extend(addrs.into_iter().map(|addr| Server { addr, release: release.clone(), color, weight }));
        }
        Ok(Some((nginx.clone(), Upstream { service: service.clone(), servers, keepalive: nginx.keepalive })))
    }

    /// Where nginx calls the replicas of a release: ports that their color and index keep, or those that an adopted one has.
    fn called_at(
        &self,
        world: &World,
        release: &ReleaseKey,
        stored: &StoredRelease,
        takes: impl Fn(u32) -> bool,
    ) -> Result<BTreeSet<SocketAddr>, Fault> {
        let Some(nginx) = &stored.service.teal.nginx else { return Ok(BTreeSet::new()) };
        let Some(target) = nginx.port else { return Ok(BTreeSet::new()) };
        let mut addrs = BTreeSet::new();
        if let Some(color) = stored.color {
            for replica in (1..=stored.service.replicas).filter(|replica| takes(*replica)) {
                let slot = Slot { service: release.service.clone(), color, replica, target };
                let port = match given_port(stored, color, replica, target) {
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
        Ok(Some((nginx.process.clone(), self.called_at(&self.watch.now(), release, &stored, |_| true)?)))
    }

    /// Each service behind an nginx, by the settings that hold now.
    pub async fn all_behind(&self) -> BTreeMap<ServiceKey, Nginx> {
        let mut tables = self.state.lock().await;
        let mut all = BTreeMap::new();
        for (service, routing) in tables.routings.clone() {
            let settings = self.settings(&mut tables, &routing.settings).ok();
            all.extend(settings.and_then(|settings| Some((service, settings.service.teal.nginx.clone()?))));
        }
        all
    }
}

/// The weight of each server of a release, from the release's share and how many servers have it together: as small as they can
/// be, since nginx spreads requests the better the smaller they are.
fn weights(shares: &[(u32, usize)]) -> Vec<u32> {
    let servers = |count: &usize| (*count).max(1) as u64;
    let all = shares.iter().fold(1, |all, (_, count)| all / divisor(all, servers(count)) * servers(count));
    let exact = || shares.iter().map(|(share, count)| u64::from(*share) * (all / servers(count)));
    let common = exact().fold(0, divisor).max(1);
    exact().map(|weight| u32::try_from(weight / common).unwrap_or(u32::MAX)).collect()
}

/// The greatest that divides both.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// A port of the host that the file gives to a replica: the first of its pair is for the port that nginx calls, the second
/// for the health port.
pub fn given_port(stored: &StoredRelease, color: Color, replica: u32, target: u16) -> Option<u16> {
    let nginx = stored.service.teal.nginx.as_ref()?;
    let pair = nginx.ports.get(&color)?.get(replica.checked_sub(1)? as usize)?;
    let health = match stored.service.teal.health.probe {
        Probe::Http { port, .. } | Probe::Tcp { port } => port,
        Probe::Default | Probe::None => None,
    };
    match target {
        port if nginx.port == Some(port) => pair.first().copied(),
        port if health == Some(port) => pair.get(1).copied(),
        _ => None,
    }
}

/// A name that leads to one service cannot lead to another.
pub fn taken(service: &ServiceKey, nginx: &Nginx) -> Fault {
    let what = format!("the upstream {} of {} is {service}'s already", nginx.upstream, nginx.process.words());
    Fault::new(Code::NginxRefused, what).hint("name another one in `x-teal.nginx.upstream`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_gets_its_share_however_many_replicas_have_it() {
        assert_eq!(weights(&[(100, 1)]), [1]);
        assert_eq!(weights(&[(10_000, 3)]), [1]);
        assert_eq!(weights(&[(500, 1), (9_500, 1)]), [1, 19]);
        // One of green has as much as both of blue together.
        assert_eq!(weights(&[(5_000, 1), (5_000, 2)]), [2, 1]);
        assert_eq!(weights(&[(100, 2), (9_900, 2)]), [1, 99]);
        assert_eq!(weights(&[(1, 1), (9_999, 100)]), [100, 9_999]);
        for (green, of_green, of_blue) in [(100, 1, 4), (500, 3, 2), (1_250, 7, 5), (2_500, 1, 1), (9_999, 6, 4)] {
            let weights = weights(&[(green, of_green), (10_000 - green, of_blue)]);
            let (green_gets, blue_gets) =
                (u64::from(weights[0]) * of_green as u64, u64::from(weights[1]) * of_blue as u64);
            assert_eq!(green_gets * 10_000, u64::from(green) * (green_gets + blue_gets), "{weights:?}");
        }
    }
}
