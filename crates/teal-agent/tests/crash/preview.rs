//! What the proxy is told of previews, with a candidate and without.

use crate::deaths::web;
use crate::shop::{self, Shop, project};
use crate::stage::{good, start, until_ended};
use teal_model::api::DeployRequest;
use teal_model::config::{CanaryStep, Pace, Port, Preview};
use teal_model::deployment::State;
use teal_model::fault::Code;
use teal_model::wire::{RoutePort, ServiceEntry};

const TOKEN: &str = "a-word-that-nobody-guesses";

/// Looked at for a while before its first request.
fn looked_at(version: &str, published: u16) -> DeployRequest {
    let mut service = shop::web(&format!("web:{version}"));
    service.ports[0].published = published;
    service.teal.canary = vec![CanaryStep { replicas: None, share: 0, pace: Pace::For { ms: 20_000 } }];
    service.teal.preview = Some(Preview { networks: Vec::new(), token: Some(TOKEN.to_owned()) });
    project(vec![service])
}

fn told(shop: &Shop) -> Vec<ServiceEntry> {
    let proxy = shop.traffic.proxy();
    proxy.tables.iter().filter_map(|table| table.services.get(&web()).cloned()).collect()
}

#[test]
fn a_service_with_previews_hides_what_asks_for_them_while_there_is_none() {
    let shop = Shop::new();
    shop.image("web:v1", good()).image("web:v2", good());
    assert_eq!(shop.deploy(&looked_at("v1", 8003)), State::Done);
    assert_eq!(shop.deploy(&looked_at("v2", 8003)), State::Done);
    let told = told(&shop);
    assert!(told.iter().all(|entry| entry.hides_preview));
    let last = told.last().unwrap();
    assert_eq!((last.split[0].release.number, &last.preview), (2, &None));

    let mut plain = looked_at("v1", 8003);
    plain.project.services.get_mut("web").unwrap().teal.preview = None;
    assert_eq!(shop.deploy(&plain), State::Done);
    assert!(!self::told(&shop).last().unwrap().hides_preview, "it has none any more");
}

#[test]
fn a_candidate_on_another_port_is_looked_at_where_users_are() {
    let shop = Shop::new();
    shop.image("web:v1", good()).image("web:v2", good());
    assert_eq!(shop.deploy(&looked_at("v1", 8003)), State::Done);
    assert_eq!(shop.deploy(&looked_at("v2", 8004)), State::Done);
    let told = told(&shop);
    let ports = |entry: &ServiceEntry| {
        let candidate = entry.releases.iter().find(|listed| listed.release.number == 2).unwrap();
        assert_eq!(candidate.backends.len(), 2);
        candidate.backends[0].addrs.clone()
    };
    let step = told.iter().find(|entry| entry.preview.is_some()).unwrap();
    assert_eq!(step.split.iter().map(|share| share.release.number).collect::<Vec<_>>(), [1]);
    assert_eq!(ports(step).get(&RoutePort::Published(8003)), ports(step).get(&RoutePort::Published(8004)));
    assert!(ports(step).contains_key(&RoutePort::Published(8003)));
    assert!(!ports(told.last().unwrap()).contains_key(&RoutePort::Published(8003)), "that is closed");
}

#[test]
fn a_canary_that_would_close_a_port_for_all_users_is_refused() {
    let shop = Shop::new();
    shop.image("web:v1", good()).image("web:v2", good());
    let with_share = |version, published| {
        let mut request = looked_at(version, published);
        request.project.services.get_mut("web").unwrap().teal.canary[0].share = 500;
        request
    };
    assert_eq!(shop.deploy(&with_share("v1", 8003)), State::Done);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let refused = agent.deploy(with_share("v2", 8004)).await.unwrap_err();
        assert!(
            refused.code == Code::Config && refused.what.contains("web is not at 127.0.0.1:8003/ any more"),
            "{refused:?}"
        );
        let told = agent.preview(&with_share("v2", 8004)).await.unwrap().warnings;
        assert!(told.iter().any(|words| words.contains(&refused.what)), "{told:?}");
        let mut both = with_share("v2", 8003);
        let ports = &mut both.project.services.get_mut("web").unwrap().ports;
        ports.push(Port { published: 8004, ..ports[0].clone() });
        let number = agent.deploy(both).await.unwrap().deployment;
        assert_eq!(until_ended(&agent, number).await, State::Done);
    });
}
