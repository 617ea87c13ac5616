//! A migration in the real Docker.

use super::*;
use support::Home;
use teal_agent::migrate::Migration;
use teal_agent::store::StoredRelease;
use teal_model::config::{Attachment, ContainerSettings, Migrate, Network, Port, Service, ServiceSettings, Volume};
use teal_model::deployment::Deployment;
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::plan::Choice;

/// The service is being deployed, so nobody tidies up after it.
async fn begin(home: &Home, place: &Place, command: &[&str]) -> ReleaseKey {
    let key = ServiceKey::new(&place.id, "web");
    let service = Service {
        name: "web".into(),
        container: ContainerSettings {
            image: place.image.name.clone(),
            environment: BTreeMap::from([("A".into(), "from the file".into())]),
            user: Some("1000:1000".into()),
            restart: Restart::Always,
            mounts: vec![
                mount(MountKind::Volume, Some(&place.name("data")), "/data"),
                mount(MountKind::Volume, None, "/cache"),
            ],
            healthcheck: Some(Healthcheck { test: Some(words(&["CMD", "/app", "sick"])), ..Healthcheck::default() }),
            ..ContainerSettings::default()
        },
        container_name: Some(place.name("named")),
        pull_policy: teal_model::config::PullPolicy::Never,
        ports: vec![Port { published: 8099, target: 8080, ..Port::default() }],
        networks: BTreeMap::from([(
            "default".into(),
            Attachment { aliases: words(&["other"]), ..Attachment::default() },
        )]),
        teal: ServiceSettings {
            migrate: Some(Migrate { command: words(command), timeout_ms: 60_000 }),
            ..ServiceSettings::default()
        },
        ..Service::default()
    };
    let network = Network { name: place.name("default"), ..Network::default() };
    let volume = Volume {
        name: place.name("data"),
        labels: BTreeMap::from([(label::AGENT.to_owned(), place.id.clone())]),
        ..Volume::default()
    };
    let project = teal_model::config::Project {
        name: place.id.clone(),
        services: BTreeMap::from([("web".into(), service.clone())]),
        networks: BTreeMap::from([("default".into(), network.clone())]),
        ..Default::default()
    };
    let request = teal_model::api::DeployRequest { project, choice: Choice::default(), who: "test".into() };
    let plan = home.agent.plan(&request).await.unwrap();
    home.agent.journal.begin(&mut Deployment::new(0, plan, 0), "test", 0).unwrap();
    let release = ReleaseKey::new(key, 1);
    let stored = StoredRelease {
        service,
        networks: request.project.networks,
        volumes: BTreeMap::from([("data".into(), volume)]),
        image_id: Some(place.image.id.clone()),
        ..StoredRelease::default()
    };
    home.agent.store.put_release(&release, &stored).unwrap();
    home.agent.begin_migration(&release).await.unwrap();
    release
}

async fn ended(home: &Home, release: &ReleaseKey) -> (i64, Vec<String>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match home.agent.migration(release).await.unwrap() {
            Migration::Exited { code, last_lines } => return (code, last_lines),
            Migration::Running => assert!(Instant::now() < deadline, "it still runs"),
            Migration::Gone => panic!("it is gone"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn volumes() -> Vec<String> {
    docker(&["volume", "ls", "-q"]).lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_migration_is_the_services_container_with_another_command() {
    let place = Place::new().await;
    let home = Home::new(&place).await;
    let release = begin(&home, &place, &["facts", "/data", "/cache"]).await;
    let (code, lines) = ended(&home, &release).await;
    assert_eq!(code, 0, "{lines:?}");
    assert!(lines[0].starts_with("uid=1000 gid=1000 cwd=/ A=from the file"), "{lines:?}");
    assert_eq!(lines.len(), 3, "{lines:?}");
    let name = format!("{}-web-migrate-1", place.id);
    assert_eq!(fact(&name, ".HostConfig.RestartPolicy.Name"), "\"no\"");
    assert_eq!(fact(&name, ".Config.Healthcheck.Test"), r#"["NONE"]"#);
    assert!(!fact(&name, ".HostConfig.PortBindings").contains("8099"));
    let network = place.name("default");
    let known_as = fact(&name, &format!("(index .NetworkSettings.Networks \"{network}\").Aliases"));
    assert!(!known_as.contains("web\"") && !known_as.contains("other"), "{known_as}");

    let held = place.seen(&name).await.volumes;
    home.agent.begin_migration(&release).await.unwrap();
    for _ in 0..2 {
        home.agent.end_migration(&release).await.unwrap();
    }
    assert_eq!(home.agent.migration(&release).await.unwrap(), Migration::Gone);
    let left = volumes();
    assert!(left.contains(&held["/data"].name), "the data stays");
    assert!(
        held["/cache"].anonymous && !left.contains(&held["/cache"].name),
        "what nobody can reach any more does not"
    );
}

#[tokio::test]
async fn the_last_lines_and_the_code_are_kept_until_the_end() {
    let place = Place::new().await;
    for (command, code, last) in [(words(&["long"]), 0, "line 99"), (words(&["sick"]), 1, "  not well today  ")] {
        let home = Home::new(&place).await;
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let release = begin(&home, &place, &command).await;
        let (exited, lines) = ended(&home, &release).await;
        assert_eq!((exited, lines.last().map(String::as_str)), (code, Some(last)));
        assert!(lines.len() <= 20);
        home.agent.end_migration(&release).await.unwrap();
    }
}

#[tokio::test]
async fn a_migration_that_is_ended_while_it_runs_is_stopped() {
    let place = Place::new().await;
    let home = Home::new(&place).await;
    let release = begin(&home, &place, &["serve"]).await;
    assert_eq!(home.agent.migration(&release).await.unwrap(), Migration::Running);
    home.agent.end_migration(&release).await.unwrap();
    assert_eq!(home.agent.migration(&release).await.unwrap(), Migration::Gone);
    home.agent.begin_migration(&release).await.unwrap();
    assert_eq!(home.agent.migration(&release).await.unwrap(), Migration::Gone, "once a release");
}
