//! Invariant 12: an address is believed only together with the process that owns it.

use crate::stage::{good, life, request, start, until_ended};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use teal_agent::runtime::fake::{App, FakeRuntime};
use teal_agent::traffic::fake::FakeTraffic;
use teal_model::deployment::State;
use teal_model::wire::RouteTable;

/// A process for the containers of an image to be, in a network of its own: nothing listens there.
struct Process(Child);

impl Process {
    fn start() -> Self {
        Self(Command::new("unshare").args(["--net", "sleep", "600"]).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

struct Town {
    dir: tempfile::TempDir,
    engine: FakeRuntime,
    traffic: FakeTraffic,
    _process: Process,
}

/// Every container has a process that can be held.
fn town() -> Town {
    let process = Process::start();
    let (dir, engine, traffic) = (tempfile::tempdir().unwrap(), FakeRuntime::new(), FakeTraffic::default());
    for image in ["app:v1", "web:v1", "app:v2", "web:v2"] {
        engine.add_image(image, App { pid: process.0.id() as i32, ..good() });
    }
    Town { dir, engine, traffic, _process: process }
}

/// What each table names that it should not, when it is in force.
fn watch_tables(
    traffic: &FakeTraffic,
    wrong: impl Fn(&RouteTable) -> Vec<String> + Send + 'static,
) -> Arc<Mutex<Vec<String>>> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let all = found.clone();
    traffic.proxy().on_table = Some(Box::new(move |table| all.lock().unwrap().extend(wrong(table))));
    found
}

#[test]
fn no_table_names_a_backend_before_its_process_is_held() {
    let Town { dir, engine, traffic, .. } = &town();
    life(async {
        let agent = start(dir.path(), engine, traffic).await;
        for version in ["v1", "v2"] {
            let number = agent.deploy(request(version)).await.unwrap().deployment;
            assert_eq!(until_ended(&agent, number).await, State::Done);
        }
    });
    let proxy = traffic.proxy();
    let named: Vec<_> = proxy
        .tables
        .iter()
        .flat_map(|table| table.services.values())
        .flat_map(|service| &service.releases)
        .flat_map(|release| &release.backends)
        .collect();
    assert!(named.len() >= 12, "{} backends were named", named.len());
    for backend in named {
        assert!(proxy.processes.contains(&backend.id), "{} was named without its process", backend.id);
    }
}

#[test]
fn a_process_that_cannot_be_held_yet_keeps_its_replica_out_of_the_table() {
    let Town { dir, engine, traffic, .. } = &town();
    life(async {
        let agent = start(dir.path(), engine, traffic).await;
        let number = agent.deploy(request("v1")).await.unwrap().deployment;
        assert_eq!(until_ended(&agent, number).await, State::Done);
        engine.fail_inspections(true);
        let number = agent.deploy(request("v2")).await.unwrap().deployment;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let candidates = |table: &RouteTable| {
            let releases = table.services.values().flat_map(|service| &service.releases);
            releases.filter(|release| release.release.number == 2).map(|release| release.backends.len()).sum::<usize>()
        };
        assert!(engine.containers().iter().any(|container| container.name == "shop-db-green-1"), "the candidate runs");
        assert_eq!(traffic.proxy().tables.iter().map(|table| candidates(table)).max(), Some(0));
        engine.fail_inspections(false);
        assert_eq!(until_ended(&agent, number).await, State::Done);
        assert_eq!(candidates(&traffic.table().unwrap()), 6);
    });
}

/// Without a restart of the engine the same run keeps its address; after one the addresses permute.
#[test]
fn no_table_sends_requests_to_an_address_that_belongs_to_another_container_now() {
    let Town { dir, engine, traffic, .. } = &town();
    life(async {
        let agent = start(dir.path(), engine, traffic).await;
        let number = agent.deploy(request("v1")).await.unwrap().deployment;
        assert_eq!(until_ended(&agent, number).await, State::Done);
        let world = engine.clone();
        let wrong = watch_tables(traffic, move |table| {
            let backends = table.services.values().flat_map(|s| &s.releases).flat_map(|r| &r.backends);
            backends
                .flat_map(|backend| backend.addrs.values().map(move |addr| (backend, addr)))
                .filter(|(backend, addr)| {
                    // Nobody answers there: a connection is refused, and goes elsewhere.
                    world.answers_at(addr.ip()).is_some_and(|owner| !backend.id.0.starts_with(&owner.id))
                })
                .map(|(backend, addr)| format!("{} at {addr} in table {}", backend.id, table.number))
                .collect()
        });
        let before = traffic.proxy().tables.len();
        for _ in 0..10 {
            engine.restart_engine();
            tokio::time::sleep(Duration::from_secs(20)).await;
            let table = traffic.table().unwrap();
            let serving: usize = table.services.values().flat_map(|s| &s.releases).map(|r| r.backends.len()).sum();
            assert_eq!(serving, 6, "all are back in table {}", table.number);
        }
        assert!(traffic.proxy().tables.len() >= before + 10);
        assert_eq!(*wrong.lock().unwrap(), Vec::<String>::new());
    });
}
