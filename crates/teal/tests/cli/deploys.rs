//! Deployments, from the command to the receipt.

use crate::common::{Fake, Reply, fault, finish, json, lines};
use crate::made_up;
use crate::{accepted, deploying};
use std::io::Read;
use teal_model::api::{DeployRequest, Notice};
use teal_model::fault::{Code, Fault};
use teal_model::receipt::Outcome;

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
