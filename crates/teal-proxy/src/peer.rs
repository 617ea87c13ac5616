//! Who is at the other end of a connection, whether its word on earlier clients is believed, and who the client is by it.

use crate::http1::request::{Peer, Request};
use crate::http1::{field, head};
use crate::table::Table;
use crate::worker::{Listener, Worker};
use std::net::{IpAddr, SocketAddr};
use teal_model::ids::TableNumber;

#[derive(Debug)]
pub(crate) struct JudgedPeer {
    /// None: it came by a socket with a path.
    addr: Option<IpAddr>,
    pub(crate) words: Peer,
    by: TableNumber,
}

impl JudgedPeer {
    pub(crate) fn new(addr: Option<IpAddr>, listener: &Listener, worker: &Worker) -> Self {
        let table = worker.table();
        let inside = listener.key.namespace.is_some();
        let words = match addr {
            Some(addr) => Peer::new(addr, table.trusts(addr), inside, listener.key.addr.to_string()),
            None => Peer::of_this_host("localhost".to_owned()),
        };
        Self { addr: addr.map(|addr| addr.to_canonical()), words, by: table.number }
    }

    /// By the table of this moment: a connection outlives many.
    pub(crate) fn judge(&mut self, worker: &Worker) {
        if self.by != worker.table_number() {
            let table = worker.table();
            self.words.trusted = self.addr.is_none_or(|addr| table.trusts(addr));
            self.by = table.number;
        }
    }

    fn is_believed(&self) -> bool {
        self.words.trusted && !self.words.inside
    }

    /// Whose request it is: the peer, or the last address before the trusted proxies in the `X-Forwarded-For` of the written
    /// head. None: it is not known.
    pub(crate) fn client(&self, table: &Table, head: &[u8]) -> Option<IpAddr> {
        if !self.is_believed() {
            return self.addr;
        }
        let said = |name| head::values(head, name).flat_map(field::elements);
        let mut hops: Vec<_> = said("X-Forwarded-For").collect();
        // One of each is our own. A proxy that only speaks RFC 7239 is not taken for the client.
        if hops.len() == usize::from(self.addr.is_some()) && said("Forwarded").count() > 1 {
            return None;
        }
        let mut client = self.addr;
        while let Some(hop) = hops.pop() {
            let addr = address(hop)?;
            client = Some(addr);
            if !table.trusts(addr) {
                break;
            }
        }
        client
    }

    /// The client, where nobody else can have been taken for it. None: a proxy that is not trusted may stand before it, or one that
    /// is trusted does not say for whom it asks.
    pub(crate) fn certain_client(&self, table: &Table, request: &Request, head: &[u8]) -> Option<IpAddr> {
        if self.words.inside || request.relayed && !self.words.trusted {
            return None;
        }
        self.client(table, head).filter(|client| !(self.words.trusted && table.trusts(*client)))
    }

    pub(crate) fn came_by_https(&self, head: &[u8]) -> bool {
        let said = || head::values(head, "X-Forwarded-Proto").flat_map(field::elements).next();
        self.is_believed() && said().is_some_and(|said| said.eq_ignore_ascii_case(b"https"))
    }
}

/// `192.0.2.1`, `2001:db8::1`, either with a port.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?;
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let addr = bare.parse::<IpAddr>().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()));
    addr.map(|addr| addr.to_canonical())
}
