//! Steps, a bake and a release that is kept warm: no death gives a candidate more than it has earned.

use crate::deaths::{Act, Again, Story, every_death, web};
use crate::shop::{self, Shop, project};
use crate::stage::{good, start};
use std::time::Duration;
use teal_agent::traffic::fake::Load;
use teal_model::api::DeployRequest;
use teal_model::config::{CanaryStep, Pace, Retain, Service};
use teal_model::deployment::State;
use teal_model::fault::Code;
use teal_model::ids::ReleaseKey;
use teal_model::plan::ALL;

const STEP_MS: u64 = 20_000;
const BAKE_MS: u64 = 30_000;
/// What the candidate gets one after another: two steps, the bake (nobody knows yet how often the service fails), all.
const SHARES: [u32; 4] = [1_000, 5_000, 9_500, ALL];
/// A second; enough for a verdict at each share.
const RATE: f64 = 100.0;

pub fn stepwise(version: &str) -> DeployRequest {
    let mut service = Service { replicas: 1, ..shop::web(&format!("web:{version}")) };
    let step = |share| CanaryStep { share, pace: Pace::For { ms: STEP_MS }, replicas: None };
    service.teal.canary = vec![step(SHARES[0]), step(SHARES[1])];
    service.teal.bake_ms = BAKE_MS;
    service.teal.rollback.extend_ms = 2 * (2 * STEP_MS + BAKE_MS);
    service.teal.retain = Retain::For { ms: 600_000 };
    project(vec![service])
}

/// v1 is live. From now on requests come, and fail as told.
fn live(fails: impl Fn(&ReleaseKey, u64) -> bool + Send + 'static) -> Shop {
    let shop = Shop::new();
    shop.image("web:v1", good()).image("web:v2", good());
    assert_eq!(shop.deploy(&stepwise("v1")), State::Done);
    shop.traffic.proxy().load = Some(Load { rate: RATE, fails: Box::new(fails) });
    shop
}

fn second() -> Act {
    Act::Deploy(Box::new(stepwise("v2")))
}

/// When the candidate got so much, or more, for the first time.
fn reached(story: &Story, share: u32) -> u64 {
    story.tables.iter().find(|sent| sent.share(2) >= share).map_or(u64::MAX, |sent| sent.at_ms)
}

/// Each share is held for its time before the next one comes.
fn earned(story: &Story) {
    let held = [STEP_MS, STEP_MS, BAKE_MS];
    for (shares, held) in SHARES.windows(2).zip(held) {
        let (from, to) = (reached(story, shares[0]), reached(story, shares[1]));
        let took = to.saturating_sub(from);
        assert!(took + 50 >= held, "{}: {} after {took} ms of {held}: {:#?}", story.when, shares[1], story.tables);
    }
}

#[test]
fn a_good_candidate_goes_on_step_by_step_after_every_death() {
    every_death(
        || live(|_, _| false),
        &second(),
        |story| {
            assert_eq!(story.state, State::Done, "{}", story.when);
            earned(story);
            for sent in &story.tables {
                let share = sent.share(2);
                assert!(share == 0 || SHARES.contains(&share), "{}: {sent:?}", story.when);
            }
            story.settled(2, Some(1));
        },
    );
}

/// From its `from`-th request on so many fail that it is turned down, and too few to be taken back.
fn stumbles(from: u64, failures: u64) -> impl Fn(&ReleaseKey, u64) -> bool + Send + 'static {
    move |release, n| release.number == 2 && (from..from + failures).contains(&n)
}

/// One that was turned down gets no more from the next agent, before that one has watched it for a while.
fn stays_down(story: &Story) {
    const WATCHED_MS: u64 = 9_000;
    let watched = |again: &&Again| again.left.as_ref().is_some_and(State::is_watched);
    let Some(Again { table: first, at_ms: began, .. }) = story.again.as_ref().filter(watched) else { return };
    let (first, began) = (*first, *began);
    let Some(before) = first.checked_sub(1).map(|last| story.tables[last].share(2)) else { return };
    let highest = story.tables[..first].iter().map(|sent| sent.share(2)).max().unwrap_or_default();
    if before > 0 && before < highest {
        for sent in story.tables[first..].iter().filter(|sent| sent.at_ms < began + WATCHED_MS) {
            assert!(sent.share(2) <= before, "{}: {before} were given: {:#?}", story.when, &story.tables);
        }
    }
}

fn whoever_stumbles_goes_on(prepare: impl Fn() -> Shop, at: u32) {
    every_death(prepare, &second(), |story| {
        assert_eq!(story.state, State::Done, "{}", story.when);
        let shares: Vec<u32> = story.tables.iter().map(|sent| sent.share(2)).collect();
        let down = shares.windows(2).any(|pair| pair[0] == at && pair[1] > 0 && pair[1] < at);
        // What one agent has seen in part is too little for the next one.
        assert!(down || story.again.is_some(), "{}: it was turned down from {at}: {shares:?}", story.when);
        stays_down(story);
        story.settled(2, Some(1));
    });
}

#[test]
fn one_that_is_turned_down_in_a_step_stays_so_after_every_death() {
    whoever_stumbles_goes_on(|| live(stumbles(50, 5)), SHARES[0]);
}

#[test]
fn one_that_is_turned_down_in_the_bake_stays_so_after_every_death() {
    // It is known how often the service fails: its candidate gets all requests, and is measured by that.
    let known = || {
        let shop = live(stumbles(1_500, 6));
        let engine = shop.engine.restarted();
        shop.life(async {
            let _agent = start(shop.dir.path(), &engine, &shop.traffic).await;
            tokio::time::sleep(Duration::from_secs(70)).await;
        });
        shop
    };
    whoever_stumbles_goes_on(known, ALL);
}

#[test]
fn a_candidate_that_fails_is_taken_back_after_every_death_and_not_deployed_again_by_mistake() {
    every_death(
        || live(|release, _| release.number == 2),
        &second(),
        |story| {
            let when = &story.when;
            let State::Reverted { why } = &story.state else { panic!("{when}: {:?}", story.state) };
            assert!(why.code == Code::Worse && why.what.starts_with("green (web 2) failed "), "{when}: {why:?}");
            assert!(why.detail.iter().all(|line| !line.ends_with(" wrote last:")), "{when}: it wrote nothing: {why:?}");
            let back = story.tables.iter().skip_while(|sent| sent.share(2) == 0).skip_while(|sent| sent.share(2) > 0);
            assert!(back.clone().all(|sent| sent.split == [(1, ALL)]), "{when}: {:?}", story.tables);
            assert!(story.tables.iter().all(|sent| sent.share(2) <= SHARES[0]), "{when}");
            story.settled(1, None);
            let taken = story.journal().taken_back(&web()).unwrap();
            assert_eq!(taken.map(|one| one.release.number), Some(2), "{when}");
            let engine = story.shop.engine.restarted();
            story.shop.life(async {
                let agent = start(story.shop.dir.path(), &engine, &story.shop.traffic).await;
                assert_eq!(agent.deploy(stepwise("v2")).await.unwrap_err().code, Code::JustReverted, "{when}");
                let mut forced = stepwise("v2");
                forced.choice.force = true;
                assert!(agent.deploy(forced).await.is_ok(), "{when}");
            });
        },
    );
}
