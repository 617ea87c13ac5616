//! A project of any services, deployed over and over against one engine and one proxy.

use crate::stage::{life, request, service, start, until_ended};
use std::cell::Cell;
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
    /// What has passed on the clocks of lives that are over.
    passed: Cell<Duration>,
}

impl Shop {
    pub fn new() -> Self {
        let (dir, engine, traffic) = (tempfile::tempdir().unwrap(), FakeRuntime::new(), FakeTraffic::default());
        Self { dir, engine, traffic, passed: Cell::default() }
    }

    /// One life of an agent, later than those before it. Requests come if there is a load.
    pub fn life<T>(&self, body: impl Future<Output = T>) -> T {
        life(async {
            tokio::time::advance(self.passed.get()).await;
            let began = tokio::time::Instant::now();
            if self.traffic.proxy().load.is_some() {
                let traffic = self.traffic.clone();
                tokio::spawn(async move { traffic.drive().await });
            }
            let value = body.await;
            self.passed.set(self.passed.get() + began.elapsed());
            value
        })
    }

    pub fn image(&self, name: &str, app: App) -> &Self {
        self.engine.add_image(name, app);
        self
    }

    pub fn deploy(&self, request: &DeployRequest) -> State {
        let engine = self.engine.restarted();
        self.life(async {
            let agent = start(self.dir.path(), &engine, &self.traffic).await;
            let accepted = agent.deploy(request.clone()).await.unwrap();
            let state = until_ended(&agent, accepted.deployment).await;
            // The reconciler has its turn, too.
            tokio::time::sleep(Duration::from_secs(40)).await;
            assert_eq!(agent.alerts(), Vec::<String>::new());
            state
        })
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
