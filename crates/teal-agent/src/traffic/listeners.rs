//! The agent's own copy of every listening socket: what a next proxy is given, so that nobody is refused in between.

use super::{Opening, shared, socket, unix};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use teal_model::fault::Fault;
use teal_model::plan::overlap;
use teal_model::wire::{Address, ListenerKey};

#[derive(Debug, Default)]
pub struct Listeners {
    sockets: BTreeMap<ListenerKey, OwnedFd>,
    /// Those that the proxy is not to serve yet.
    reserved: BTreeSet<ListenerKey>,
    /// Asked for, but this host has no IPv6.
    absent: BTreeSet<ListenerKey>,
}

impl Listeners {
    /// One that a proxy had.
    pub fn found(&mut self, listener: ListenerKey, socket: OwnedFd) {
        self.sockets.entry(listener).or_insert(socket);
    }

    pub fn get(&self, listener: &ListenerKey) -> Option<&OwnedFd> {
        self.sockets.get(listener)
    }

    /// What a proxy is to serve.
    pub fn served(&self) -> Vec<ListenerKey> {
        self.sockets.keys().filter(|key| !self.reserved.contains(*key)).cloned().collect()
    }

    /// All or none; returns what is to be served from now on.
    pub fn bind(&mut self, wanted: &[Opening]) -> Result<Vec<ListenerKey>, Fault> {
        let mut new = Vec::new();
        for opening in wanted.iter().filter(|opening| !self.is_known(&opening.listener)) {
            let ours = self.has_path_of(&opening.listener);
            let copied = match (&opening.take_from, opening.listener.tcp()) {
                (Some(from), Some(addr)) => shared::copy(addr, from)?,
                _ => None,
            };
            let socket = match copied {
                Some(copied) => Some(copied),
                None => socket::bind(&opening.listener, opening.namespace.as_deref(), ours)?,
            };
            new.push((opening.listener.clone(), socket));
        }
        for (key, socket) in new {
            match socket {
                None => drop(self.absent.insert(key)),
                Some(socket) => {
                    self.sockets.insert(key.clone(), socket);
                    self.reserved.insert(key);
                }
            }
        }
        let served = wanted.iter().filter(|opening| opening.served).map(|opening| &opening.listener);
        Ok(served.filter(|key| self.reserved.remove(*key)).cloned().collect())
    }

    /// What [`Listeners::bind`] would be refused for.
    pub fn cannot_bind(&self, wanted: &[ListenerKey]) -> Result<(), Fault> {
        wanted.iter().filter(|key| !self.is_known(key)).try_for_each(socket::cannot_bind)
    }

    fn is_known(&self, key: &ListenerKey) -> bool {
        self.sockets.contains_key(key) || self.absent.contains(key)
    }

    /// Closes every other one, and returns which.
    pub fn retain(&mut self, wanted: &BTreeSet<ListenerKey>) -> Vec<ListenerKey> {
        let remove: Vec<_> = self.sockets.keys().filter(|key| !wanted.contains(key)).cloned().collect();
        for key in &remove {
            self.sockets.remove(key);
            self.reserved.remove(key);
            if let Address::Unix(socket) = &key.addr
                && !self.has_path_of(key)
            {
                unix::unlink(socket);
            }
        }
        self.absent.retain(|key| wanted.contains(key));
        remove
    }

    /// Another socket of ours has, or had, the same path.
    fn has_path_of(&self, listener: &ListenerKey) -> bool {
        listener.tcp().is_none() && self.sockets.keys().any(|other| overlap(other, listener))
    }
}
