//! A proxy with one worker before one backend, for measuring: `proxy 127.0.0.1:8000 127.0.0.1:9000`.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use teal_model::ids::{ReleaseKey, ServiceKey, TableNumber};
use teal_model::wire::{
    Backend, BackendId, ListenerKey, Protocol, ReleaseEntry, Route, RoutePort, RouteTable, ServiceEntry, Share,
};
use teal_proxy::harness::Proxy;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or("usage: proxy LISTEN BACKEND [WORKERS]");
    let (addr, backend): (SocketAddr, SocketAddr) = (next()?.parse()?, next()?.parse()?);
    let workers = next().ok().and_then(|count| count.parse().ok()).unwrap_or(1);
    let proxy = Proxy::start(workers)?;
    let mut agent = proxy.connect().await?;
    let listener = ListenerKey::host(addr);
    agent.listen(listener.clone(), TcpListener::bind(addr)?).await?;
    let service = ServiceKey::new("bench", "web");
    let release = ReleaseKey::new(service.clone(), 1);
    let backend = Backend { id: BackendId("a:1".into()), addrs: BTreeMap::from([(RoutePort::Published(80), backend)]) };
    let entry = ServiceEntry {
        split: vec![Share { release: release.clone(), weight: 1 }],
        releases: vec![ReleaseEntry { release, backends: vec![backend], close_tunnels: false }],
        ..ServiceEntry::default()
    };
    let route = Route {
        listener,
        host: None,
        path: "/".into(),
        service: service.clone(),
        port: RoutePort::Published(80),
        protocol: Protocol::Http,
    };
    let table = RouteTable {
        number: TableNumber { epoch: 1, n: 1 },
        routes: vec![route],
        services: BTreeMap::from([(service, entry)]),
        trusted_proxies: Vec::new(),
    };
    agent.publish(&table).await??;
    drop(agent);
    proxy.join()?;
    Ok(())
}
