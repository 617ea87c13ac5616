//! What is shown of a project, and a project that is removed.

use crate::common::{Fake, Reply, Request, json};
use crate::made_up;
use teal_model::api::{Log, Removed};

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
