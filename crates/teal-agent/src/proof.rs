//! What candidates go through before the first request of a user: requests that warm them up, then smoke tests through the preview.

use crate::agent::Agent;
use crate::publish::routes;
use crate::reach::Ways;
use crate::smoke::{self, Candidate};
use crate::store::StoredRelease;
use crate::warmup::warm;
use crate::world::Replica;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use teal_model::deployment::{Deployment, Proof};
use teal_model::door;
use teal_model::fault::{Code, Fault};
use teal_model::plan::{Member, Span};
use teal_model::wire::Route;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How it stands, and the same for people.
type Said = (Proof, String);

pub struct Proving {
    said: watch::Receiver<Said>,
    /// Ends with it.
    _task: JoinSet<()>,
}

impl Proving {
    /// Of those that are proved in the state that the deployment is in.
    pub fn start(agent: &Arc<Agent>, deployment: &Deployment) -> Self {
        let (to, said) = watch::channel((Proof::Running, String::new()));
        let chosen = deployment.proved().into_iter().map(|(member, span)| (member.clone(), span));
        let chosen: Vec<(Member, Span)> = chosen.collect();
        let agent = agent.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            for (member, span) in &chosen {
                if let Err(fault) = agent.prove(member, *span, &to).await {
                    to.send_modify(|said| said.0 = Proof::Failed(fault));
                    return;
                }
            }
            to.send_modify(|said| said.0 = Proof::Passed);
        });
        Self { said, _task: task }
    }

    pub fn now(&self) -> Proof {
        self.said.borrow().0.clone()
    }

    /// For people, while it lasts.
    pub fn words(&self) -> String {
        self.said.borrow().1.clone()
    }

    pub async fn changed(proving: &mut Option<Proving>) {
        match proving {
            // It ends only with the task, which ends with it.
            Some(proving) => drop(proving.said.changed().await),
            None => std::future::pending().await,
        }
    }
}

impl Agent {
    async fn prove(&self, member: &Member, span: Span, to: &watch::Sender<Said>) -> Result<(), Fault> {
        let say = |words: String| to.send_modify(|said| said.1 = words);
        let stored = self.store.release(&member.candidate)?;
        let replicas = self.reached(member, span, &stored, door::first_port(&stored.service));
        let host = stored.service.teal.routes.iter().find_map(|route| route.host.clone());
        if let Some(warmup) = &stored.service.teal.health.warmup {
            say(format!("warming up {} with {} requests", member.candidate, warmup.requests));
            let host = host.clone().unwrap_or_else(|| "localhost".to_owned());
            let warmed = warm(warmup, &replicas, &host).await;
            tracing::info!(release = %member.candidate, words = warmed.words(), "warmed up");
            say(format!("{} is warm: {}", member.candidate, warmed.words()));
        }
        let Some(smoke) = &stored.service.teal.smoke else { return Ok(()) };
        say(format!("smoke tests of {}", member.candidate));
        let own = routes(&member.service, &stored.service, &self.doors_of(member));
        let door = Door::of(&own, &self.publisher.routes().await);
        let asked: Vec<SocketAddr> = match door {
            // Replicas that come later are asked themselves: behind the listener the others answer too.
            Door::Listener(_) if !span.is_all() => replicas,
            Door::Listener(addr) => vec![addr],
            Door::Replica(published) => {
                let target = |published| stored.service.ports.iter().find(|port| port.published == published);
                let port = published.and_then(target).map(|port| port.target);
                let mut reached = self.reached(member, span, &stored, port.or(door::first_port(&stored.service)));
                reached.truncate(if span.is_all() { 1 } else { usize::MAX });
                reached
            }
        };
        if asked.is_empty() {
            let what = format!("{} has no port at which it could be asked", member.candidate);
            return Err(
                Fault::new(Code::SmokeFailed, what).hint("publish or expose a port, or take `x-teal.smoke` out")
            );
        }
        for at in asked {
            let host = host.clone().unwrap_or_else(|| format!("localhost:{}", at.port()));
            let token = (door == Door::Listener(at)).then(|| self.keys.preview(&member.candidate));
            let candidate = Candidate { release: member.candidate.clone(), at, host, token };
            say(smoke::run(smoke, &candidate, Path::new(&stored.directory)).await?.join("; "));
        }
        Ok(())
    }

    /// Where each replica takes the requests of a port; of the first that it listens on, where none is named.
    fn reached(&self, member: &Member, span: Span, stored: &StoredRelease, port: Option<u16>) -> Vec<SocketAddr> {
        let world = self.watch.now();
        let port = |replica: &Replica| port.or_else(|| replica.doors.first().map(|door| door.port));
        let replicas = world.of(&member.candidate).filter(|replica| span.contains(replica.index));
        replicas.filter_map(|replica| Ways::of(&replica.container, &stored.reach).to(port(replica)?)).collect()
    }

    fn doors_of(&self, member: &Member) -> Vec<door::Door> {
        let world = self.watch.now();
        let doors = world.of(&member.candidate).flat_map(|replica| replica.doors.iter().copied());
        doors.collect()
    }
}

/// Where a candidate is asked.
#[derive(Debug, PartialEq, Eq)]
enum Door {
    /// The proxy's own, through its preview.
    Listener(SocketAddr),
    /// At one of its replicas, and there at what it publishes as this port.
    Replica(Option<u16>),
}

impl Door {
    /// By its `own` routes and those of `now`, which are the live release's as long as that serves. A preview goes by these alone.
    fn of(own: &[Route], now: &[Route]) -> Self {
        let at = |route: &Route| route.listener.tcp().filter(|_| route.protocol.is_http());
        let Some((first, addr)) = own.iter().find_map(|route| Some((route, at(route)?))) else {
            return Self::Replica(None);
        };
        let mut beside = own.iter().filter(|route| route.listener == first.listener);
        if beside.all(|route| now.contains(route)) { Self::Listener(addr) } else { Self::Replica(Some(addr.port())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teal_model::config::{Port, RouteRule, Service};
    use teal_model::ids::ServiceKey;
    use teal_model::wire::Protocol;

    /// Published so, for this host, when it speaks `protocol`.
    fn own(published: u16, host: Option<&str>, protocol: Protocol) -> Vec<Route> {
        let port = Port { published, target: 3000, host_ip: Some([127, 0, 0, 1].into()), ..Port::default() };
        let mut service = Service { ports: vec![port], ..Service::default() };
        let rule = |host: &str| RouteRule { host: Some(host.to_owned()), path: "/".to_owned(), port: None };
        service.teal.routes = host.map(rule).into_iter().collect();
        routes(&ServiceKey::new("shop", "web"), &service, &[door::Door { port: 3000, protocol }])
    }

    #[test]
    fn a_candidate_is_asked_where_users_are_led_to_it_and_itself_where_nobody_is_yet() {
        let now = own(8080, Some("shop.example"), Protocol::Http);
        let listener = Door::Listener(([127, 0, 0, 1], 8080).into());
        assert_eq!(Door::of(&now, &now), listener);
        assert_eq!(Door::of(&own(8081, Some("shop.example"), Protocol::Http), &now), Door::Replica(Some(8081)));
        assert_eq!(Door::of(&own(8080, Some("new.example"), Protocol::Http), &now), Door::Replica(Some(8080)));
        assert_eq!(Door::of(&own(8080, None, Protocol::Http), &now), Door::Replica(Some(8080)));
        let tcp = own(8080, None, Protocol::Tcp);
        assert_eq!(Door::of(&tcp, &tcp), Door::Replica(None), "there the proxy knows no preview");
        assert_eq!(Door::of(&[], &now), Door::Replica(None));
    }
}
