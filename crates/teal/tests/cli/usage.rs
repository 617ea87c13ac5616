//! The agent that is started, and commands that are not understood.

use crate::common::{Fake, finish, json};
use crate::made_up;

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
