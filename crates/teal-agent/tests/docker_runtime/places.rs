//! A container's places: several networks, names, fixed addresses, modes, published ports.

use super::*;
use std::net::{IpAddr, Ipv4Addr};
use teal_agent::runtime::{self, Publish};

async fn second_network(place: &Place) -> String {
    let name = place.name("second");
    place.runtime.ensure_network(&place.network_spec(&name)).await.unwrap();
    name
}

async fn fixed(place: &Place, network: &str, host: u32) -> Ipv4Addr {
    let facts = place.runtime.ensure_network(&place.network_spec(network)).await.unwrap();
    Ipv4Addr::from(u32::from(facts.subnet.unwrap().0) + host)
}

#[tokio::test]
async fn a_container_is_in_two_networks_under_its_names_and_addresses() {
    let place = Place::new().await;
    let second = second_network(&place).await;
    let (one, two) = (fixed(&place, &place.network, 11).await, fixed(&place, &second, 22).await);
    let mut spec = place.spec("db", &["serve"]);
    spec.networks = vec![
        runtime::Place { ipv4: Some(one), ..place.at(&place.network, &["db", "store"]) },
        runtime::Place {
            ipv4: Some(two),
            priority: 10,
            link_local: vec!["169.254.8.8".parse().unwrap()],
            mac: Some("02:42:7e:a1:00:01".into()),
            driver_opts: BTreeMap::from([("com.example.opt".into(), "x".into())]),
            ..place.at(&second, &["db"])
        },
    ];
    let made = place.run(&spec).await;
    assert_eq!(
        made.addresses,
        BTreeMap::from([(place.network.clone(), IpAddr::V4(one)), (second.clone(), IpAddr::V4(two))])
    );
    for wanted in &spec.networks {
        assert!(made.networks[&wanted.network].is_as(wanted), "{made:?}");
    }
    // The one with the highest priority is what Docker takes for the container's own.
    assert_eq!(fact(&made.id, ".HostConfig.NetworkMode"), format!("\"{second}\""));
    let endpoint = fact(&made.id, &format!(r#"(index .NetworkSettings.Networks "{second}")"#));
    assert!(endpoint.contains("02:42:7e:a1:00:01") && endpoint.contains("169.254.8.8"), "{endpoint}");
    assert!(endpoint.contains("com.example.opt"), "{endpoint}");
    assert_eq!(place.runtime.ensure_container(&spec).await.unwrap(), made);

    let mut client = place.spec("client", &["resolve", "db", "store"]);
    let looked = place.output(&client).await;
    assert_eq!(looked, format!("db {one}\nstore {one}"));
    client.name = place.name("client2");
    client.networks = vec![place.at(&second, &[])];
    assert_eq!(place.output(&client).await, format!("db {two}\nstore"));

    // A container that does not run keeps its fixed address for itself.
    place.runtime.stop(&made.id, GRACE).await.unwrap();
    let taken = place.runtime.network_addresses(&second).await.unwrap();
    assert_eq!(taken[&IpAddr::V4(two)], spec.name);
    let stopped = place.seen(&made.id).await;
    assert_eq!((stopped.addresses.len(), stopped.networks.len()), (0, 2));
    let mut rival = place.spec("rival", &["serve"]);
    rival.networks = vec![runtime::Place { ipv4: Some(two), ..place.at(&second, &[]) }];
    place.runtime.start(&made.id).await.unwrap();
    let rival = place.runtime.ensure_container(&rival).await.unwrap();
    let error = place.runtime.start(&rival.id).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Refused { why, .. } if why.contains("in use")), "{error}");
}

#[tokio::test]
async fn links_are_names_for_one_container_alone() {
    let place = Place::new().await;
    let target = place.run(&place.spec("elsewhere", &["serve"])).await;
    let mut spec = place.spec("client", &["resolve", "legacy"]);
    spec.networks[0].links = vec![format!("{}:legacy", target.name)];
    let text = place.output(&spec).await;
    assert_eq!(text, format!("legacy {}", target.addresses[&place.network]));
}

#[tokio::test]
async fn docker_s_own_modes_and_another_container_s_network() {
    let place = Place::new().await;
    let target = place.run(&place.spec("target", &["serve"])).await;
    let joined = format!("container:{}", target.id);
    for (mode, networks) in [("host", "host"), ("none", "none"), ("bridge", "bridge"), (joined.as_str(), "")] {
        let mut spec = place.spec(&format!("of-{}", &mode[..4]), &["serve"]);
        spec.network_mode = Some(mode.to_owned());
        spec.networks.clear();
        let made = place.run(&spec).await;
        assert_eq!(fact(&made.id, ".HostConfig.NetworkMode"), format!("\"{mode}\""));
        assert_eq!(made.networks.keys().cloned().collect::<Vec<_>>().join(","), networks);
        assert_eq!(made.addresses.is_empty(), mode != "bridge", "{made:?}");
        place.runtime.remove(&made.id, true).await.unwrap();
    }
    let mut spec = place.spec("mac", &["serve"]);
    spec.network_mode = Some("bridge".into());
    spec.networks = vec![runtime::Place { mac: Some("02:42:7e:a1:00:02".into()), ..place.at("bridge", &[]) }];
    let made = place.run(&spec).await;
    assert_eq!(fact(&made.id, ".NetworkSettings.Networks.bridge.MacAddress"), r#""02:42:7e:a1:00:02""#);
}

#[tokio::test]
async fn what_this_engine_cannot_do_in_a_network_is_refused_before_there_is_a_container() {
    let place = Place::new().await;
    if place.runtime.engine().await.unwrap().api_version != "1.41" {
        return;
    }
    let second = second_network(&place).await;
    let plain = place.at(&second, &[]);
    for (further, key) in [
        (runtime::Place { interface_name: Some("lan0".into()), ..plain.clone() }, "interface_name"),
        (runtime::Place { gw_priority: 1, ..plain.clone() }, "gw_priority"),
        (runtime::Place { mac: Some("02:42:7e:a1:00:03".into()), ..plain }, "mac_address"),
    ] {
        let mut spec = place.spec("a", &["serve"]);
        spec.networks.push(further);
        let error = place.runtime.ensure_container(&spec).await.unwrap_err();
        assert!(matches!(&error, RuntimeError::Refused { why, .. } if why.contains(key)), "{error}");
    }
    assert_eq!(place.runtime.list(&[(label::AGENT, &place.id)]).await.unwrap(), []);
}

#[tokio::test]
async fn docker_publishes_what_is_asked_of_it() {
    let place = Place::new().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let loopback: Option<IpAddr> = Some("127.0.0.1".parse().unwrap());
    let mut spec = place.spec("a", &["serve"]);
    spec.publish = vec![
        Publish { host_ip: loopback, host_port: Some(port), container_port: 53, udp: true },
        Publish { host_ip: loopback, host_port: None, container_port: 9000, udp: false },
    ];
    spec.expose = vec![teal_model::config::ExposedPort { port: 7000, ..Default::default() }];
    let made = place.run(&spec).await;
    let (udp, tcp): (Vec<Publish>, Vec<Publish>) = made.published.iter().cloned().partition(|publish| publish.udp);
    assert_eq!(udp, spec.publish[..1]);
    assert!(tcp[0].host_port.is_some(), "{made:?}");
    assert_eq!(tcp, [Publish { host_port: tcp[0].host_port, ..spec.publish[1].clone() }]);
    assert_eq!(place.runtime.publishing(port).await.unwrap(), std::slice::from_ref(&spec.name));
    let ports = fact(&made.id, ".Config.ExposedPorts");
    assert!(ports.contains("53/udp") && ports.contains("9000/tcp") && ports.contains("7000/tcp"), "{ports}");
    place.runtime.stop(&made.id, GRACE).await.unwrap();
    assert_eq!(place.seen(&made.id).await.published, []);
}
