//! Holders: a container that does nothing, keeps names and addresses, and leaves at once.

use super::*;
use teal_agent::runtime;
use teal_model::config::ContainerSettings;

async fn holder(place: &Place, what: &str) -> ContainerSpec {
    let image = place.runtime.holder_image().await.unwrap();
    ContainerSpec {
        name: place.name(what),
        image_id: image.id,
        labels: place.labels(),
        settings: ContainerSettings { restart: Restart::Always, ..Default::default() },
        networks: vec![place.at(&place.network, &["web"])],
        restart_now: true,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_holder_runs_is_brought_back_and_stops_at_once() {
    let place = Place::new().await;
    let rt = &place.runtime;
    let image = rt.holder_image().await.unwrap();
    assert_eq!(rt.holder_image().await.unwrap(), image);
    assert_eq!(image.command, ["/holder"]);
    let spec = holder(&place, "web").await;
    let made = place.run(&spec).await;
    assert_eq!(made.status, Status::Running);
    // Nothing but SIGKILL ends the first process of a container that has no handler.
    docker(&["kill", "-s", "TERM", &made.id]);
    assert_eq!(place.seen(&made.id).await.pid, made.pid);
    let killed = rustix::process::Pid::from_raw(made.pid).unwrap();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
    let again = place.until(&made.id, |seen| seen.pid != 0 && seen.pid != made.pid).await;
    assert_eq!(again.restarts, 1);
    let begin = Instant::now();
    rt.stop(&made.id, GRACE).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(place.seen(&made.id).await.status, Status::Exited { code: 137, out_of_memory: false });
}

#[tokio::test]
async fn a_holder_changes_its_place_while_it_runs_and_keeps_its_address() {
    let place = Place::new().await;
    let rt = &place.runtime;
    let facts = rt.ensure_network(&place.network_spec(&place.network)).await.unwrap();
    let fixed = std::net::Ipv4Addr::from(u32::from(facts.subnet.unwrap().0) + 7);
    let mut spec = holder(&place, "web").await;
    spec.networks[0].ipv4 = Some(fixed);
    let made = place.run(&spec).await;
    assert_eq!(made.addresses[&place.network], std::net::IpAddr::V4(fixed));

    let renamed = runtime::Place { aliases: vec!["web".into(), "shop".into()], ..spec.networks[0].clone() };
    for _ in 0..2 {
        rt.connect(&made.id, &renamed).await.unwrap();
    }
    let seen = place.seen(&made.id).await;
    assert!(seen.networks[&place.network].is_as(&renamed), "{seen:?}");
    assert_eq!((seen.pid, seen.addresses[&place.network]), (made.pid, std::net::IpAddr::V4(fixed)));
    let looked = place.output(&place.spec("client", &["resolve", "shop", "web"])).await;
    assert_eq!(looked, format!("shop {fixed}\nweb {fixed}"));

    for _ in 0..2 {
        rt.disconnect(&made.id, &place.network).await.unwrap();
    }
    assert_eq!(place.seen(&made.id).await.networks, BTreeMap::new());
    rt.disconnect("no-such-container", &place.network).await.unwrap();
    let error = rt.connect(&made.id, &place.at(&place.name("no-such"), &[])).await.unwrap_err();
    assert!(matches!(error, RuntimeError::NotFound { kind: "network", .. }), "{error}");
}
