//! The command against a little agent that answers as it is told.
#![allow(clippy::unwrap_used)]

#[path = "common/mod.rs"]
mod common;
#[path = "../src/print/made_up.rs"]
#[allow(dead_code)]
mod made_up;

use common::{Fake, Reply, Request, fault, finish, json, lines};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use teal_model::api::{
    Accepted, DeployRequest, Log, Notice, PromoteRequest, PruneRequest, Pruned, PrunedImage, Removed, RollbackRequest,
    RolledBack, What,
};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::receipt::Outcome;

fn accepted() -> Reply {
    json(&Accepted { deployment: 12, plan: made_up::plan(), then: None })
}

/// The deployment ends with this outcome.
fn ending(outcome: Outcome) -> Vec<Notice> {
    let mut notices = made_up::notices();
    if let Some(Notice { what: What::Ended { receipt }, .. }) = notices.last_mut() {
        receipt.outcome = outcome;
    }
    notices
}

fn deploying(outcome: Outcome) -> Fake {
    Fake::new(move |request| match request.line.as_str() {
        "POST /v1/deployments" => accepted(),
        _ => Reply::Stream(lines(&ending(outcome.clone())), true),
    })
}

#[test]
fn a_deployment_is_followed_to_its_receipt() {
    let fake = deploying(Outcome::Done);
    let ran = fake.teal(&["deploy", "web", "--image", "app:2", "--force"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for words in
        ["Deployment 12 of shop: 2 services to deploy", "6. bake", "12,034 served, 0 failed", "is done after 14.2 s"]
    {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\x1b') && !ran.stderr.contains('\x1b'), "colors in a pipe");
    assert_eq!(fake.asked(), ["POST /v1/deployments", "GET /v1/deployments/12/events?from=0"]);
    let seen = fake.seen.lock().unwrap()[0].clone();
    assert!(seen.headers.contains("teal-api: 1"), "{}", seen.headers);
    let asked: DeployRequest = serde_json::from_str(&seen.body).unwrap();
    assert_eq!(
        (asked.who.as_str(), asked.choice.services, asked.choice.force),
        ("ana@web1", vec!["web".to_owned()], true)
    );
    assert_eq!(asked.project.services["web"].container.image, "app:2");
}

/// A folder with a `docker` that writes down what it is asked, has no image, and ends builds with this code.
fn with_docker(fake: &Fake, compose: &str, code: u8) -> String {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(fake.path().join("compose.yaml"), compose).unwrap();
    let docker = fake.path().join("docker");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> '{dir}/asked'\n[ \"$1\" = image ] && exit 1\necho \"ARG is $ARG\" >> '{dir}/asked'\necho building\nexit {code}\n",
        dir = fake.path().display()
    );
    std::fs::write(&docker, script).unwrap();
    std::fs::set_permissions(&docker, PermissionsExt::from_mode(0o755)).unwrap();
    format!("{}:{}", fake.path().display(), std::env::var("PATH").unwrap_or_default())
}

const BUILT: &str = "name: shop\nservices:\n  web: {build: {context: ., args: {ARG: hunter2}}, ports: ['80:8080']}\n";

#[test]
fn an_image_that_is_not_here_is_built_before_the_deployment() {
    let fake = deploying(Outcome::Done);
    let path = with_docker(&fake, BUILT, 0);
    let ran = finish(fake.command(&["deploy"]).env("PATH", &path).spawn().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("building") && !ran.stdout.contains("building"), "{ran:?}");
    let asked = std::fs::read_to_string(fake.path().join("asked")).unwrap();
    let lines: Vec<&str> = asked.lines().collect();
    assert_eq!(lines[0], "image inspect --format {{.Id}} shop-web");
    assert!(lines[1].starts_with("build --tag shop-web --build-arg ARG /"), "{asked}");
    assert_eq!(lines[2], "ARG is hunter2", "its value is in no command line");
    let seen = fake.seen.lock().unwrap()[0].clone();
    let request: DeployRequest = serde_json::from_str(&seen.body).unwrap();
    let web = &request.project.services["web"];
    assert_eq!((web.container.image.as_str(), &web.build), ("shop-web", &None));
    assert!(!seen.body.contains("hunter2"));
}

#[test]
fn a_build_that_fails_deploys_nothing() {
    let fake = deploying(Outcome::Done);
    let path = with_docker(&fake, BUILT, 7);
    let ran = finish(fake.command(&["deploy"]).env("PATH", &path).spawn().unwrap());
    assert_eq!(ran.code, Some(8), "{ran:?}");
    assert!(
        ran.stderr.contains("error: the image shop-web of web was not built: docker build ended with exit status: 7")
    );
    assert!(fake.asked().is_empty(), "{:?}", fake.asked());
}

#[test]
fn a_plan_says_what_would_be_built_and_builds_nothing() {
    let fake = Fake::new(|_| json(&made_up::plan()));
    let path = with_docker(&fake, BUILT, 0);
    let ran = finish(fake.command(&["plan"]).env("PATH", &path).spawn().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("web: `teal deploy` builds shop-web"), "{}", ran.stderr);
    assert!(!std::fs::read_to_string(fake.path().join("asked")).unwrap().contains("build "));
}

#[test]
fn files_profiles_and_override_files_make_the_project() {
    let fake = deploying(Outcome::Done);
    let write = |name: &str, text: &str| std::fs::write(fake.path().join(name), text).unwrap();
    write("compose.override.yaml", "services: {web: {image: 'app:3'}, debug: {image: 'd:1', profiles: [dev]}}\n");
    write("prod.yaml", "services: {web: {image: 'app:4'}}\n");
    let images = |arguments: &[&str]| {
        fake.seen.lock().unwrap().clear();
        let ran = fake.teal(arguments);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let request: DeployRequest = serde_json::from_str(&fake.seen.lock().unwrap()[0].body).unwrap();
        request.project.services.values().map(|service| service.container.image.clone()).collect::<Vec<_>>()
    };
    assert_eq!(images(&["deploy"]), ["app:3", "worker:1"]);
    assert_eq!(images(&["--profile", "dev", "deploy"]), ["d:1", "app:3", "worker:1"]);
    assert_eq!(images(&["deploy", "debug"]), ["d:1", "app:3", "worker:1"]);
    assert_eq!(images(&["deploy", "-f", "compose.yaml", "-f", "prod.yaml"]), ["app:4", "worker:1"]);
}

#[test]
fn a_broken_stream_is_taken_up_where_it_broke() {
    let fake = Fake::new(|request| {
        let all = lines(&made_up::notices());
        match request.line.as_str() {
            "POST /v1/deployments" => accepted(),
            "GET /v1/deployments/12/events?from=0" => Reply::Stream(all[..7].to_vec(), false),
            // Ends without a last notice: as broken as the other. It also repeats one that was seen.
            "GET /v1/deployments/12/events?from=7" => Reply::Stream(all[6..12].to_vec(), true),
            "GET /v1/deployments/12/events?from=12" => Reply::Stream(all[12..].to_vec(), true),
            other => panic!("{other}"),
        }
    });
    let ran = fake.teal(&["deploy"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stdout.matches("start shop/web@4 (590 ms)").count(), 1, "{}", ran.stdout);
    assert_eq!(ran.stdout.matches("  done\n").count(), 1);
    assert!(ran.stderr.contains("connecting again (the deployment goes on)"), "{}", ran.stderr);
}

#[test]
fn progress_is_in_no_journal_so_it_is_not_what_a_stream_is_taken_up_from() {
    let fake = Fake::new(|request| {
        let all = lines(&made_up::notices());
        match request.line.as_str() {
            "POST /v1/deployments" => accepted(),
            // The fifth is progress; after a restart of the agent its number may be another's.
            "GET /v1/deployments/12/events?from=0" => Reply::Stream(all[..5].to_vec(), false),
            "GET /v1/deployments/12/events?from=4" => Reply::Stream(all[5..].to_vec(), true),
            other => panic!("{other}"),
        }
    });
    let ran = fake.teal(&["deploy"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn the_exit_code_says_how_it_ended() {
    let why = |code| Fault::new(code, "it did not work").detail(vec!["a log line".to_owned()]);
    for (outcome, code) in [
        (Outcome::Unchanged, 0),
        (Outcome::Reverted { why: why(Code::NeverReady) }, 8),
        (Outcome::Reverted { why: why(Code::Aborted) }, 9),
        (Outcome::Stuck { step: "start shop/web@3".to_owned(), error: why(Code::DockerDown) }, 10),
    ] {
        let ran = deploying(outcome.clone()).teal(&["deploy"]);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert_eq!(ran.stderr.contains("error: it did not work"), code != 0, "{}", ran.stderr);
        let ran = deploying(outcome).teal(&["deploy", "--output", "json"]);
        assert_eq!(ran.code, Some(code), "{ran:?}");
    }
}

#[test]
fn json_is_the_notices_one_a_line() {
    let ran = deploying(Outcome::Done).teal(&["--output", "json", "deploy"]);
    let notices: Vec<Notice> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(notices, made_up::notices());
    assert_eq!(ran.stderr, "");
}

#[test]
fn no_wait_prints_the_number_alone() {
    let fake = Fake::new(|_| accepted());
    let ran = fake.teal(&["deploy", "--no-wait"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "12\n"), "{}", ran.stderr);
    assert_eq!(fake.asked(), ["POST /v1/deployments"]);
}

#[test]
fn a_second_deployment_is_told_who_and_since_when() {
    let busy = Fault::new(Code::Busy, "shop/web is being deployed by bo@web2 since 12 s (deployment 11)");
    let fake = Fake::new(move |_| fault(409, &busy));
    let ran = fake.teal(&["deploy"]);
    assert_eq!(ran.code, Some(5));
    assert_eq!(
        ran.stderr,
        "error: shop/web is being deployed by bo@web2 since 12 s (deployment 11)\nhint: watch it with `teal status`; `teal promote` ends its watch, `teal abort` takes it back\n"
    );
    let ran = fake.teal(&["deploy", "--output", "json"]);
    let said: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, said["error"]["code"].as_str()), (Some(5), Some("busy")));
}

#[test]
fn an_agent_of_another_version_is_named_with_both_versions() {
    let fake = Fake::new(|_| Reply::OtherVersion);
    for verb in [&["status"][..], &["deploy"], &["history"]] {
        let ran = fake.teal(verb);
        assert_eq!(ran.code, Some(4), "{ran:?}");
        assert!(
            ran.stderr.contains("the agent (teal 9.9.9) speaks API 99, this command (teal ")
                && ran.stderr.contains("speaks API 1"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("teal down && teal up"), "{}", ran.stderr);
    }
}

#[test]
fn without_an_agent_the_way_to_start_it_is_named() {
    let fake = Fake::absent();
    for verb in [&["plan"][..], &["deploy"], &["status"], &["history"], &["show", "1"], &["logs"], &["remove", "-y"]] {
        let ran = fake.teal(verb);
        assert_eq!(ran.code, Some(4), "{verb:?}: {ran:?}");
        assert!(ran.stderr.contains("teal up --detach"), "{}", ran.stderr);
    }
}

#[test]
fn check_lists_every_problem_and_needs_no_agent() {
    let fake = Fake::absent();
    let ran = fake.teal(&["check"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "ok compose.yaml: project shop, 2 services\n"),
        "{}",
        ran.stderr
    );
    std::fs::write(
        fake.path().join("compose.yaml"),
        "name: shop\nservices:\n  web: {prots: ['80:80'], image: app, imgae: b}\n",
    )
    .unwrap();
    let ran = fake.teal(&["check"]);
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("services.web.prots") && ran.stderr.contains("services.web.imgae"), "{}", ran.stderr);
    let ran = fake.teal(&["check", "--output", "json"]);
    let said: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(said["error"]["detail"].as_array().unwrap().len(), 2);
}

#[test]
fn a_signal_ends_the_watching_and_not_the_deployment() {
    for (signal, code) in [(rustix::process::Signal::INT, 130), (rustix::process::Signal::TERM, 143)] {
        let fake = Fake::new(|request| match request.line.as_str() {
            "POST /v1/deployments" => accepted(),
            _ => Reply::Open(lines(&made_up::notices()[..3])),
        });
        let mut child = fake.command(&["deploy"]).spawn().unwrap();
        // Its handlers are there once it has shown what the stream says.
        let mut stdout = child.stdout.take().unwrap();
        let mut shown = Vec::new();
        while !String::from_utf8_lossy(&shown).contains("pull images") {
            let mut byte = [0];
            stdout.read_exact(&mut byte).unwrap();
            shown.push(byte[0]);
        }
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let ran = finish(child);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.stderr.contains("`teal status`") && ran.stderr.contains("`teal abort 12`"), "{}", ran.stderr);
        assert!(!fake.asked().iter().any(|line| line.contains("abort")));
    }
}

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
fn a_canary_is_promoted_or_frozen_as_the_one_deployment_that_runs() {
    let fake = Fake::new(|request| match request.line.as_str() {
        "GET /v1/deployments?project=shop&limit=50" => json(&made_up::history()),
        "POST /v1/deployments/13/promote" | "POST /v1/deployments/13/freeze" => json(&made_up::summary()),
        other => panic!("{other}"),
    });
    for (verb, says, full) in [
        (&["promote"][..], "takes its next step", Some(false)),
        (&["promote", "13", "--full"], "gets all requests", Some(true)),
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

#[test]
fn a_project_that_is_named_and_not_here_is_told_with_the_nearest_name() {
    let fake = Fake::new(|request| match request.line.as_str() {
        "GET /v1/status" => json(&made_up::status()),
        line if line.starts_with("GET /v1/status") => {
            json(&teal_model::api::Status { services: Vec::new(), running: Vec::new(), ..made_up::status() })
        }
        _ => json(&Vec::<u8>::new()),
    });
    for verb in ["status", "history"] {
        let ran = fake.teal(&[verb, "-p", "shpo"]);
        assert_eq!(ran.code, Some(6), "{ran:?}");
        assert!(ran.stderr.contains("there is no project `shpo` here. Did you mean `shop`?"), "{ran:?}");
        assert_eq!(fake.teal(&[verb]).code, Some(0), "the project of this folder, not deployed yet");
    }
}

#[test]
fn removing_asks_first_and_names_the_data_that_stays() {
    let removed = Removed {
        volumes_removed: Vec::new(),
        containers: vec!["shop-web-blue-1".to_owned()],
        networks: Vec::new(),
        volumes_kept: vec!["shop_data".to_owned()],
        nginx: Vec::new(),
    };
    let fake = Fake::new(move |_| json(&removed));
    let ran = fake.teal(&["remove"]);
    assert_eq!((ran.code, fake.asked().len()), (Some(2), 0), "{ran:?}");
    let ran = fake.teal(&["remove", "web", "--yes"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("kept, since they hold data: shop_data"), "{}", ran.stdout);
}

#[test]
fn plan_status_history_and_show_print_what_the_agent_knows() {
    let fake = Fake::new(|request| match request.line.as_str() {
        "POST /v1/plan" => json(&made_up::plan()),
        "GET /v1/status?project=shop" | "GET /v1/status" => json(&made_up::status()),
        "GET /v1/deployments?project=shop&limit=1" | "GET /v1/deployments?project=other&limit=5" => {
            json(&made_up::history())
        }
        "GET /v1/deployments/13" => json(&made_up::detail()),
        other => panic!("{other}"),
    });
    for (verb, words) in [
        (&["plan"][..], "web  blue-green: it publishes ports"),
        (&["status"], "shop/web  "),
        (&["status", "--all"], "shop/db  "),
        (&["-p", "other", "history", "-n", "5"], "reverted (aborted)"),
        (&["show"], "What happened"),
    ] {
        let ran = fake.teal(verb);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stdout.contains(words), "{verb:?}: {}", ran.stdout);
        let ran = fake.teal(&[verb, &["--output", "json"]].concat());
        ran.stdout.lines().for_each(|line| drop(serde_json::from_str::<serde_json::Value>(line).unwrap()));
    }
}

#[test]
fn logs_name_the_replica_of_each_line() {
    let logs = |_: &Request| {
        let log = |replica: &str, text: &str| Log {
            replica: replica.to_owned(),
            stderr: false,
            at: "2026-11-22T12:17:18Z".to_owned(),
            text: text.to_owned(),
        };
        // Two values in one chunk, and one over two: the chunks of a stream are no lines.
        let [one, two] =
            [log("web-1", "ready"), log("web-2", "hello")].map(|log| serde_json::to_string(&log).unwrap() + "\n");
        let (head, tail) = two.split_at(9);
        Reply::Stream(vec![format!("{one}{one}{head}"), tail.to_owned()], true)
    };
    let fake = Fake::new(logs);
    let ran = fake.teal(&["logs", "web", "-n", "5", "-f"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "web-1 | ready\nweb-1 | ready\nweb-2 | hello\n"),
        "{}",
        ran.stderr
    );
    assert_eq!(fake.asked(), ["GET /v1/logs?project=shop&service=web&lines=5&follow=true"]);
}

fn frame(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

fn next_frame(stream: &mut UnixStream) -> (u8, Vec<u8>) {
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let mut bytes = vec![0; u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize];
    stream.read_exact(&mut bytes).unwrap();
    (head[0], bytes)
}

#[test]
fn exec_passes_input_output_and_the_exit_code() {
    let echo = |mut stream: UnixStream| {
        let mut input = Vec::new();
        loop {
            match next_frame(&mut stream) {
                (0, bytes) => input.extend(bytes),
                (2, _) => break,
                other => panic!("{other:?}"),
            }
        }
        stream.write_all(&frame(1, &input.to_ascii_uppercase())).unwrap();
        stream.write_all(&frame(3, b"42")).unwrap();
    };
    let fake = Fake::new(move |_| Reply::Upgrade(Box::new(echo)));
    let mut child =
        fake.command(&["exec", "web", "--", "tr", "a-z", "A-Z"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    let ran = finish(child);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(42), "HELLO"), "{}", ran.stderr);
    let seen = fake.seen.lock().unwrap()[0].clone();
    assert!(
        seen.headers.contains("upgrade: teal-exec")
            && seen.body.contains(r#""command":["tr","a-z","A-Z"],"tty":false"#),
        "{seen:?}"
    );
}

#[test]
fn exec_says_the_agents_fault() {
    let fake = Fake::new(|_| fault(404, &Fault::new(Code::NotFound, "no replica of shop/web runs")));
    assert_eq!(fake.teal(&["exec", "web", "--", "ls"]).code, Some(6));
    let later = |mut stream: UnixStream| {
        let fault = Fault::new(Code::DockerRefused, "no such file: lss");
        stream.write_all(&frame(4, &serde_json::to_vec(&fault).unwrap())).unwrap();
    };
    let fake = Fake::new(move |_| Reply::Upgrade(Box::new(later)));
    let ran = fake.teal(&["exec", "web", "--", "lss"]);
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(ran.stderr.contains("no such file: lss"));
}

#[test]
fn up_says_when_the_agent_runs_already() {
    let fake = Fake::new(|_| json(&made_up::hello()));
    for arguments in [&["up", "--state-dir", "/var/lib/teal"][..], &["up", "--detach", "--state-dir", "/var/lib/teal"]]
    {
        let ran = fake.teal(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "the agent runs already (pid 700)\n"), "{}", ran.stderr);
    }
}

#[test]
fn up_says_when_a_directory_cannot_be_written() {
    let fake = Fake::absent();
    std::fs::write(fake.path().join("state"), "a file in the way").unwrap();
    for arguments in [&["up"][..], &["up", "--detach"], &["agent"]] {
        let ran = fake.teal(arguments);
        assert_eq!(ran.code, Some(7), "{ran:?}");
        assert!(ran.stderr.contains("cannot use the directory"), "{}", ran.stderr);
    }
}

#[test]
fn init_writes_a_file_once_and_never_over_another() {
    let fake = Fake::absent();
    let before = std::fs::read_to_string(fake.path().join("compose.yaml")).unwrap();
    let ran = fake.teal(&["init"]);
    assert!(ran.code == Some(0) && ran.stdout.contains("x-teal:"), "{ran:?}");
    assert_eq!(std::fs::read_to_string(fake.path().join("compose.yaml")).unwrap(), before);
    std::fs::remove_file(fake.path().join("compose.yaml")).unwrap();
    assert_eq!(fake.teal(&["init"]).code, Some(0));
    let ran = fake.teal(&["-p", "shop", "check"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn completions_are_printed_for_each_shell() {
    let fake = Fake::absent();
    for shell in ["bash", "zsh", "fish"] {
        let ran = fake.teal(&["completions", shell]);
        assert!(ran.code == Some(0) && ran.stdout.contains("deploy"), "{shell}");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let fake = Fake::absent();
    for wrong in [&["deplyo"][..], &["deploy", "--imgae", "x"], &["deploy", "--image", "x"], &[]] {
        assert_eq!(fake.teal(wrong).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn wrong_usage_is_a_fault_in_json_too() {
    let fake = Fake::absent();
    for (line, says) in [
        (&["--output", "json", "deploi"][..], "teal has no verb `deploi`. Did you mean `deploy`?"),
        (&["status", "--output=json", "--al"], "`teal status` has no flag `--al`. Did you mean `--all`?"),
        (&["--output", "json", "history", "-n", "0"], "invalid value '0'"),
        (&["--output", "json"], "no verb is named"),
    ] {
        let ran = fake.teal(line);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(2), ""), "{ran:?}");
        let answer: serde_json::Value = serde_json::from_str(ran.stdout.trim()).unwrap();
        assert_eq!(answer["error"]["code"], "usage");
        assert!(answer["error"]["what"].as_str().unwrap().contains(says), "{answer}");
    }
    let ran = fake.teal(&["ps"]);
    assert_eq!(ran.stderr, "error: teal has no verb `ps`\nhint: `teal status` shows what serves\n");
    let ran = fake.teal(&["exec", "--output", "text", "--", "--output", "json"]);
    assert!(ran.stderr.starts_with("error: "), "{ran:?}");
    assert!(!fake.teal(&["--output", "json", "--help"]).stdout.starts_with('{'), "help is for people");
}

#[test]
fn a_name_that_is_no_project_name_says_where_it_came_from() {
    let fake = Fake::absent();
    let ran = fake.teal(&["status", "-p", "Bad Name"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("`Bad Name`, given with -p, is not a project name"), "{ran:?}");
    let ran = fake.teal(&["check", "-p", "Bad Name"]);
    assert!(ran.stderr.contains("what `-p` says is not a project name"), "{ran:?}");
    let ran = finish(fake.command(&["check"]).env("COMPOSE_PROJECT_NAME", "Bad Name").spawn().unwrap());
    assert!(ran.stderr.contains("COMPOSE_PROJECT_NAME") && !ran.stderr.contains("-p`"), "{ran:?}");
    std::fs::write(fake.path().join("compose.yaml"), "name: Bad Name\nservices: {web: {image: a}}\n").unwrap();
    let ran = fake.teal(&["check"]);
    assert!(ran.stderr.contains("compose.yaml:1: name:") && !ran.stderr.contains("-p"), "{ran:?}");
}

#[test]
fn an_image_whose_tag_is_an_empty_variable_is_a_problem_with_its_line() {
    let fake = Fake::absent();
    std::fs::write(
        fake.path().join("compose.yaml"),
        "name: shop\nservices:\n  web:\n    image: app:${EMPTY}\n    ports: ['80:8080']\n",
    )
    .unwrap();
    let ran = finish(fake.command(&["check"]).env("EMPTY", "").spawn().unwrap());
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.stderr.contains("compose.yaml:4: services.web.image: not an image reference: there is no tag"),
        "{ran:?}"
    );
}

#[test]
fn an_agent_of_another_state_directory_is_not_taken_for_the_one_that_is_meant() {
    let fake = Fake::new(|_| json(&made_up::hello()));
    let other = fake.path().join("other");
    let ran = fake.teal(&["up", "--state-dir", other.to_str().unwrap()]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.contains("/var/lib/teal") && ran.stderr.contains(other.to_str().unwrap()), "{ran:?}");
}
