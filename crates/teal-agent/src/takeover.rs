//! `teal takeover`: a port that a process of this host listens on, nginx say, comes to Teal with no moment closed, since its
//! listening socket is copied (traffic/shared.rs).

use crate::agent::Agent;
use crate::traffic::shared::{Found, found, look, unseen};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use teal_model::api::{DeployRequest, Holder};
use teal_model::config::Service;
use teal_model::deployment::Deployment;
use teal_model::fault::{Code, Fault};
use teal_model::plan::{Take, listeners};
use teal_model::wire::ListenerKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// After a copy was closed: connections that were accepted say what they want.
const LINGER: Duration = Duration::from_secs(1);
/// For the answer that tells whether a port speaks TLS.
const ASKED_WITHIN: Duration = Duration::from_secs(2);

impl Agent {
    /// What taking ports over means, told before anything happens; a fault: it cannot be done, and what to do.
    pub async fn look_at_take(&self, request: &DeployRequest) -> Result<Vec<String>, Fault> {
        let Some(take) = &request.choice.take else { return Ok(Vec::new()) };
        if take.undo {
            return self.look_at_undo(request, take).await;
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Fault::new(
                Code::Usage,
                "a port can be taken over by an agent that runs as root, and this one does not",
            )
            .hint("only root may copy a socket of another process"));
        }
        let services = || request.project.services.values();
        let mut said = Vec::new();
        for port in &take.ports {
            let of_port = |service: &Service| {
                let all = listeners(service).into_iter().filter_map(|listener| listener.tcp());
                all.filter(|addr| addr.port() == *port).collect::<Vec<_>>()
            };
            let published: BTreeSet<SocketAddr> = services().flat_map(of_port).collect();
            if published.is_empty() {
                return Err(Fault::new(
                    Code::Usage,
                    format!("no service of {} publishes port {port}", request.project.name),
                )
                .hint(format!("write `ports: [\"{port}:8080\"]` for the service that is to have it")));
            }
            let mut taken = false;
            for addr in published {
                let Some(found) = look(addr, &take.from, &self.own())? else { continue };
                refuse_tls(addr, &take.from).await?;
                said.push(words(addr, &take.from, &found));
                taken = true;
            }
            if !taken {
                said.push(format!(
                    "{} has no socket on port {port}: it is opened as any other, or is Teal's already",
                    take.from
                ));
            }
        }
        Ok(said)
    }

    async fn look_at_undo(&self, request: &DeployRequest, take: &Take) -> Result<Vec<String>, Fault> {
        let mut said = Vec::new();
        for port in &take.ports {
            let mut published = request.project.services.values().flat_map(listeners).filter_map(|one| one.tcp());
            if published.any(|addr| addr.port() == *port) {
                return Err(Fault::new(Code::Usage, format!("the compose file still publishes port {port}"))
                    .hint(format!("take it out of `ports`, so that {} has it alone", take.from)));
            }
            let sharing = self.sharing(*port).await?;
            if !sharing.iter().any(|holder| holder.name == take.from) {
                let what =
                    format!("{} does not listen on port {port} beside Teal: nobody would answer there", take.from);
                return Err(Fault::new(Code::Usage, what).hint(
                    "take the port out of the file, `teal deploy`, and start the other: the port is closed in between",
                ));
            }
            said.push(format!(
                "port {port}: Teal closes its copy of the socket, and {} answers every new connection; one that a client holds open to Teal \
                 finds no route there any more (404)",
                take.from
            ));
        }
        Ok(said)
    }

    /// Closes the ports that somebody else has alone from now on, before the table is without them: what was accepted is
    /// answered.
    pub async fn give_back_ports(&self, deployment: &Deployment) -> Result<(), Fault> {
        let Some(take) = deployment.plan.take.as_ref().filter(|take| take.undo) else { return Ok(()) };
        let mut needed = self.needed_listeners(None).await?;
        let before = needed.len();
        needed.retain(|listener| taken_from(Some(take), listener).is_none());
        if needed.len() < before {
            self.traffic.retain(&needed).await?;
            tokio::time::sleep(LINGER).await;
        }
        Ok(())
    }

    /// A takeover is taken back: whoever shares the sockets answers there again, alone, before requests here would wait.
    pub async fn leave_ports(&self, deployment: &Deployment) -> Result<(), Fault> {
        if deployment.plan.take.is_none() {
            return Ok(());
        }
        let waiting = self.not_yet_shared().await?;
        let mut needed = self.needed_listeners(Some(deployment.number)).await?;
        needed.retain(|listener| !waiting.contains(listener));
        self.traffic.retain(&needed).await
    }

    /// Ports of deployments that take them over, as long as requests there would wait: whoever has them answers meanwhile.
    /// And those that are given back.
    pub async fn not_yet_shared(&self) -> Result<BTreeSet<ListenerKey>, Fault> {
        let mut takes = self.journal.unfinished()?.into_iter().filter_map(|kept| kept.deployment.plan.take).peekable();
        if takes.peek().is_none() {
            return Ok(BTreeSet::new());
        }
        let takes: Vec<Take> = takes.collect();
        let taken = |listener: &ListenerKey| takes.iter().any(|take| taken_from(Some(take), listener).is_some());
        let mut closed = match takes.iter().any(|take| take.undo) {
            true => self.publisher.listeners().await,
            false => self.publisher.waiting().await,
        };
        closed.retain(taken);
        Ok(closed)
    }

    /// Other processes that have a listening socket of a port that is ours, too.
    pub async fn sharing(&self, port: u16) -> Result<Vec<Holder>, Fault> {
        let own = self.own();
        let ours = self.publisher.published().await;
        let addrs: BTreeSet<SocketAddr> =
            ours.into_iter().filter_map(|listener| listener.tcp()).filter(|addr| addr.port() == port).collect();
        let found = found(&own).map_err(|error| unseen(&error))?;
        let mut holders: Vec<Holder> = found
            .into_iter()
            .filter(|(addr, _)| addrs.contains(addr))
            .flat_map(|(_, sockets)| sockets)
            .flat_map(|one| one.holders)
            .collect();
        holders.sort_by_key(|holder| holder.pid);
        holders.dedup();
        Ok(holders)
    }

    /// Agent and proxy.
    fn own(&self) -> BTreeSet<u32> {
        self.traffic.state().borrow().pid.into_iter().chain([std::process::id()]).collect()
    }
}

fn words(addr: SocketAddr, from: &str, found: &Found) -> String {
    let pids: Vec<String> = found.holders.iter().map(|holder| holder.pid.to_string()).collect();
    format!(
        "{addr} is {from}'s ({}). Teal gets a copy of its socket, and answers there from the moment in which this release serves; \
         until {from} stops listening there, it goes on answering a part of the new connections. The port is not closed for a moment",
        match pids.as_slice() {
            [pid] => format!("process {pid}"),
            _ => format!("processes {}", pids.join(", ")),
        }
    )
}

/// The proxy speaks no TLS: clients would meet one that does and one that does not. nginx says by itself that it does.
async fn refuse_tls(addr: SocketAddr, from: &str) -> Result<(), Fault> {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let asked = async {
        let mut stream = tokio::net::TcpStream::connect((ip, addr.port())).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut answer = vec![0; 4096];
        let mut length = 0;
        while length < answer.len() {
            match stream.read(&mut answer[length..]).await? {
                0 => break,
                n => length += n,
            }
        }
        answer.truncate(length);
        Ok::<_, io::Error>(answer)
    };
    // Nobody who answers in time: nothing is known, and the socket is copied all the same.
    let Ok(Ok(answer)) = tokio::time::timeout(ASKED_WITHIN, asked).await else { return Ok(()) };
    match String::from_utf8_lossy(&answer).contains("plain HTTP request was sent to HTTPS port") {
        true => Err(Fault::new(Code::PortInUse, format!("{from} ends TLS on {addr}, and Teal's proxy speaks none"))
            .hint(format!("leave {addr} to {from}, with Teal behind it"))),
        false => Ok(()),
    }
}

/// From whom this listener's socket is to be copied.
pub fn taken_from(take: Option<&Take>, listener: &ListenerKey) -> Option<String> {
    let port = listener.tcp()?.port();
    take.filter(|take| take.ports.contains(&port)).map(|take| take.from.clone())
}
