//! Volumes that have no name: carried from release to release, and of no use to anybody once nothing was live.

use crate::shop::{Shop, project, worker};
use crate::stage::{exits, good, start};
use teal_agent::runtime::fake::App;
use teal_model::api::{DeployRequest, RemoveRequest, RemoveVolumes, Removed};
use teal_model::deployment::State;

/// Its image has a volume of its own.
fn request(shop: &Shop, version: &str, app: App) -> DeployRequest {
    let name = format!("db:{version}");
    let image = shop.engine.add_image(&name, app);
    shop.engine.change_image(&image.id, |image| image.volumes = vec!["/data".to_owned()]);
    project(vec![worker("db", &name)])
}

/// It is waited for, and never comes.
fn bad(shop: &Shop, version: &str) -> DeployRequest {
    let request = request(shop, version, exits());
    let image = shop.engine.add_image(&format!("db:{version}"), exits());
    shop.engine.change_image(&image.id, |image| {
        (image.volumes, image.has_healthcheck) = (vec!["/data".to_owned()], true);
    });
    request
}

fn held(shop: &Shop) -> Vec<String> {
    shop.of("db").iter().map(|one| one.volumes["/data"].name.clone()).collect()
}

fn remove(shop: &Shop, volumes: RemoveVolumes) -> Removed {
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let request =
            RemoveRequest { project: "shop".to_owned(), services: Vec::new(), volumes, who: "test".to_owned() };
        agent.remove(&request).await.unwrap()
    })
}

#[test]
fn a_first_deployment_that_comes_to_nothing_leaves_none() {
    let shop = Shop::new();
    let bad = bad(&shop, "v1");
    let state = shop.deploy(&bad);
    assert!(matches!(state, State::Reverted { .. }), "{state:?}");
    assert!(shop.engine.journal().iter().any(|effect| effect.on == "shop-db-blue-1"), "it had a container");
    assert_eq!(shop.engine.volumes(), Vec::<String>::new());
}

#[test]
fn a_later_one_that_comes_to_nothing_leaves_the_live_release_what_it_has() {
    let shop = Shop::new();
    let first = request(&shop, "v1", good());
    assert_eq!(shop.deploy(&first), State::Done);
    let (before, volumes) = (held(&shop), shop.engine.volumes());
    let bad = bad(&shop, "v2");
    let state = shop.deploy(&bad);
    assert!(matches!(state, State::Reverted { .. }), "{state:?}");
    assert_eq!((held(&shop), shop.engine.volumes()), (before, volumes));
}

#[test]
fn a_removal_names_those_that_it_keeps() {
    let shop = Shop::new();
    let first = request(&shop, "v1", good());
    assert_eq!(shop.deploy(&first), State::Done);
    let before = held(&shop);
    assert_eq!(before.len(), 1);
    assert_eq!(remove(&shop, RemoveVolumes::Keep).volumes_kept, before);
    assert_eq!(shop.engine.volumes(), before);
}

#[test]
fn a_removal_with_volumes_takes_them_along() {
    let shop = Shop::new();
    let first = request(&shop, "v1", good());
    assert_eq!(shop.deploy(&first), State::Done);
    let before = held(&shop);
    let removed = remove(&shop, RemoveVolumes::All);
    assert_eq!((removed.volumes_removed, removed.volumes_kept), (before, Vec::new()));
    assert_eq!(shop.engine.volumes(), Vec::<String>::new());
}
