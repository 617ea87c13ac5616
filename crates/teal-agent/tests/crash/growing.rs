//! A canary whose candidate grows with its steps: no death gives a share to replicas that are not fit for it.

use crate::deaths::{Act, Story, every_death};
use crate::shop::{self, Shop, project};
use crate::stage::good;
use std::time::Duration;
use teal_agent::runtime::fake::App;
use teal_agent::traffic::fake::Load;
use teal_model::api::{DeployRequest, Notice, What};
use teal_model::config::{CanaryStep, Health, Pace, Probe, Service, Warmup};
use teal_model::deployment::State;
use teal_model::fault::Code;
use teal_model::plan::ALL;

const STEP_MS: u64 = 20_000;
/// What the candidate gets one after another, and how many of its replicas have it.
const STEPS: [(u32, usize); 3] = [(1_000, 1), (5_000, 2), (ALL, 4)];

fn growing(version: &str, pace: Pace) -> DeployRequest {
    let mut service = Service { replicas: 4, ..shop::web(&format!("web:{version}")) };
    let step = |(share, replicas): (u32, usize)| CanaryStep { share, pace, replicas: Some(replicas as u32) };
    service.teal.canary = STEPS[..2].iter().copied().map(step).collect();
    // Nobody answers there, which is told and stops nothing.
    let warmup = Warmup { requests: 1, paths: vec!["/".to_owned()], concurrency: 1, timeout_ms: 1_000 };
    service.teal.health = Health { probe: Probe::None, deadline_ms: 60_000, warmup: Some(warmup), ..Health::default() };
    project(vec![service])
}

/// v1 is live, and has requests.
fn live(second: App) -> Shop {
    let shop = Shop::new();
    shop.image("web:v1", good());
    let second = shop.engine.add_image("web:v2", second);
    // Else it would be ready as soon as it runs.
    shop.engine.change_image(&second.id, |image| image.has_healthcheck = true);
    assert_eq!(shop.deploy(&growing("v1", Pace::Manual)), State::Done);
    shop.traffic.proxy().load = Some(Load { rate: 50.0, fails: Box::new(|_, _| false) });
    shop
}

fn second() -> Box<DeployRequest> {
    Box::new(growing("v2", Pace::For { ms: STEP_MS }))
}

/// In every table the candidate's share goes to the replicas of its step: to no further one, and to all of them when the share
/// is given.
fn only_those_of_the_step_have_requests(story: &Story) {
    let mut given = 0;
    for sent in story.tables.iter().filter(|sent| sent.share(2) > 0) {
        let (share, backends) = (sent.share(2), sent.backends(2));
        let Some((_, replicas)) = STEPS.iter().find(|(of, _)| *of == share) else {
            panic!("{}: nobody gave it {share}", story.when)
        };
        assert!(backends <= *replicas, "{}: {sent:?}", story.when);
        assert!(share <= given || backends == *replicas, "{}: {sent:?} after {given}", story.when);
        given = share;
    }
}

/// Each part of the growth is in the journal.
fn is_told(story: &Story) {
    let told = story.journal().notices(story.deployment, 0).unwrap();
    for runs in ["2 of 4", "4 of 4"] {
        for what in [format!("start {runs}"), format!("wait until {runs}"), format!("warm up and test {runs}")] {
            let is = |notice: &Notice| matches!(&notice.what, What::Entered { step, .. } if step.starts_with(&what));
            assert!(told.iter().any(is), "{}: {what}", story.when);
        }
    }
}

fn reached(story: &Story, share: u32) -> u64 {
    story.tables.iter().find(|sent| sent.share(2) >= share).map_or(u64::MAX, |sent| sent.at_ms)
}

#[test]
fn a_good_candidate_grows_step_by_step_after_every_death() {
    every_death(
        || live(good()),
        &Act::Deploy(second()),
        |story| {
            assert_eq!(story.state, State::Done, "{}", story.when);
            only_those_of_the_step_have_requests(story);
            is_told(story);
            for steps in STEPS.windows(2) {
                let took = reached(story, steps[1].0).saturating_sub(reached(story, steps[0].0));
                assert!(took + 50 >= STEP_MS, "{}: {took} ms: {:#?}", story.when, story.tables);
            }
            story.settled(2, None);
        },
    );
}

#[test]
fn a_promotion_to_the_end_starts_what_is_missing_after_every_death() {
    every_death(
        || live(good()),
        &Act::Promote(Box::new(growing("v2", Pace::Manual))),
        |story| {
            assert_eq!(story.state, State::Done, "{}", story.when);
            only_those_of_the_step_have_requests(story);
            assert!(story.tables.iter().all(|sent| sent.share(2) != STEPS[1].0), "{}: over it", story.when);
            story.settled(2, None);
        },
    );
}

#[test]
fn a_further_replica_that_ends_takes_the_release_back_after_every_death() {
    let third_ends = App {
        boots_in: Duration::from_secs(1),
        exits: Some((Duration::from_millis(200), 3)),
        exits_from: 3,
        ..App::default()
    };
    every_death(
        || live(third_ends.clone()),
        &Act::Deploy(second()),
        |story| {
            let (when, tables) = (&story.when, &story.tables);
            let exited = matches!(&story.state, State::Reverted { why } if why.code == Code::ReplicaExited);
            assert!(exited, "{when}: {:?}", story.state);
            only_those_of_the_step_have_requests(story);
            assert!(tables.iter().all(|sent| sent.share(2) <= STEPS[1].0), "{when}: {tables:#?}");
            let back: Vec<_> = tables.iter().skip_while(|sent| sent.share(2) < STEPS[1].0).collect();
            assert_eq!(back.last().map(|sent| &sent.split[..]), Some(&[(1, ALL)][..]), "{when}: {tables:#?}");
            story.settled(1, None);
        },
    );
}
