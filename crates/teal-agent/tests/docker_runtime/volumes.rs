//! Volumes made, and anonymous ones carried from container to container.

use super::*;
use teal_agent::runtime::HeldVolume;

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

#[tokio::test]
async fn an_anonymous_volume_is_carried_to_the_next_container_with_what_is_in_it() {
    let place = Place::new().await;
    let rt = &place.runtime;
    let image = place.name("with-volume:1");
    let id = place.image.variant(&image, "VOLUME /image");
    let _sweep = Untag(image);
    let volume = place.name("named");
    rt.ensure_volume(&volume, None, &BTreeMap::new(), &place.labels()).await.unwrap();
    let spec = |what: &str, path: &str| {
        let mut spec = place.spec(what, &["keep", path, what]);
        spec.image_id = id.clone();
        // One of the file, one of the image alone, one with a name.
        spec.settings.mounts = vec![
            Mount {
                labels: BTreeMap::from([("team".into(), "core".into())]),
                ..mount(MountKind::Volume, None, "/written")
            },
            mount(MountKind::Volume, Some(&volume), "/named"),
        ];
        spec
    };
    let carried = |held: &BTreeMap<String, HeldVolume>| -> BTreeMap<String, String> {
        held.iter().filter(|(_, v)| v.anonymous).map(|(at, v)| (at.clone(), v.name.clone())).collect()
    };
    let first = spec("first", "/image/mark");
    assert!(place.output(&first).await.ends_with("first"));
    let held = place.seen(&first.name).await.volumes;
    assert_eq!(held["/named"], HeldVolume { name: volume.clone(), anonymous: false });
    let anonymous = carried(&held);
    assert_eq!(anonymous.keys().collect::<Vec<_>>(), ["/image", "/written"]);
    let team = docker(&["volume", "inspect", "-f", r#"{{index .Labels "team"}}"#, &anonymous["/written"]]);
    assert_eq!(team, "core");
    rt.remove(&first.name, true).await.unwrap();

    let mut second = spec("second", "/image/mark");
    second.anonymous = anonymous.clone();
    assert!(place.output(&second).await.ends_with("first"), "what the first one wrote is still there");
    assert_eq!(carried(&place.seen(&second.name).await.volumes), anonymous);
    rt.remove(&second.name, true).await.unwrap();
    for name in anonymous.values() {
        docker(&["volume", "rm", name]);
    }
}

#[tokio::test]
async fn what_is_written_at_a_path_wins_over_what_would_be_carried_there() {
    let place = Place::new().await;
    let mut spec = place.spec("a", &["serve"]);
    spec.settings.mounts = vec![mount(MountKind::Tmpfs, None, "/data")];
    spec.anonymous = BTreeMap::from([("/data".into(), "0".repeat(64))]);
    place.run(&spec).await;
    assert_eq!(place.seen(&spec.name).await.volumes, BTreeMap::new());
}

struct Untag(String);

impl Drop for Untag {
    fn drop(&mut self) {
        support::sweep(&["rmi", "-f", &self.0]);
    }
}
