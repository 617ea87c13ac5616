//! nginx in front of a container that a script started: the container is adopted, deployed over, and nginx keeps its
//! connections to Teal after one reload.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use std::time::Duration;
use teal_e2e::prober::{Clients, Config, Pace, Prober};
use teal_e2e::scenario::adopt::Scripted;
use teal_e2e::site::Site;
use teal_e2e::stage::Stage;

fn edit(stage: &Stage, from: &str, to: &str) {
    let file = stage.folder().join("compose.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    stage.compose(&text.replace(from, to));
}

fn adopted<'a>(stage: &'a Stage) -> Scripted<'a> {
    let scripted = Scripted::run(stage, &[]);
    stage.up();
    stage.must(&["adopt", "containers", &format!("app={}", scripted.name()), "--yes"]);
    stage.until("it is watched", Duration::from_secs(10), || {
        stage.status().services.iter().any(|one| one.replicas.iter().all(|replica| replica.health == "ready"))
    });
    scripted
}

fn deploy(stage: &Stage) {
    let deployed = stage.deploy("", &[]);
    assert!(deployed.done(), "{deployed:#?}\n{}", stage.logs());
}

#[test]
fn a_service_behind_nginx_is_moved_with_one_reload_and_no_failed_request() {
    let stage = Stage::new("adopt-nginx");
    let original = format!(
        "upstream app {{
    server 127.0.0.1:{}; # the script writes it
}}
map $host $to {{ default 127.0.0.1:1; }}
server {{
    listen FRONT;
    location / {{
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_pass http://app;
    }}
    location /other/ {{ proxy_pass http://127.0.0.1:1; }}
    location /any/ {{ proxy_pass http://$to; }}
}}
",
        stage.port
    );
    let nginx = Site::start(&stage, &original);
    let original = std::fs::read_to_string(nginx.app()).unwrap();
    let _scripted = adopted(&stage);
    let mut config = Config::new(nginx.address()).with(Clients::steady(8).pace(Pace::per_second(40.0)));
    config.headers.push(("Connection".to_owned(), "close".to_owned()));
    let prober = Prober::start(config).unwrap();
    let own = nginx.arguments();
    let adopt = |more: &[&str]| {
        let words: Vec<&str> = ["adopt", "nginx"].into_iter().chain(own.iter().map(String::as_str)).collect();
        let output = stage.teal(&[&words[..], more].concat());
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), text)
    };
    let now = || std::fs::read_to_string(nginx.app()).unwrap();

    let (code, text) = adopt(&["--yes"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Docker's until the first deployment") && text.contains("changes  none"), "{text}");
    edit(&stage, "VERSION: \"0\"", "VERSION: \"1\"");
    let file = stage.folder().join("compose.yaml");
    let compose = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, compose.replace("\nx-teal:\n", "\nx-teal:\n  trusted_proxies: [127.0.0.1]\n")).unwrap();
    deploy(&stage);

    let (_, text) = adopt(&["--dry-run"]);
    let app = nginx.app().display().to_string();
    for says in [
        &format!("{app}:2: upstream app: 127.0.0.1:{} leads there, and stays", stage.port),
        "X-Forwarded-* of nginx (127.0.0.1) are believed",
        "+    keepalive 32;",
        "+        proxy_http_version 1.1;",
        "+        proxy_set_header Connection \"\";",
        "proxy_pass http://$to has a variable",
    ] {
        assert!(text.contains(says), "{says}\n{text}");
    }
    assert_eq!(now(), original, "a dry run changes nothing");
    let (code, text) = adopt(&["--yes", "app"]);
    assert_eq!(code, Some(0), "{text}\n{}", nginx.log());
    let changed = original.replace("# the script writes it\n", "# the script writes it\n    keepalive 32;\n").replace(
        "proxy_pass http://app;\n",
        "proxy_pass http://app;\n        proxy_http_version 1.1;\n        proxy_set_header Connection \"\";\n",
    );
    assert_eq!(now(), changed);
    let (code, text) = adopt(&["--yes"]);
    assert!(code == Some(0) && text.contains("changes  none"), "said again, nothing is to be done: {text}");
    std::thread::sleep(Duration::from_millis(300));
    for version in ["2", "3"] {
        let before = std::fs::read_to_string(&file).unwrap();
        let from = before.lines().find(|line| line.contains("VERSION:")).unwrap().trim().to_owned();
        edit(&stage, &from, &format!("VERSION: \"{version}\""));
        deploy(&stage);
    }
    std::thread::sleep(Duration::from_millis(300));
    let report = prober.stop().unwrap();
    assert_eq!(report.failed(), 0, "{:#?}\n{}\n{}", report.failures, nginx.log(), stage.logs());
    for version in ["0", "1", "2", "3"] {
        assert!(report.answers_of(version) > 0, "{version}: {:?}", report.versions);
    }
    assert!(stage.status().proxy.connections > 0, "nginx keeps connections to Teal when nobody asks");
    assert_eq!(nginx.log().matches("(SIGHUP) received").count(), 1, "one reload: {}", nginx.log());

    let (code, text) = adopt(&["--undo", "--yes"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(now(), original, "to the byte");
    assert_eq!(adopt(&["--undo", "--yes"]).0, Some(6), "nothing is left to take back");
}

#[test]
fn what_was_edited_since_is_not_taken_back_and_what_nginx_refuses_is_not_left() {
    let stage = Stage::new("adopt-nginx-no");
    let app = format!(
        "upstream app {{ server 127.0.0.1:{}; }}\nserver {{ listen FRONT; location / {{ proxy_pass http://app; }} }}\n",
        stage.port
    );
    let nginx = Site::start(&stage, &app);
    let original = std::fs::read_to_string(nginx.app()).unwrap();
    let _scripted = adopted(&stage);
    edit(&stage, "VERSION: \"0\"", "VERSION: \"1\"");
    deploy(&stage);
    let own = nginx.arguments();
    let adopt = |more: &[&str]| {
        let words: Vec<&str> = ["adopt", "nginx", "--yes"].into_iter().chain(own.iter().map(String::as_str)).collect();
        let output = stage.teal(&[&words[..], more].concat());
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    // A second `nginx` that finds fault with whatever is new.
    let picky = stage.root().join("picky");
    let script = format!(
        "#!/bin/sh\nif [ \"$5\" = -t ] && grep -q keepalive {}; then echo 'unknown directive' >&2; exit 1; fi\nexec nginx \"$@\"\n",
        nginx.app().display()
    );
    std::fs::write(&picky, script).unwrap();
    std::fs::set_permissions(&picky, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (code, text) = adopt(&[&format!("--program={}", picky.display())]);
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains("unknown directive") && text.contains("every file is as it was"), "{text}");
    assert_eq!(std::fs::read_to_string(nginx.app()).unwrap(), original);
    assert_eq!(nginx.log().matches("(SIGHUP) received").count(), 0, "nginx was not reloaded");

    assert_eq!(adopt(&[]).0, Some(0));
    let moved = std::fs::read_to_string(nginx.app()).unwrap();
    std::fs::write(nginx.app(), format!("{moved}# mine\n")).unwrap();
    let (code, text) = adopt(&["--undo"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("was edited since") && text.contains("+# mine"), "{text}");
    assert_eq!(std::fs::read_to_string(nginx.app()).unwrap(), format!("{moved}# mine\n"));
    let (code, text) = adopt(&["other"]);
    assert_eq!(code, Some(6), "{text}");
}
