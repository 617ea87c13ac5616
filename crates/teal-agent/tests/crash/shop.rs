//! A project of any services, deployed over and over against one engine and one proxy.

use crate::stage::{life, request, service, start, until_ended};
use std::path::Path;
use std::time::Duration;
use teal_agent::runtime::fake::{App, FakeRuntime};
use teal_agent::runtime::{Container, label};
use teal_agent::traffic::fake::FakeTraffic;
use teal_model::api::DeployRequest;
use teal_model::config::{Service, Strategy};
use teal_model::deployment::State;

pub struct Shop {
    pub dir: tempfile::TempDir,
    pub engine: FakeRuntime,
    pub traffic: FakeTraffic,
}

impl Shop {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), engine: FakeRuntime::new(), traffic: FakeTraffic::default() }
    }

    pub fn image(&self, name: &str, app: App) -> &Self {
        self.engine.add_image(name, app);
        self
    }

    pub fn deploy(&self, request: &DeployRequest) -> State {
        deploy(self.dir.path(), &self.engine.restarted(), &self.traffic, request)
    }

    pub fn of(&self, service: &str) -> Vec<Container> {
        let of = |c: &Container| c.labels.get(label::SERVICE).is_some_and(|name| name == service);
        let replicas = |c: &Container| of(c) && !c.labels.contains_key(label::HOLDER);
        self.engine.containers().into_iter().filter(replicas).collect()
    }

    pub fn starts_of(&self, service: &str) -> usize {
        self.engine.changes().iter().filter(|change| change.starts_with(&format!("Start shop-{service}-"))).count()
    }
}

fn deploy(dir: &Path, engine: &FakeRuntime, traffic: &FakeTraffic, request: &DeployRequest) -> State {
    life(async {
        let agent = start(dir, engine, traffic).await;
        let accepted = agent.deploy(request.clone()).await.unwrap();
        let state = until_ended(&agent, accepted.deployment).await;
        // The reconciler has its turn, too.
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(agent.alerts(), Vec::<String>::new());
        state
    })
}

pub fn project(services: Vec<Service>) -> DeployRequest {
    let mut request = request("v1");
    request.project.services = services.into_iter().map(|service| (service.name.clone(), service)).collect();
    request
}

pub fn web(image: &str) -> Service {
    service("web", image, Strategy::BlueGreen, 8003)
}

/// No port, one replica.
pub fn worker(name: &str, image: &str) -> Service {
    let mut worker = service(name, image, Strategy::Recreate, 1);
    worker.ports.clear();
    worker.teal.strategy = None;
    worker.replicas = 1;
    worker
}
