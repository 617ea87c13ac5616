//! What candidates go through before the first request of a user: requests that warm them up, then smoke tests through the preview.

use crate::agent::Agent;
use crate::reach::Ways;
use crate::smoke::{self, Candidate};
use crate::store::StoredRelease;
use crate::warmup::warm;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use teal_model::deployment::{Deployment, Proof};
use teal_model::door;
use teal_model::fault::{Code, Fault};
use teal_model::plan::{Member, Span, listeners};
use teal_model::wire::ListenerKey;
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
        let replicas = self.reached(member, span, &stored);
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
        let listener = listeners(&stored.service).iter().find_map(ListenerKey::tcp);
        let first = listener.or_else(|| replicas.first().copied()).ok_or_else(|| {
            let what = format!("{} has no port at which it could be asked", member.candidate);
            Fault::new(Code::SmokeFailed, what).hint("publish or expose a port, or take `x-teal.smoke` out")
        })?;
        let host = host.unwrap_or_else(|| format!("localhost:{}", first.port()));
        // One that no listener of ours leads to is asked itself, and so is each that comes later: the others answer there.
        let asked = if span.is_all() { vec![first] } else { replicas };
        for at in asked {
            let token = self.keys.preview(&member.candidate);
            let candidate = Candidate { release: member.candidate.clone(), at, host: host.clone(), token };
            say(smoke::run(smoke, &candidate, Path::new(&stored.directory)).await?.join("; "));
        }
        Ok(())
    }

    /// Where each replica takes the requests of the service's first port.
    fn reached(&self, member: &Member, span: Span, stored: &StoredRelease) -> Vec<SocketAddr> {
        let world = self.watch.now();
        let port = |replica: &crate::world::Replica| {
            door::first_port(&stored.service).or_else(|| replica.doors.first().map(|door| door.port))
        };
        let replicas = world.of(&member.candidate).filter(|replica| span.contains(replica.index));
        replicas.filter_map(|replica| Ways::of(&replica.container, &stored.reach).to(port(replica)?)).collect()
    }
}
