//! Networks, volumes and published ports.

use super::*;

#[tokio::test]
async fn whoever_publishes_a_port_is_named() {
    let place = Place::new().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name = place.name("publisher");
    let agent = format!("{}={}", label::AGENT, place.id);
    docker(&[
        "run",
        "-d",
        "--name",
        &name,
        "--label",
        &agent,
        "-p",
        &format!("127.0.0.1:{port}:8080"),
        &place.image.name,
    ]);
    assert_eq!(place.runtime.publishing(port).await.unwrap(), [name]);
    assert_eq!(place.runtime.publishing(1).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn networks_get_subnets_of_their_own_and_leave_the_lower_half_free() {
    let place = Place::new().await;
    let names: Vec<String> = (0..4).map(|n| place.name(&format!("net{n}"))).collect();
    let makes = names.iter().map(|name| {
        let (runtime, spec) = (place.runtime.clone(), place.network_spec(name));
        tokio::spawn(async move { runtime.ensure_network(&spec).await })
    });
    for made in makes.collect::<Vec<_>>() {
        made.await.unwrap().unwrap();
    }
    let mut subnets: Vec<String> =
        names.iter().map(|n| docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", n])).collect();
    subnets.sort();
    subnets.dedup();
    assert_eq!(subnets.len(), names.len());
    let mut spec = place.spec("a", &["serve"]);
    spec.networks = vec![place.at(&names[0], &[])];
    let made = place.run(&spec).await;
    let std::net::IpAddr::V4(address) = made.addresses[&names[0]] else { panic!("not IPv4") };
    assert!(address.octets()[3] >= 128, "{address}");
    assert_eq!(
        docker(&["network", "inspect", "-f", "{{.Driver}} {{index .Labels \"teal.agent\"}}", &names[0]]),
        format!("bridge {}", place.id)
    );
}

#[tokio::test]
async fn one_network_of_a_name_is_made_however_many_ask() {
    let place = Place::new().await;
    let name = place.name("shared");
    // Two runtimes: two agents that know nothing of one another.
    let other = std::sync::Arc::new(DockerRuntime::from_env().unwrap());
    let asks = (0..8).map(|n| {
        let runtime = if n % 2 == 0 { place.runtime.clone() } else { other.clone() };
        let spec = place.network_spec(&name);
        tokio::spawn(async move { runtime.ensure_network(&spec).await })
    });
    for ask in asks.collect::<Vec<_>>() {
        ask.await.unwrap().unwrap();
    }
    assert_eq!(docker(&["network", "ls", "-q", "--filter", &format!("name=^{name}$")]).lines().count(), 1);
}

#[tokio::test]
async fn a_network_made_by_somebody_else_is_used_as_it_is() {
    let place = Place::new().await;
    let name = place.name("theirs");
    let agent = format!("{}={}", label::AGENT, place.id);
    docker(&["network", "create", "--label", &agent, &name]);
    let before = docker(&["network", "inspect", &name]);
    place.runtime.ensure_network(&place.network_spec(&name)).await.unwrap();
    assert_eq!(docker(&["network", "inspect", &name]), before);
}

#[tokio::test]
async fn a_network_goes_when_no_container_needs_it() {
    let place = Place::new().await;
    let rt = &place.runtime;
    let made = place.run(&place.spec("a", &["serve"])).await;
    assert!(!rt.remove_network(&place.network, &place.id).await.unwrap());
    rt.stop(&made.id, GRACE).await.unwrap();
    assert!(
        !rt.remove_network(&place.network, &place.id).await.unwrap(),
        "a stopped container could not be started again"
    );
    rt.remove(&made.id, false).await.unwrap();
    assert!(rt.remove_network(&place.network, &place.id).await.unwrap());
    assert!(rt.remove_network(&place.network, &place.id).await.unwrap());
}

#[tokio::test]
async fn a_volume_is_made_once_and_never_changed() {
    let place = Place::new().await;
    let name = place.name("data");
    let none = BTreeMap::new();
    for driver in [None, Some("local"), Some("no-such-driver")] {
        place.runtime.ensure_volume(&name, driver, &none, &place.labels()).await.unwrap();
    }
    assert_eq!(
        docker(&["volume", "inspect", "-f", "{{.Driver}} {{index .Labels \"teal.agent\"}}", &name]),
        format!("local {}", place.id)
    );
    let error =
        place.runtime.ensure_volume(&place.name("other"), Some("no-such-driver"), &none, &none).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Refused { .. }), "{error}");
}
