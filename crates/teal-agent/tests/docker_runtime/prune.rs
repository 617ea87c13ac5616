//! Images removed from the real Docker.

use super::*;
use support::{Home, sweep};
use teal_model::api::{DeployRequest, PruneRequest};
use teal_model::config::{
    Attachment, ContainerSettings, Health, Network, Probe, Project, PullPolicy, Retain, Service, ServiceSettings,
};
use teal_model::deployment::State;
use teal_model::plan::Choice;

/// Removed with all their names, whatever the test has left of them.
struct Images(Vec<String>);

impl Drop for Images {
    fn drop(&mut self) {
        for id in &self.0 {
            sweep(&["rmi", "-f", id]);
        }
    }
}

async fn deploy(home: &Home, place: &Place, image: &str) {
    let service = Service {
        name: "web".into(),
        container: ContainerSettings {
            image: image.to_owned(),
            command: Some(words(&["serve"])),
            ..ContainerSettings::default()
        },
        pull_policy: PullPolicy::Never,
        networks: BTreeMap::from([("default".into(), Attachment::default())]),
        teal: ServiceSettings {
            mode: teal_model::config::Mode::Direct,
            health: Health { probe: Probe::None, ..Health::default() },
            drain_ms: 0,
            bake_ms: 0,
            retain: Retain::For { ms: 0 },
            keep: 1,
            ..ServiceSettings::default()
        },
        ..Service::default()
    };
    let project = Project {
        name: place.id.clone(),
        services: BTreeMap::from([("web".into(), service)]),
        networks: BTreeMap::from([("default".into(), Network { name: place.name("default"), ..Network::default() })]),
        ..Project::default()
    };
    let request = DeployRequest { project, choice: Choice::default(), who: "test".into() };
    let number = home.agent.deploy(request).await.unwrap().deployment;
    let ended = async {
        while home.agent.handle(number).is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
    let kept = home.agent.journal.deployment(number).unwrap().unwrap();
    assert_eq!(kept.deployment.state, State::Done);
}

#[tokio::test]
async fn images_go_with_all_their_names_and_not_from_under_a_container() {
    // First, so that it is dropped last: containers hold what they run.
    let mut images = Images(Vec::new());
    let place = Place::new().await;
    let home = Home::new(&place).await;
    let names: Vec<String> = (1..=5).map(|version| place.name(&format!("web:{version}"))).collect();
    let (also, stable, child) = (place.name("also:2"), place.name("stable:1"), place.name("child:4"));
    for (index, name) in names.iter().enumerate() {
        images.0.push(place.image.variant(name, ""));
        deploy(&home, &place, name).await;
        if index == 1 {
            docker(&["tag", name, &also]);
            deploy(&home, &place, &also).await;
        }
    }
    let base = place.name("base");
    docker(&["create", "--name", &base, &names[3]]);
    docker(&["commit", "--change", "ENV MADE=1", &base, &child]);
    docker(&["rm", &base]);
    images.0.push(place.runtime.image(&child).await.unwrap().unwrap().id);
    docker(&["tag", &names[4], &names[0]]);
    let label = format!("{}={}", label::AGENT, place.id);
    docker(&["create", "--name", &place.name("stranger"), "--label", &label, &names[2]]);

    let request = |dry_run| PruneRequest { project: Some(place.id.clone()), dry_run, who: "test".into() };
    let here = async |id: &str| place.runtime.image(id).await.unwrap().is_some();
    for dry_run in [true, false] {
        let pruned = home.agent.prune(&request(dry_run)).await.unwrap();
        assert_eq!(pruned.left, [format!("{}: {child} is made from it", names[3])]);
        let mut found: Vec<(String, Vec<String>)> =
            pruned.images.iter().map(|image| (image.id.clone(), image.names.clone())).collect();
        found.iter_mut().for_each(|(_, names)| names.sort());
        found.sort_by_key(|(id, _)| *id != images.0[0]);
        let expected = [(images.0[0].clone(), Vec::new()), (images.0[1].clone(), vec![also.clone(), names[1].clone()])];
        assert_eq!(found, expected);
        assert!(pruned.images.iter().all(|image| image.bytes > 100_000));
        for (index, stays) in [(0, dry_run), (1, dry_run), (2, true), (3, true), (4, true)] {
            assert_eq!(here(&images.0[index]).await, stays, "{}, dry run: {dry_run}", names[index]);
        }
    }
    assert_eq!(place.runtime.image(&names[0]).await.unwrap().unwrap().id, images.0[4], "the tag moved on");
    let named = place.runtime.image(&names[3]).await.unwrap();
    assert_eq!(named.unwrap().id, images.0[3], "it keeps its name");
    docker(&["rmi", &child]);
    docker(&["tag", &names[3], &stable]);
    let pruned = home.agent.prune(&request(false)).await.unwrap();
    assert_eq!((pruned.images.len(), pruned.left.len()), (0, 1), "{pruned:?}");
    docker(&["rmi", &stable]);
    assert_eq!(home.agent.prune(&request(false)).await.unwrap().images.len(), 1);
    assert!(!here(&images.0[3]).await);
}
