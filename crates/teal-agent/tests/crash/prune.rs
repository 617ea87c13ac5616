//! What `teal prune` removes: images that no release which anybody can go back to needs, and nothing else.

use crate::shop::{Shop, project};
use crate::stage::{life, service, start};
use teal_agent::runtime::fake::{App, Fault, Moment, Op};
use teal_agent::runtime::{Runtime, RuntimeError};
use teal_model::api::{DeployRequest, PruneRequest, Pruned, RemoveRequest, RemoveVolumes};
use teal_model::config::{Service, Strategy};
use teal_model::deployment::State;
use teal_model::fault::Code;

fn web(image: &str, keep: u32) -> Service {
    let mut web = service("web", image, Strategy::BlueGreen, 8003);
    web.teal.keep = keep;
    web
}

/// `web` was deployed from v1 to v5, and keeps two.
fn five_releases() -> Shop {
    let shop = Shop::new();
    for version in 1..=5 {
        let image = format!("web:v{version}");
        shop.image(&image, App::default());
        assert_eq!(shop.deploy(&project(vec![web(&image, 2)])), State::Done);
    }
    shop
}

fn prune(shop: &Shop, dry_run: bool, project: Option<&str>) -> Result<Pruned, teal_model::fault::Fault> {
    let engine = shop.engine.restarted();
    life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let request = PruneRequest { project: project.map(str::to_owned), dry_run, who: "test".to_owned() };
        agent.prune(&request).await
    })
}

fn pruned(shop: &Shop, dry_run: bool) -> Vec<String> {
    let pruned = prune(shop, dry_run, Some("shop")).unwrap();
    assert_eq!(pruned.left, Vec::<String>::new());
    pruned.images.into_iter().flat_map(|image| image.names).collect()
}

fn here(shop: &Shop) -> Vec<String> {
    let engine = shop.engine.restarted();
    let mut names: Vec<String> =
        life(async { engine.images().await.unwrap() }).into_iter().flat_map(|image| image.names).collect();
    names.sort();
    names.retain(|name| name.starts_with("web:"));
    names
}

#[test]
fn images_of_the_last_releases_stay_and_older_ones_go() {
    let shop = five_releases();
    let old = ["web:v1", "web:v2", "web:v3"];
    assert_eq!(pruned(&shop, true), old);
    assert_eq!(here(&shop).len(), 5, "a dry run only says");
    let done = prune(&shop, false, None).unwrap();
    assert_eq!(done.images.iter().map(|image| image.names.join(" ")).collect::<Vec<_>>(), old);
    assert_eq!(done.images[0].releases[0].to_string(), "shop/web@1");
    assert!(done.images[0].bytes > 0);
    assert_eq!(here(&shop), ["web:v4", "web:v5"]);
    assert_eq!(pruned(&shop, false), Vec::<String>::new());
    assert_eq!(prune(&shop, false, Some("shpo")).unwrap_err().code, Code::NotFound);
}

#[test]
fn what_anything_else_has_stays() {
    let shop = five_releases();
    let id = |name: &str| life(async { shop.engine.restarted().image(name).await.unwrap().unwrap().id });
    let (second, third) = (id("web:v2"), id("web:v3"));
    // Another service, and somebody else's container.
    let both = project(vec![web("web:v5", 2), service("api", "web:v1", Strategy::BlueGreen, 8001)]);
    assert_eq!(shop.deploy(&both), State::Done);
    life(async { shop.engine.restarted().add_stranger("stranger", &second, None) });
    // A tag that moved on, and one that somebody gave besides.
    shop.image("web:v3", App::default());
    shop.engine.tag(&third, "web:stable");
    for dry_run in [true, false] {
        let done = prune(&shop, dry_run, None).unwrap();
        assert_eq!(done.images, []);
        assert_eq!(done.left, ["web:stable: no release was deployed by the name web:stable"]);
    }
    let stay = ["web:stable", "web:v1", "web:v2", "web:v3", "web:v4", "web:v5"];
    assert_eq!(here(&shop), stay, "the new v3 was never released");
}

/// `web:v1` has a child that nobody has released.
fn with_a_child(made: impl Fn(&Shop, &str, &str)) -> Shop {
    let shop = five_releases();
    shop.image("child:1", App::default());
    made(&shop, &id(&shop, "web:v1"), &id(&shop, "child:1"));
    shop
}

fn id(shop: &Shop, name: &str) -> String {
    life(async { shop.engine.restarted().image(name).await.unwrap().unwrap().id })
}

fn by_layers(shop: &Shop, parent: &str, child: &str) {
    let layers = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    shop.engine.change_image(parent, |image| image.layers = layers(&["base", "app"]));
    shop.engine.change_image(child, |image| image.layers = layers(&["base", "app", "more"]));
}

#[test]
fn what_another_image_is_made_from_stays_whole_and_is_told_before() {
    let by_builder = |shop: &Shop, parent: &str, child: &str| shop.engine.build_from(parent, child);
    for made in [by_builder, by_layers] {
        let shop = with_a_child(made);
        for dry_run in [true, false] {
            let pruned = prune(&shop, dry_run, None).unwrap();
            assert_eq!(
                pruned.images.iter().flat_map(|image| image.names.clone()).collect::<Vec<_>>(),
                ["web:v2", "web:v3"]
            );
            assert_eq!(pruned.left, ["web:v1: child:1 is made from it"]);
        }
        assert_eq!(here(&shop), ["web:v1", "web:v4", "web:v5"]);
    }
}

#[test]
fn an_image_goes_after_those_that_are_made_from_it() {
    let shop = five_releases();
    shop.engine.build_from(&id(&shop, "web:v2"), &id(&shop, "web:v1"));
    shop.engine.build_from(&id(&shop, "web:v3"), &id(&shop, "web:v2"));
    assert_eq!(pruned(&shop, true), ["web:v1", "web:v2", "web:v3"]);
    shop.engine.build_from(&id(&shop, "web:v1"), &id(&shop, "web:v4"));
    assert_eq!(prune(&shop, true, None).unwrap().left.len(), 3, "the last of them is live, and made from all");
}

#[test]
fn an_image_that_is_not_removed_after_all_has_its_names_again() {
    let shop = five_releases();
    let (parent, child) = (id(&shop, "web:v1"), id(&shop, "web:v5"));
    let engine = shop.engine.clone();
    // Somebody builds from it after Teal has looked.
    shop.engine.hook(move |effect, moment| {
        if (effect.op, effect.on.as_str(), moment) == (Op::RemoveImage, "web:v1", Moment::Before) {
            engine.build_from(&parent, &child);
        }
        Fault::None
    });
    let done = prune(&shop, false, None).unwrap();
    assert_eq!(done.left, ["web:v1: it is in use"]);
    assert_eq!(here(&shop), ["web:v1", "web:v4", "web:v5"]);
}

#[test]
fn an_image_that_has_lost_its_tag_goes_by_its_id() {
    let shop = five_releases();
    shop.image("web:v1", App::default());
    let done = prune(&shop, false, None).unwrap();
    assert_eq!(done.images[0].names, Vec::<String>::new());
    assert_eq!(done.images.len(), 3);
    assert_eq!(here(&shop), ["web:v1", "web:v4", "web:v5"]);
}

#[test]
fn a_release_that_was_taken_back_counts_for_nothing_and_its_image_stays_until_a_later_one_is_live() {
    let shop = five_releases();
    shop.image("web:bad", App { exits: Some((std::time::Duration::from_millis(10), 1)), ..App::default() });
    let mut bad = web("web:bad", 2);
    bad.teal.bake_ms = 10_000;
    assert!(matches!(shop.deploy(&project(vec![bad])), State::Reverted { .. }));
    assert_eq!(pruned(&shop, false), ["web:v1", "web:v2", "web:v3"]);
    shop.image("web:v6", App::default());
    assert_eq!(shop.deploy(&project(vec![web("web:v6", 2)])), State::Done);
    assert_eq!(pruned(&shop, false), ["web:v4", "web:bad"]);
    assert_eq!(here(&shop), ["web:v5", "web:v6"]);
}

#[test]
fn one_image_that_cannot_be_removed_is_told_and_stops_nothing() {
    let shop = five_releases();
    let engine = shop.engine.restarted();
    let why = || RuntimeError::Refused { what: "remove image `web:v1`".into(), why: "input/output error".into() };
    engine.fail_next(Op::RemoveImage, why());
    let done = prune(&shop, false, None).unwrap();
    assert_eq!(done.left, ["web:v1: remove image `web:v1` failed: input/output error"]);
    assert_eq!(done.images.len(), 2);
    assert_eq!(here(&shop), ["web:v1", "web:v4", "web:v5"]);
}

#[test]
fn nothing_of_a_service_that_was_removed_is_kept() {
    let shop = five_releases();
    let engine = shop.engine.restarted();
    life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let request = RemoveRequest {
            project: "shop".to_owned(),
            services: Vec::new(),
            volumes: RemoveVolumes::Keep,
            who: "test".to_owned(),
        };
        agent.remove(&request).await.unwrap();
    });
    assert_eq!(pruned(&shop, false).len(), 5);
    assert_eq!(here(&shop), Vec::<String>::new());
}

#[test]
fn what_a_deployment_that_goes_on_needs_stays() {
    let shop = five_releases();
    let engine = shop.engine.restarted();
    // Back to v1: its image is here, and its release is not live yet.
    shop.image("web:v1", App { boots_in: std::time::Duration::from_secs(3600), ..App::default() });
    let again: DeployRequest = project(vec![web("web:v1", 2)]);
    life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let plan = agent.plan(&again).await.unwrap();
        let mut deployment = teal_model::deployment::Deployment::new(0, plan, 0);
        agent.journal.begin(&mut deployment, "test", 0).unwrap();
        let request = PruneRequest { project: None, dry_run: false, who: "test".to_owned() };
        agent.prune(&request).await.unwrap();
    });
    assert_eq!(here(&shop), ["web:v1", "web:v4", "web:v5"]);
}
