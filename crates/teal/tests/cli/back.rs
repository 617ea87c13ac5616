//! What is taken back, promoted, frozen, pruned.

use crate::common::{Fake, Reply, Request, finish, json, lines};
use crate::made_up;
use teal_model::api::{
    Accepted, PromoteRequest, PruneRequest, Pruned, PrunedImage, RollbackRequest, RolledBack, Summary, What,
};
use teal_model::deployment::State;
use teal_model::ids::{ReleaseKey, ServiceKey};

#[test]
fn an_abort_waits_until_requests_are_back() {
    let reverted = made_up::reverted();
    let fake = Fake::new(move |request| match request.line.as_str() {
        "GET /v1/deployments?project=shop&limit=50" => json(&made_up::history()),
        "POST /v1/deployments/13/abort" => json(&made_up::summary()),
        "GET /v1/deployments/13" => json(&reverted),
        "GET /v1/deployments/13/events?from=10" => {
            let receipt = Box::new(reverted.receipt.clone().unwrap());
            Reply::Stream(lines(&[made_up::notice(10, 3_500, What::Ended { receipt })]), true)
        }
        other => panic!("{other}"),
    });
    let ran = fake.teal(&["abort"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("was reverted"), "{}", ran.stdout);
}

#[test]
fn an_abort_that_came_too_late_says_so() {
    let fake = Fake::new(|request| match request.line.as_str() {
        "POST /v1/deployments/12/abort" => json(&made_up::summary()),
        "GET /v1/deployments/12" => json(&made_up::detail()),
        _ => Reply::Stream(lines(&made_up::notices()[17..]), true),
    });
    let ran = fake.teal(&["abort", "12"]);
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(ran.stderr.contains("there was nothing left to abort"), "{}", ran.stderr);
    let fake = Fake::new(|_| json(&Vec::<u8>::new()));
    assert_eq!(fake.teal(&["abort"]).code, Some(6));
}

fn asked_to_roll_back(fake: &Fake) -> RollbackRequest {
    serde_json::from_str(&fake.seen.lock().unwrap()[0].body).unwrap()
}

#[test]
fn a_rollback_is_one_request_and_is_followed_to_its_end() {
    let fake = Fake::new(|request| match request.line.as_str() {
        "POST /v1/rollback" => {
            json(&RolledBack::Deploys(Box::new(Accepted { deployment: 12, plan: made_up::plan(), then: None })))
        }
        _ => Reply::Stream(lines(&made_up::notices()), true),
    });
    let ran = fake.teal(&["rollback", "web", "--to", "3"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("Deployment 12 of shop is done"), "{}", ran.stdout);
    assert_eq!(fake.asked(), ["POST /v1/rollback", "GET /v1/deployments/12/events?from=0"]);
    let asked = asked_to_roll_back(&fake);
    assert_eq!((asked.project.as_str(), asked.services, asked.to), ("shop", vec!["web".to_owned()], Some(3)));
    assert_eq!((asked.dry_run, asked.who.as_str()), (false, "ana@web1"));
    fake.seen.lock().unwrap().clear();
    let ran = fake.teal(&["rollback", "--no-wait"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "12\n"), "{ran:?}");
    assert_eq!(fake.asked(), ["POST /v1/rollback"]);
}

#[test]
fn a_rollback_to_what_is_live_already_has_nothing_to_do() {
    let release = ReleaseKey::new(ServiceKey::new("shop", "web"), 3);
    let fake = Fake::new(move |_| json(&RolledBack::Already { release: release.clone(), again: Some(1) }));
    let ran = fake.teal(&["rollback", "web", "--to", "1"]);
    let words = "nothing to do: shop/web@3, which is 1 again, is live already\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), words), "{ran:?}");
}

#[test]
fn a_rollback_of_a_running_deployment_takes_it_back_and_that_is_what_was_asked_for() {
    let reverted = made_up::reverted();
    let fake = Fake::new(move |request| match request.line.as_str() {
        "POST /v1/rollback" => json(&RolledBack::Aborted { deployment: 13 }),
        "GET /v1/deployments/13" => json(&reverted),
        "GET /v1/deployments/13/events?from=10" => {
            let receipt = Box::new(reverted.receipt.clone().unwrap());
            Reply::Stream(lines(&[made_up::notice(10, 3_500, What::Ended { receipt })]), true)
        }
        other => panic!("{other}"),
    });
    let ran = fake.teal(&["rollback"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("was reverted"), "{}", ran.stdout);
}

#[test]
fn a_deployment_that_was_done_before_it_could_be_taken_back_is_gone_back_from() {
    let asked = std::sync::atomic::AtomicU32::new(0);
    let fake = Fake::new(move |request| match request.line.as_str() {
        "POST /v1/rollback" if asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => {
            json(&RolledBack::Aborted { deployment: 12 })
        }
        "POST /v1/rollback" => {
            json(&RolledBack::Deploys(Box::new(Accepted { deployment: 14, plan: made_up::plan(), then: None })))
        }
        "GET /v1/deployments/12" => json(&made_up::detail()),
        "GET /v1/deployments/14/events?from=0" => Reply::Stream(lines(&made_up::notices()), true),
        _ => Reply::Stream(lines(&made_up::notices()[17..]), true),
    });
    let ran = fake.teal(&["rollback"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("Deployment 14 of shop"), "{}", ran.stdout);
}

#[test]
fn a_rollback_needs_no_compose_file_that_can_be_read() {
    let fake = Fake::new(|_| json(&RolledBack::Would { plan: Box::new(made_up::plan()) }));
    let broken = "name: shop\nservices:\n  web: {prots: ['80:80']\n";
    std::fs::write(fake.path().join("compose.yaml"), broken).unwrap();
    let ran = fake.teal(&["rollback", "--dry-run"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("2 services to deploy"), "{}", ran.stdout);
    assert!(asked_to_roll_back(&fake).dry_run);
    // No file is opened at all where the name is given: this one cannot be.
    std::fs::write(fake.path().join("compose.yaml"), [0xff]).unwrap();
    assert_eq!(fake.teal(&["rollback", "--dry-run"]).code, Some(3));
    assert_eq!(fake.teal(&["rollback", "--dry-run", "-p", "shop"]).code, Some(0));
    let given = finish(fake.command(&["rollback", "--dry-run"]).env("COMPOSE_PROJECT_NAME", "shop").spawn().unwrap());
    assert_eq!(given.code, Some(0), "{given:?}");
}

#[test]
fn a_rollback_that_would_take_back_what_runs_only_says_so() {
    let fake = Fake::new(|_| json(&RolledBack::WouldAbort { deployment: 12, plan: Box::new(made_up::plan()) }));
    for arguments in [&["rollback", "--dry-run"][..], &["rollback", "--dry-run", "--no-wait"]] {
        let ran = fake.teal(arguments);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.stdout, "would take back deployment 12 of shop (worker 1 goes, web 3 <- 4)\n");
    }
    let ran = fake.teal(&["rollback", "--dry-run", "--output", "json"]);
    let answer: RolledBack = serde_json::from_str(&ran.stdout).unwrap();
    assert!(matches!(answer, RolledBack::WouldAbort { deployment: 12, .. }), "{ran:?}");
    assert_eq!(fake.asked().len(), 3, "it is not followed");
}

#[test]
fn a_canary_is_promoted_or_frozen_as_the_one_deployment_that_runs() {
    let fake = Fake::new(|request| match request.line.as_str() {
        "GET /v1/deployments?project=shop&limit=50" => json(&made_up::history()),
        "POST /v1/deployments/13/promote" | "POST /v1/deployments/13/freeze" => json(&made_up::summary()),
        "POST /v1/deployments/14/promote" => json(&Summary { state: State::Baking, ..made_up::summary() }),
        other => panic!("{other}"),
    });
    for (verb, says, full) in [
        (&["promote"][..], "takes its next step", Some(false)),
        (&["promote", "13", "--full"], "gets all requests", Some(true)),
        (&["promote", "14"], "goes live", Some(false)),
        (&["freeze"], "stays as it is until `teal promote`", None),
    ] {
        fake.seen.lock().unwrap().clear();
        let ran = fake.teal(verb);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stdout.contains(says), "{}", ran.stdout);
        let body = fake.seen.lock().unwrap().last().unwrap().body.clone();
        assert_eq!(serde_json::from_str::<PromoteRequest>(&body).ok().map(|asked| asked.full), full, "{body}");
    }
}

#[test]
fn pruning_lists_first_and_removes_what_was_confirmed() {
    let image = PrunedImage {
        id: "sha256:0123456789abcdef".to_owned(),
        names: vec!["app:1".to_owned()],
        bytes: 61_300_000,
        releases: Vec::new(),
    };
    let pruned = Pruned { images: vec![image], left: Vec::new() };
    let fake = Fake::new(move |_| json(&pruned));
    let dry_runs = || {
        let seen: Vec<Request> = fake.seen.lock().unwrap().drain(..).collect();
        let request = |seen: &Request| serde_json::from_str::<PruneRequest>(&seen.body).unwrap();
        seen.iter().map(request).map(|asked| (asked.project, asked.dry_run)).collect::<Vec<_>>()
    };
    let shop = || Some("shop".to_owned());
    let ran = fake.teal(&["prune", "--dry-run"]);
    assert!(ran.code == Some(0) && ran.stdout.contains("would remove 1 image, 61.3 MB\n  app:1"), "{ran:?}");
    assert_eq!(dry_runs(), [(shop(), true)]);
    let ran = fake.teal(&["prune"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("--yes"), "{ran:?}");
    assert_eq!(dry_runs(), [(shop(), true)]);
    let ran = fake.teal(&["prune", "--all", "--yes"]);
    assert!(ran.code == Some(0) && ran.stdout.starts_with("removed 1 image"), "{ran:?}");
    assert_eq!(dry_runs(), [(None, false)]);
}
