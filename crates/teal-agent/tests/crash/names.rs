//! What callers inside a network find at a service's name.

use crate::stage::{good, life, request, start, until_ended};
use std::collections::BTreeSet;
use teal_agent::runtime::fake::FakeRuntime;
use teal_agent::traffic::fake::FakeTraffic;
use teal_model::config::DEFAULT_NETWORK;
use teal_model::deployment::State;

#[test]
fn a_holder_with_an_address_of_each_kind_answers_on_both() {
    let (dir, engine, traffic) = (tempfile::tempdir().unwrap(), FakeRuntime::new(), FakeTraffic::default());
    for image in ["app:v1", "web:v1"] {
        engine.add_image(image, good());
    }
    let mut request = request("v1");
    for (name, address) in [("web", "fd00::7"), ("db", "fd00::8")] {
        let service = request.project.services.get_mut(name).unwrap();
        service.teal.strategy = None;
        service.networks.get_mut(DEFAULT_NETWORK).unwrap().ipv6_address = Some(address.parse().unwrap());
    }
    life(async {
        let agent = start(dir.path(), &engine, &traffic).await;
        let number = agent.deploy(request).await.unwrap().deployment;
        assert_eq!(until_ended(&agent, number).await, State::Done);
    });
    let table = traffic.table().unwrap();
    let inside = |service: &str| -> BTreeSet<String> {
        let routes = table.routes.iter().filter(|route| route.service.service == service);
        let inside = routes.map(|route| &route.listener).filter(|listener| listener.namespace.is_some());
        inside.map(|listener| listener.addr.to_string()).collect()
    };
    assert_eq!(inside("api"), BTreeSet::from(["0.0.0.0:8080".to_owned()]));
    for service in ["web", "db"] {
        assert_eq!(inside(service), BTreeSet::from(["0.0.0.0:8080".to_owned(), "[::]:8080".to_owned()]));
    }
}
