//! Replicas that the host cannot reach at their addresses: published at ports that their color and index keep.

use crate::stage::{good, life, request, start, until_ended};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use teal_agent::runtime::fake::FakeRuntime;
use teal_agent::traffic::fake::FakeTraffic;
use teal_model::api::{RemoveRequest, RemoveVolumes};
use teal_model::deployment::State;
use teal_model::ids::ServiceKey;
use teal_model::wire::RouteTable;

fn town() -> (tempfile::TempDir, FakeRuntime, FakeTraffic) {
    let (dir, engine, traffic) = (tempfile::tempdir().unwrap(), FakeRuntime::new(), FakeTraffic::default());
    for version in ["v1", "v2", "v3"] {
        for image in ["app", "web"] {
            engine.add_image(&format!("{image}:{version}"), good());
        }
    }
    engine.change_engine(|engine| engine.unreachable = Some("its networks are elsewhere".to_owned()));
    (dir, engine, traffic)
}

fn deployed(dir: &Path, engine: &FakeRuntime, traffic: &FakeTraffic, version: &str) -> RouteTable {
    life(async {
        let agent = start(dir, engine, traffic).await;
        let number = agent.deploy(request(version)).await.unwrap().deployment;
        assert_eq!(until_ended(&agent, number).await, State::Done);
    });
    (*traffic.table().unwrap()).clone()
}

/// Where the proxy finds each container of a service, by its name.
fn addresses(engine: &FakeRuntime, table: &RouteTable, service: &str) -> BTreeMap<String, Vec<SocketAddr>> {
    let names: BTreeMap<String, String> = engine.containers().into_iter().map(|one| (one.id, one.name)).collect();
    let releases = &table.services[&ServiceKey::new("shop", service)].releases;
    let backends = releases.iter().flat_map(|release| &release.backends);
    backends
        .map(|backend| {
            let id = backend.id.0.split(':').next().unwrap();
            let mut at: Vec<SocketAddr> = backend.addrs.values().copied().collect();
            at.dedup();
            (names[id].clone(), at)
        })
        .collect()
}

#[test]
fn replicas_that_cannot_be_reached_get_ports_that_their_color_keeps() {
    let (dir, engine, traffic) = town();
    let first = deployed(dir.path(), &engine, &traffic, "v1");
    let blue = addresses(&engine, &first, "web");
    let names: Vec<&String> = blue.keys().collect();
    assert_eq!(names, ["shop-web-blue-1", "shop-web-blue-2"]);
    for (name, at) in &blue {
        let published = engine.containers().into_iter().find(|one| &one.name == name).unwrap().published;
        assert_eq!(at.len(), 1, "{at:?}");
        assert!(at[0].ip().is_loopback() && (20_000..30_000).contains(&at[0].port()), "{at:?}");
        assert!(published.iter().any(|one| one.host_port == Some(at[0].port()) && one.container_port == 8080));
    }
    let engine = engine.restarted();
    let green = addresses(&engine, &deployed(dir.path(), &engine, &traffic, "v2"), "web");
    assert!(
        green.keys().eq(["shop-web-green-1", "shop-web-green-2"])
            && green.values().all(|at| !blue.values().any(|one| one == at))
    );
    let engine = engine.restarted();
    assert_eq!(
        addresses(&engine, &deployed(dir.path(), &engine, &traffic, "v3"), "web"),
        blue,
        "the same slot, the same port"
    );
}

#[test]
fn a_port_that_somebody_else_took_is_not_waited_for() {
    let (dir, engine, traffic) = town();
    let blue = addresses(&engine, &deployed(dir.path(), &engine, &traffic, "v1"), "web");
    let engine = engine.restarted();
    deployed(dir.path(), &engine, &traffic, "v2");
    let lost = blue["shop-web-blue-1"][0];
    let _taken = std::net::TcpListener::bind(lost).unwrap();
    let engine = engine.restarted();
    let now = addresses(&engine, &deployed(dir.path(), &engine, &traffic, "v3"), "web");
    assert_ne!(now["shop-web-blue-1"][0], lost);
    assert_eq!(now["shop-web-blue-2"], blue["shop-web-blue-2"]);
}

#[test]
fn the_ports_of_a_service_that_is_removed_are_free_again() {
    let (dir, engine, traffic) = town();
    deployed(dir.path(), &engine, &traffic, "v1");
    let ports = || {
        let db = rusqlite::Connection::open(dir.path().join("journal.sqlite3")).unwrap();
        db.query_row("SELECT count(*) FROM host_ports", [], |row| row.get::<_, u32>(0)).unwrap()
    };
    assert_eq!(ports(), 6, "two replicas of three services");
    let engine = engine.restarted();
    life(async {
        let agent = start(dir.path(), &engine, &traffic).await;
        let all = RemoveRequest {
            project: "shop".to_owned(),
            services: Vec::new(),
            volumes: RemoveVolumes::default(),
            who: "test".to_owned(),
        };
        agent.remove(&all).await.unwrap();
    });
    assert_eq!(ports(), 0);
}

#[test]
fn where_nobody_can_listen_inside_the_containers_own_their_name() {
    let (dir, engine, traffic) = town();
    engine.close_networks("the processes of this Docker are elsewhere");
    deployed(dir.path(), &engine, &traffic, "v1");
    let names: Vec<String> = engine.containers().into_iter().map(|one| one.name).collect();
    assert!(names.iter().all(|name| !name.ends_with("-holder")) && names.len() == 6, "{names:?}");
    let engine = engine.restarted();
    life(async {
        let agent = start(dir.path(), &engine, &traffic).await;
        let plan = agent.plan(&request("v2")).await.unwrap();
        let web = plan.members.iter().find(|member| member.service.service == "web").unwrap();
        assert!(web.is_recreate() && web.why.contains("the processes of this Docker are elsewhere"), "{}", web.why);
        let warned = |text: &&String| text.starts_with("web is recreated, although blue-green is written");
        assert!(plan.warnings.iter().any(|text| warned(&text)), "{:?}", plan.warnings);
    });
    let now = addresses(&engine, &deployed(dir.path(), &engine, &traffic, "v2"), "web");
    assert!(now.keys().eq(["shop-web-green-1", "shop-web-green-2"]), "{now:?}");
}
