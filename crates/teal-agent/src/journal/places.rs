//! Addresses that Teal has given away: of containers on their networks, and of ports that are led elsewhere for a while.

use super::{Diversion, Journal, Result, host_listener};
use rusqlite::params;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use teal_model::ids::ServiceKey;

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
