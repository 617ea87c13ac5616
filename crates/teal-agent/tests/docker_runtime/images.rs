//! Images found and pulled, with credentials from a real registry.

use super::*;
use teal_model::config::{ExposedPort, Protocol};

#[tokio::test]
async fn an_image_is_found_by_name_and_by_id() {
    let place = Place::new().await;
    let rt = &place.runtime;
    let image = rt.image(&place.image.name).await.unwrap().unwrap();
    assert_eq!(
        (image.id.as_str(), image.exposed.as_slice(), image.has_healthcheck),
        (place.image.id.as_str(), [ExposedPort { port: 8080, protocol: Protocol::Tcp }].as_slice(), false)
    );
    let digits = image.id.strip_prefix("sha256:").unwrap().to_owned();
    for id in [&image.id, &digits, &digits[..12].to_owned()] {
        assert_eq!(rt.image(id).await.unwrap().as_ref(), Some(&image), "{id}");
    }
    // The beginning of an id is no name.
    assert_eq!(rt.image(&digits[..6]).await.unwrap(), None);
    assert_eq!(rt.image("teal-test-no-such-image:1").await.unwrap(), None);
    assert!(matches!(rt.image("Not A Name").await, Err(RuntimeError::Refused { .. })));
}

async fn pull(
    place: &Place,
    config: &std::path::Path,
    reference: &str,
) -> teal_agent::runtime::Result<teal_agent::runtime::Image> {
    let _ = place;
    let (progress, mut seen) = mpsc::channel(64);
    let runtime = DockerRuntime::from_env().unwrap().with_config_dir(config);
    let pulled = timeout(PATIENCE, runtime.pull(reference, progress)).await.unwrap();
    if pulled.is_ok() {
        let mut last = None;
        while let Some(step) = seen.recv().await {
            last = Some(step);
        }
        let last = last.unwrap();
        assert_eq!(last.layers_done, last.layers);
    }
    pulled
}

#[tokio::test]
async fn a_pull_signs_in_as_docker_would() {
    let place = Place::new().await;
    let mut registry = Registry::start().await;
    let reference = registry.push(&place.image, "team/app:1.2");
    let good = registry.good_config();

    let image = pull(&place, &good, &reference).await.unwrap();
    assert_eq!(image.volumes, ["/data"]);
    assert!(image.repo_digests[0].starts_with(&registry.at), "{image:?}");
    assert_eq!(place.runtime.image(&reference).await.unwrap().as_ref(), Some(&image));
    assert_eq!(pull(&place, &good, &reference).await.unwrap(), image);

    let digest = image.repo_digests[0].clone();
    docker(&["rmi", &reference]);
    assert_eq!(place.runtime.image(&digest).await.unwrap(), None);
    let by_digest = pull(&place, &good, &digest).await.unwrap();
    assert_eq!(by_digest.id, image.id);
    docker(&["rmi", &digest]);
}

#[tokio::test]
async fn a_refused_pull_says_why_and_quotes_no_secret() {
    let place = Place::new().await;
    let mut registry = Registry::start().await;
    let reference = registry.push(&place.image, "team/app:1");
    let wrong = registry.config_dir("wrong", &registry.auths("ann:wrong-secret"));
    let none = registry.config_dir("none", "{}");
    let broken = registry.config_dir("broken", r#"{"auths": {"x": {"auth": "c2VjcmV0""#);
    for (config, missing) in [(&wrong, "wrong-secret"), (&none, "~~~"), (&broken, "c2VjcmV0")] {
        let error = pull(&place, config, &reference).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(matches!(&error, RuntimeError::Pull { image, .. } if *image == reference), "{text}");
        assert!(text.contains("auth") && !text.contains(missing), "{text}");
    }
    assert!(pull(&place, &broken, &reference).await.unwrap_err().to_string().contains("config.json"));
    let error = pull(&place, &registry.good_config(), &format!("{}/team/app:nope", registry.at)).await.unwrap_err();
    assert!(
        matches!(&error, RuntimeError::Pull { why, .. } if why.contains("nope") || why.contains("unknown")),
        "{error}"
    );
    let error = pull(&place, &none, "127.0.0.1:1/team/app").await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Pull { why, .. } if why.contains("refused")), "{error}");
}

/// The helper must be in the PATH of the agent, so it is installed for the time of this test.
#[tokio::test]
async fn a_credential_helper_is_asked_for_the_registry() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new().await;
    let mut registry = Registry::start().await;
    let reference = registry.push(&place.image, "team/app:1");
    let name = format!("teal-{}", place.id);
    let path = std::path::PathBuf::from(format!("/usr/local/bin/docker-credential-{name}"));
    let script = format!(
        "#!/bin/sh\nread -r registry\n[ \"$1 $registry\" = \"get {}\" ] || {{ echo 'credentials not found in native keychain'; exit 1; }}\nprintf '%s' '{{\"ServerURL\":\"x\",\"Username\":\"{}\",\"Secret\":\"{}\"}}'\n",
        registry.at,
        Registry::USER,
        Registry::PASSWORD
    );
    let _helper = Installed(path.clone());
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let one = registry.config_dir("one", &format!(r#"{{"credHelpers":{{"{}":"{name}"}}}}"#, registry.at));
    let all = registry.config_dir("all", &format!(r#"{{"credsStore":"{name}","auths":{{"{}":{{}}}}}}"#, registry.at));
    let other = registry.config_dir("other", &format!(r#"{{"credHelpers":{{"elsewhere.example":"{name}"}}}}"#));
    for config in [&one, &all] {
        pull(&place, config, &reference).await.unwrap();
        docker(&["rmi", &reference]);
    }
    assert!(pull(&place, &other, &reference).await.is_err());
    std::fs::write(&path, "#!/bin/sh\necho top-secret\nexit 3\n").unwrap();
    let error = pull(&place, &all, &reference).await.unwrap_err().to_string();
    assert!(error.contains(&name) && !error.contains("top-secret"), "{error}");
}

struct Installed(std::path::PathBuf);

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn an_image_is_removed_name_by_name_and_never_from_under_a_container() {
    let place = Place::new().await;
    let rt = &place.runtime;
    let (one, two) = (place.name("removable:1"), place.name("removable:2"));
    let id = place.image.variant(&one, "EXPOSE 53/udp\nLABEL team=core");
    let image = rt.image(&one).await.unwrap().unwrap();
    assert_eq!((image.labels["team"].as_str(), image.entrypoint.as_slice()), ("core", words(&["/app"]).as_slice()));
    assert_eq!(image.command, ["serve"]);
    assert!(image.exposed.contains(&ExposedPort { port: 53, protocol: Protocol::Udp }), "{image:?}");
    docker(&["tag", &one, &two]);
    assert!(!rt.remove_image(&id).await.unwrap(), "it has two names");
    assert!(rt.remove_image(&two).await.unwrap());
    let spec = ContainerSpec { image_id: id.clone(), ..place.spec("a", &["serve"]) };
    let made = place.run(&spec).await;
    assert!(!rt.remove_image(&one).await.unwrap(), "a container uses it");
    rt.remove(&made.id, true).await.unwrap();
    assert!(rt.remove_image(&one).await.unwrap());
    assert!(!rt.remove_image(&one).await.unwrap());
    assert_eq!(rt.image(&id).await.unwrap(), None);
}
