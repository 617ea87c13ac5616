//! Networks made, found and removed.

use super::*;
use teal_agent::runtime::{self, NetworkFacts, NetworkSpec};
use teal_model::config::{Ipam, IpamPool, Network};

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

async fn described(place: &Place, name: &str, settings: Network) -> teal_agent::runtime::Result<NetworkFacts> {
    place.runtime.ensure_network(&NetworkSpec { settings, ..place.network_spec(name) }).await
}

fn of_network(name: &str, what: &str) -> String {
    docker(&["network", "inspect", "-f", &format!("{{{{json {what}}}}}"), name])
}

#[tokio::test]
async fn a_network_is_made_as_the_file_says() {
    let place = Place::new().await;
    let name = place.name("written");
    let labels = BTreeMap::from([("team".to_owned(), "core".to_owned())]);
    let settings = Network {
        driver: Some("bridge".into()),
        driver_opts: BTreeMap::from([("com.docker.network.bridge.enable_icc".into(), "true".into())]),
        internal: true,
        attachable: true,
        enable_ipv6: Some(true),
        ipam: Some(Ipam {
            driver: Some("default".into()),
            config: vec![IpamPool { subnet: Some("fd00:7ea1:1::/64".into()), ..Default::default() }],
            options: BTreeMap::new(),
        }),
        labels,
        ..Default::default()
    };
    let facts = described(&place, &name, settings.clone()).await.unwrap();
    assert!(facts.ours && facts.configured_subnet && facts.differs.is_empty(), "{facts:?}");
    let ((subnet, 24), (range, 25)) = (facts.subnet.unwrap(), facts.ip_range.unwrap()) else { panic!("{facts:?}") };
    assert_eq!(u32::from(range), u32::from(subnet) + 128);
    assert_eq!(u32::from(facts.gateway.unwrap()), u32::from(subnet) + 1);
    for (what, wanted) in [
        (".Driver", r#""bridge""#),
        (".Internal", "true"),
        (".Attachable", "true"),
        (".EnableIPv6", "true"),
        (".Options", r#"{"com.docker.network.bridge.enable_icc":"true"}"#),
        (r#"(index .Labels "team")"#, r#""core""#),
    ] {
        assert_eq!(of_network(&name, what), wanted, "{what}");
    }
    assert!(of_network(&name, ".IPAM.Config").contains("fd00:7ea1:1::/64"));
    assert_eq!(described(&place, &name, settings.clone()).await.unwrap(), facts);
    let other = Network { internal: false, driver: Some("macvlan".into()), ..settings };
    assert_eq!(described(&place, &name, other).await.unwrap().differs, ["driver", "internal"]);
}

#[tokio::test]
async fn written_pools_are_taken_as_they_are() {
    let place = Place::new().await;
    let name = place.name("pools");
    let free = place.free_subnet();
    let pool = IpamPool {
        subnet: Some(format!("{free}.0/24")),
        ip_range: Some(format!("{free}.64/26")),
        gateway: Some(format!("{free}.254").parse().unwrap()),
        aux_addresses: BTreeMap::from([("printer".into(), format!("{free}.65").parse().unwrap())]),
    };
    let ipam = Some(Ipam { config: vec![pool], ..Default::default() });
    let facts = described(&place, &name, Network { ipam, ..Default::default() }).await.unwrap();
    assert_eq!(facts.subnet, Some((format!("{free}.0").parse().unwrap(), 24)));
    assert_eq!(facts.ip_range, Some((format!("{free}.64").parse().unwrap(), 26)));
    assert_eq!(facts.gateway, Some(format!("{free}.254").parse().unwrap()));
    assert!(facts.configured_subnet && facts.differs.is_empty());
    let mut spec = place.spec("a", &["serve"]);
    spec.networks = vec![runtime::Place { ipv4: Some(format!("{free}.9").parse().unwrap()), ..place.at(&name, &[]) }];
    place.run(&spec).await;
    let taken = place.runtime.network_addresses(&name).await.unwrap();
    let who = |last: u8| taken.get(&format!("{free}.{last}").parse().unwrap()).map(String::as_str);
    assert_eq!((who(254), who(65), who(9)), (Some("gateway"), Some("printer"), Some(spec.name.as_str())));
    assert_eq!(taken.len(), 3);
}

#[tokio::test]
async fn an_external_network_is_looked_for_and_never_made() {
    let place = Place::new().await;
    let name = place.name("external");
    let external = Network { external: true, ..Default::default() };
    let error = described(&place, &name, external.clone()).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::NotFound { kind: "network", name: missing } if *missing == name), "{error}");
    docker(&["network", "create", "--label", &format!("test={}", place.id), &name]);
    let facts = described(&place, &name, external).await;
    docker(&["network", "rm", &name]);
    let facts = facts.unwrap();
    assert!(!facts.ours && !facts.configured_subnet && facts.subnet.is_some() && facts.ip_range.is_none(), "{facts:?}");
    assert!(matches!(place.runtime.network_addresses(&name).await, Err(RuntimeError::NotFound { .. })));
}

#[tokio::test]
async fn what_this_engine_cannot_make_is_refused() {
    let place = Place::new().await;
    let engine = place.runtime.engine().await.unwrap();
    let settings = Network { driver: Some("no-such-driver".into()), ..Default::default() };
    assert!(matches!(described(&place, &place.name("x"), settings).await, Err(RuntimeError::Refused { .. })));
    if engine.api_version == "1.41" {
        let settings = Network { enable_ipv4: Some(false), ..Default::default() };
        let error = described(&place, &place.name("y"), settings).await.unwrap_err().to_string();
        assert!(error.contains("`enable_ipv4` needs Docker 28.0"), "{error}");
    }
}
