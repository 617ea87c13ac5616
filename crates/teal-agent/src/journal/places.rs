//! Addresses that Teal has given away: of containers on their networks, of their ports on the host, and of ports that are led
//! elsewhere for a while.

use super::{Diversion, Journal, Result, Written, host_listener};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use teal_model::ids::{Color, ServiceKey};

/// Whose a port of the host is: the same in every release of this color.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub service: ServiceKey,
    pub color: Color,
    pub replica: u32,
    /// Port of the container.
    pub target: u16,
}

/// The port of the host that a slot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    pub port: u16,
    /// The one that it had before, and that somebody else has now.
    pub instead_of: Option<u16>,
}

impl Journal {
    pub fn diversions(&self) -> Result<Vec<Diversion>> {
        let db = self.db();
        let read = || -> std::result::Result<Vec<Diversion>, Box<dyn std::error::Error>> {
            let mut query = db.prepare("SELECT listener, service, stand_in, open FROM diversions ORDER BY listener")?;
            let mut rows = query.query([])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push(Diversion {
                    listener: host_listener(&row.get::<_, String>(0)?)?,
                    service: ServiceKey::try_from(row.get::<_, String>(1)?)?,
                    stand_in: host_listener(&row.get::<_, String>(2)?)?,
                    open: row.get(3)?,
                });
            }
            Ok(all)
        };
        read().map_err(|error| self.io(error))
    }

    pub fn put_diversion(&self, one: &Diversion) -> Result<()> {
        self.write(|t| {
            t.execute(
                "INSERT OR REPLACE INTO diversions (listener, service, stand_in, open) VALUES (?1, ?2, ?3, ?4)",
                params![one.listener.to_string(), one.service.to_string(), one.stand_in.to_string(), one.open],
            )?;
            Ok(())
        })
    }

    /// The fixed address of a container on a network: the one it has, if that is among the `free` ones, else the first of them
    /// that no other container has.
    pub fn assign_address(
        &self,
        network: &str,
        container: &str,
        free: impl Iterator<Item = Ipv4Addr>,
    ) -> Result<Option<Ipv4Addr>> {
        self.write(|t| {
            let mut rows = t.prepare("SELECT container, address FROM addresses WHERE network = ?1")?;
            let taken = rows
                .query_map([network], |row| Ok((row.get::<_, String>(1)?, row.get::<_, String>(0)?)))?
                .collect::<std::result::Result<BTreeMap<_, _>, _>>()?;
            let free: Vec<Ipv4Addr> = free.collect();
            let owner = |address: &&Ipv4Addr| taken.get(&address.to_string());
            let own = free.iter().find(|address| owner(address).is_some_and(|owner| owner == container));
            let Some(address) = own.or_else(|| free.iter().find(|address| owner(address).is_none())) else {
                return Ok(None);
            };
            if own.is_none() {
                t.execute(
                    "INSERT OR REPLACE INTO addresses (network, container, address) VALUES (?1, ?2, ?3)",
                    params![network, container, address.to_string()],
                )?;
            }
            Ok(Some(*address))
        })
    }

    /// The port that a slot keeps; None: it has none yet.
    pub fn host_port(&self, slot: &Slot) -> Result<Option<u16>> {
        kept_port(&self.db(), slot).map_err(|error| self.io(error))
    }

    /// The port of the host that a slot keeps, if it is `free`; else the first of the `candidates` that is, and that no other
    /// slot has. None: there is none.
    pub fn assign_host_port(
        &self,
        slot: &Slot,
        candidates: impl Iterator<Item = u16>,
        free: impl Fn(u16) -> bool,
    ) -> Result<Option<HostPort>> {
        self.write(|t| {
            let kept = kept_port(t, slot)?;
            if let Some(port) = kept.filter(|port| free(*port)) {
                return Ok(Some(HostPort { port, instead_of: None }));
            }
            let mut rows = t.prepare("SELECT port FROM host_ports")?;
            let taken = rows.query_map([], |row| row.get(0))?.collect::<std::result::Result<BTreeSet<u16>, _>>()?;
            let mut others = candidates.filter(|port| !taken.contains(port));
            let Some(port) = others.find(|port| free(*port)) else { return Ok(None) };
            t.execute(
                "INSERT OR REPLACE INTO host_ports (port, service, color, replica, target) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![port, slot.service.to_string(), slot.color.to_string(), slot.replica, slot.target],
            )?;
            Ok(Some(HostPort { port, instead_of: kept }))
        })
    }

    /// The container is gone for good.
    pub fn free_addresses(&self, container: &str) -> Result<()> {
        self.write(|t| {
            t.execute("DELETE FROM addresses WHERE container = ?1", [container])?;
            Ok(())
        })
    }

    /// The network is gone for good.
    pub fn free_network(&self, network: &str) -> Result<()> {
        self.write(|t| {
            t.execute("DELETE FROM addresses WHERE network = ?1", [network])?;
            Ok(())
        })
    }
}

fn kept_port(db: &Connection, slot: &Slot) -> rusqlite::Result<Option<u16>> {
    db.query_row(
        "SELECT port FROM host_ports WHERE service = ?1 AND color = ?2 AND replica = ?3 AND target = ?4",
        params![slot.service.to_string(), slot.color.to_string(), slot.replica, slot.target],
        |row| row.get(0),
    )
    .optional()
}

/// Those of services that nothing is left of: no release, no route, no deployment.
pub(super) fn free_host_ports(t: &Transaction<'_>) -> Written<()> {
    t.execute(
        "DELETE FROM host_ports WHERE service NOT IN (SELECT service FROM unfinished)
         AND service NOT IN (SELECT service FROM services WHERE live IS NOT NULL OR routing IS NOT NULL)",
        [],
    )?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use teal_model::deployment::Routing;
    use teal_model::ids::ReleaseKey;

    fn slot(color: Color, replica: u32) -> Slot {
        Slot { service: ServiceKey::new("shop", "web"), color, replica, target: 8080 }
    }

    fn port(port: u16) -> Option<HostPort> {
        Some(HostPort { port, instead_of: None })
    }

    #[test]
    fn a_slot_keeps_its_port_and_nobody_else_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let (blue, green, second) = (slot(Color::Blue, 1), slot(Color::Green, 1), slot(Color::Blue, 2));
        let first = |slot: &Slot| journal.assign_host_port(slot, 20_000..20_003, |_| true).unwrap();
        assert_eq!(journal.host_port(&blue).unwrap(), None);
        assert_eq!((first(&blue), first(&green), first(&second)), (port(20_000), port(20_001), port(20_002)));
        assert_eq!((first(&blue), first(&green)), (port(20_000), port(20_001)), "in every release");
        assert_eq!(first(&slot(Color::Green, 2)), None, "none is left");
        let moved = journal.assign_host_port(&blue, 20_000..20_005, |port| port != 20_000 && port != 20_003).unwrap();
        assert_eq!(moved, Some(HostPort { port: 20_004, instead_of: Some(20_000) }));
        assert_eq!(journal.host_port(&blue).unwrap(), Some(20_004));
        assert_eq!(first(&slot(Color::Green, 2)), port(20_000), "it was given back");
    }

    #[test]
    fn ports_are_free_again_when_their_service_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let (blue, other) = (slot(Color::Blue, 1), ServiceKey::new("shop", "db"));
        let settings = ReleaseKey::new(blue.service.clone(), 1);
        journal.put_routing(&blue.service, Some(&Routing::to(&settings))).unwrap();
        journal.assign_host_port(&blue, 20_000..20_001, |_| true).unwrap();
        journal.forget(&other).unwrap();
        assert_eq!(journal.host_port(&blue).unwrap(), Some(20_000), "another one was forgotten");
        journal.forget(&blue.service).unwrap();
        assert_eq!(journal.host_port(&blue).unwrap(), None);
    }
}
