//! Files written into a container before it starts.

use super::*;
use teal_model::config::FileToWrite;

const SECRET: &str = "hunter2 and more";

fn file(target: &str, mode: u32, owner: Option<(u32, u32)>) -> FileToWrite {
    FileToWrite {
        target: target.into(),
        content: SECRET.into(),
        mode,
        uid: owner.map(|(uid, _)| uid),
        gid: owner.map(|(_, gid)| gid),
    }
}

#[tokio::test]
async fn files_are_there_before_the_app_starts_with_mode_and_owner() {
    let place = Place::new().await;
    let mut spec = place.spec("a", &["show", "/run/secrets/key", "/etc/app/own", "/volume/conf"]);
    spec.settings.user = Some("1234:55".into());
    spec.settings.mounts = vec![mount(MountKind::Volume, None, "/volume")];
    spec.settings.files = vec![
        file("/run/secrets/key", 0o444, None),
        file("/etc/app/own", 0o400, Some((1234, 55))),
        file("/volume/conf", 0o640, Some((70_000, 55))),
    ];
    let text = place.output(&spec).await;
    let wanted = [
        format!("/run/secrets/key 0444 0:0 {SECRET}"),
        format!("/etc/app/own 0400 1234:55 {SECRET}"),
        format!("/volume/conf 0640 70000:55 {SECRET}"),
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn a_creation_that_was_cut_short_is_finished_by_the_next_try() {
    let place = Place::new().await;
    let mut spec = place.spec("a", &["show", "/run/secrets/key"]);
    let bare = place.runtime.ensure_container(&spec).await.unwrap();
    // As if the agent had died between creating the container and writing its files, or connecting it.
    spec.settings.files = vec![file("/run/secrets/key", 0o440, None)];
    let second = place.name("second");
    place.runtime.ensure_network(&place.network_spec(&second)).await.unwrap();
    spec.networks.push(place.at(&second, &["other"]));
    let made = place.runtime.ensure_container(&spec).await.unwrap();
    assert_eq!(made.id, bare.id);
    assert!(made.networks[&second].aliases.contains("other"));
    assert!(place.output(&spec).await.contains(SECRET));
}

#[tokio::test]
async fn files_that_would_be_lost_are_refused_and_no_error_quotes_them() {
    let place = Place::new().await;
    let mut spec = place.spec("a", &["serve"]);
    spec.settings.files = vec![file("/run/secrets/key", 0o444, None)];
    spec.settings.read_only = true;
    let error = place.runtime.ensure_container(&spec).await.unwrap_err();
    assert!(error.to_string().contains("read_only"), "{error}");
    let made = place.run(&place.spec("b", &["serve"])).await;
    for target in ["/app/below-a-file", "/a/../b"] {
        let error = place.runtime.write_files(&made.id, &[file(target, 0o444, None)]).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    let gone = place.runtime.write_files("no-such-container", &[file("/key", 0o444, None)]).await.unwrap_err();
    assert!(matches!(gone, RuntimeError::NotFound { kind: "container", .. }), "{gone}");
    assert_eq!(place.runtime.list(&[(label::AGENT, &place.id)]).await.unwrap().len(), 1);
}
