//! Networks, names, ports, volumes and files of the engine in memory.

use super::*;
use crate::runtime::{HeldVolume, Publish};
use std::net::Ipv4Addr;
use teal_model::config::{Mount, MountKind, Network};

fn at(network: &str, aliases: &[&str]) -> Place {
    let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
    Place { network: network.into(), aliases, ..Default::default() }
}

fn of(name: &str) -> NetworkSpec {
    let labels = BTreeMap::from([("teal.agent".to_owned(), "a".to_owned())]);
    NetworkSpec { name: name.into(), labels, ..Default::default() }
}

async fn engine() -> (FakeRuntime, Image) {
    let fake = FakeRuntime::new();
    let image = fake.add_image("app", App::default());
    for network in ["front", "back"] {
        fake.ensure_network(&of(network)).await.unwrap();
    }
    (fake, image)
}

async fn run(fake: &FakeRuntime, spec: &ContainerSpec) -> Container {
    let made = fake.ensure_container(spec).await.unwrap();
    fake.start(&made.id).await.unwrap();
    fake.inspect(&made.id).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_name_leads_to_the_containers_that_run_under_it_on_that_network() {
    let (fake, image) = engine().await;
    let facts = fake.ensure_network(&of("back")).await.unwrap();
    assert!(facts.ours && facts.configured_subnet);
    let fixed = Ipv4Addr::from(u32::from(facts.subnet.unwrap().0) + 9);
    let mut one = spec("db-1", &image);
    one.networks = vec![at("front", &["db"]), Place { ipv4: Some(fixed), ..at("back", &["db", "store"]) }];
    let mut two = spec("db-2", &image);
    two.networks = vec![at("front", &["db"])];
    let (one, two) = (run(&fake, &one).await, run(&fake, &two).await);
    assert_eq!(fake.resolve("front", "db"), [one.addresses["front"], two.addresses["front"]]);
    assert_eq!(fake.resolve("back", "store"), [IpAddr::V4(fixed)]);
    assert_eq!(fake.resolve("back", "db-1"), [IpAddr::V4(fixed)]);
    assert_eq!(fake.network_addresses("back").await.unwrap()[&IpAddr::V4(fixed)], "db-1");
    fake.stop(&one.id, Duration::ZERO).await.unwrap();
    assert_eq!(fake.resolve("front", "db"), [two.addresses["front"]]);
    // The fixed address stays with it, and another that wants it does not start while it runs.
    assert_eq!(fake.network_addresses("back").await.unwrap()[&IpAddr::V4(fixed)], "db-1");
    let mut rival = spec("rival", &image);
    rival.networks = vec![Place { ipv4: Some(fixed), ..at("back", &[]) }];
    let rival = run(&fake, &rival).await;
    assert!(matches!(fake.start(&one.id).await, Err(RuntimeError::Refused { .. })));
    fake.disconnect(&rival.id, "back").await.unwrap();
    fake.start(&one.id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_running_container_changes_its_names_and_keeps_its_fixed_address() {
    let (fake, image) = engine().await;
    let facts = fake.ensure_network(&of("front")).await.unwrap();
    let fixed = Ipv4Addr::from(u32::from(facts.subnet.unwrap().0) + 5);
    let mut holder = spec("web", &image);
    holder.networks = vec![Place { ipv4: Some(fixed), ..at("front", &["web"]) }];
    let made = run(&fake, &holder).await;
    let renamed = Place { aliases: vec!["shop".into()], ..holder.networks[0].clone() };
    for changed in [true, false] {
        fake.connect(&made.id, &renamed).await.unwrap();
        assert_eq!(fake.journal().last().unwrap().changed, changed);
    }
    assert_eq!((fake.resolve("front", "shop"), fake.resolve("front", "other")), (vec![IpAddr::V4(fixed)], vec![]));
    for changed in [true, false] {
        fake.disconnect(&made.id, "front").await.unwrap();
        assert_eq!(fake.journal().last().unwrap().changed, changed);
    }
    let missing = fake.connect(&made.id, &at("nowhere", &[])).await;
    assert!(matches!(missing, Err(RuntimeError::NotFound { kind: "network", .. })));
}

#[tokio::test(start_paused = true)]
async fn an_external_network_is_looked_for_and_never_made() {
    let (fake, _) = engine().await;
    let settings = Network { external: true, ..Default::default() };
    let external = NetworkSpec { settings, ..of("theirs") };
    assert!(matches!(fake.ensure_network(&external).await, Err(RuntimeError::NotFound { kind: "network", .. })));
    fake.add_network("theirs");
    let facts = fake.ensure_network(&external).await.unwrap();
    assert!(!facts.ours && !facts.configured_subnet && facts.ip_range.is_none());
    assert!(!fake.remove_network("theirs", "a").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn anonymous_volumes_are_new_unless_they_are_carried_over() {
    let (fake, image) = engine().await;
    fake.change_image(&image.id, |image| image.volumes = vec!["/data".into()]);
    let mut first = spec("one", &image);
    first.networks.clear();
    first.settings.mounts = vec![
        Mount { target: "/cache".into(), ..Default::default() },
        Mount { target: "/named".into(), source: Some("shop_named".into()), ..Default::default() },
        Mount { target: "/tmp".into(), kind: MountKind::Tmpfs, ..Default::default() },
    ];
    let seen = run(&fake, &first).await.volumes;
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["/cache", "/data", "/named"]);
    assert_eq!(seen["/named"], HeldVolume { name: "shop_named".into(), anonymous: false });
    let carried = |path: &str| Some((path.to_owned(), seen[path].name.clone())).filter(|_| seen[path].anonymous);
    let anonymous: BTreeMap<_, _> = ["/cache", "/data"].into_iter().filter_map(carried).collect();
    let next = ContainerSpec { name: "two".into(), anonymous, ..first.clone() };
    assert_eq!(run(&fake, &next).await.volumes, seen);
    let fresh = run(&fake, &ContainerSpec { name: "three".into(), ..first }).await.volumes;
    assert_ne!(fresh["/data"], seen["/data"]);
}

#[tokio::test(start_paused = true)]
async fn ports_are_published_while_the_container_runs() {
    let (fake, image) = engine().await;
    let mut one = spec("dns", &image);
    one.networks.clear();
    one.publish = vec![
        Publish { host_port: Some(53), container_port: 53, udp: true, ..Default::default() },
        Publish { container_port: 80, ..Default::default() },
    ];
    let seen = run(&fake, &one).await;
    assert!(seen.published.len() == 2 && seen.published.iter().all(|publish| publish.host_port.is_some()));
    assert_eq!(fake.publishing(53).await.unwrap(), ["dns"]);
    let rival = fake.ensure_container(&ContainerSpec { name: "rival".into(), ..one }).await.unwrap();
    let error = fake.start(&rival.id).await.unwrap_err().to_string();
    assert!(error.contains("already allocated"), "{error}");
    fake.stop(&seen.id, Duration::ZERO).await.unwrap();
    assert_eq!(fake.publishing(53).await.unwrap(), Vec::<String>::new());
    fake.start(&rival.id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn files_are_written_and_what_an_engine_is_too_old_for_is_refused() {
    let (fake, image) = engine().await;
    let mut one = spec("web", &image);
    one.networks.clear();
    let file = FileToWrite { target: "/run/secrets/key".into(), content: "x".into(), ..Default::default() };
    one.settings.files = vec![file.clone()];
    let made = fake.ensure_container(&one).await.unwrap();
    assert_eq!(fake.files(&made.id)["/run/secrets/key"], file);
    one.name = "noted".into();
    one.settings.annotations.insert("team".into(), "core".into());
    let error = fake.ensure_container(&one).await.unwrap_err().to_string();
    assert!(error.contains("`annotations` needs Docker 24.0"), "{error}");
    fake.change_engine(|engine| engine.api_version = "1.43".into());
    fake.ensure_container(&one).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_holder_s_image_is_loaded_once_and_an_image_in_use_stays() {
    let (fake, _) = engine().await;
    let image = fake.holder_image().await.unwrap();
    assert_eq!(fake.holder_image().await.unwrap(), image);
    assert!(!fake.journal().last().unwrap().changed);
    let mut holder = spec("holder", &image);
    holder.networks.clear();
    let made = run(&fake, &holder).await;
    assert!(!fake.remove_image("teal-holder:1").await.unwrap());
    fake.remove(&made.id, true).await.unwrap();
    assert!(fake.remove_image("teal-holder:1").await.unwrap());
    assert!(!fake.remove_image("teal-holder:1").await.unwrap());
}
