//! `traffic: nginx`: Teal writes the upstream of an nginx, and takes it back when that does not take it.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::time::Duration;
use teal_e2e::prober::{Cause, Pace, Prober, Report};
use teal_e2e::scenario::nginx::mode::compose;
use teal_e2e::scenario::nginx::{Mode, Standing, load};
use teal_e2e::scenario::{IMAGE, TROUBLE, crash};
use teal_e2e::stage::{docker, free_port};
use teal_model::deployment::State;
use teal_model::fault::Code;
use teal_model::receipt::{Outcome, Traffic};

/// What a reload costs whatever the order of its steps: a connection is closed while a client writes a request to it.
fn is_race(cause: Cause) -> bool {
    matches!(cause, Cause::Closed | Cause::Reset)
}

fn fails_by_the_race_alone(report: &Report, mode: &Mode) {
    let others: Vec<_> = report.causes.keys().filter(|cause| !is_race(**cause)).collect();
    assert!(others.is_empty(), "{:?}\n{:#?}\n{}", report.causes, report.failures, mode.nginx.errors());
}

fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn refused(output: &Output, code: Code, says: &[&str]) {
    let text = text_of(output);
    assert_eq!(output.status.code(), Some(i32::from(code.exit())), "{text}");
    for words in says.iter().chain(&["hint: "]) {
        assert!(text.contains(words), "`{words}` is not in: {text}");
    }
}

/// The version that a new connection is answered by.
fn version(mode: &Mode) -> String {
    let mut stream = TcpStream::connect(mode.address()).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit(' ').next().unwrap().trim().to_owned()
}

/// A deployment of this version is refused, and everything is as before.
fn refuses(mode: &Mode, to: &str, code: Code, says: &[&str]) {
    let stage = &mode.stage;
    let (served, containers) = (version(mode), stage.containers());
    let output = stage.command(&["deploy"]).env("VERSION", to).output().unwrap();
    refused(&output, code, says);
    assert_eq!((version(mode), stage.containers()), (served, containers), "{}", text_of(&output));
}

#[test]
fn flips_through_nginx_lose_nothing_but_by_the_race_of_a_reload() {
    let mut mode = Mode::start("mode").unwrap();
    let prober = Prober::start(load(mode.address(), Pace::per_second(20.0))).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let mut served = 0;
    for version in ["1", "2", "3"] {
        let deployed = mode.stage.must_deploy(version);
        match &deployed.receipt().unwrap().traffic {
            Traffic::Measured(measured) => {
                assert_eq!(measured.failed.total(), 0, "{measured:?}");
                served += measured.served;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(served > 500, "nginx's log was counted: {served}");
    std::thread::sleep(Duration::from_millis(500));
    let report = prober.stop().unwrap();
    fails_by_the_race_alone(&report, &mode);
    assert!(report.answers_of("0") > 0 && report.answers_of("3") > 0, "{:?}", report.totals.by_version);
    assert!(!mode.nginx.errors().contains("upstream"), "{}", mode.nginx.errors());
    // Two more, to see the colors take turns on their ports.
    let blue = std::fs::read_to_string(mode.file()).unwrap();
    mode.flip("4").unwrap();
    let green = std::fs::read_to_string(mode.file()).unwrap();
    mode.flip("5").unwrap();
    let port = |text: &str| text.lines().find_map(|line| line.trim().strip_prefix("server 127")).unwrap().to_owned();
    let place = |text: &str| port(text).split(';').next().unwrap().to_owned();
    assert_ne!(place(&blue), place(&green));
    assert_eq!(place(&std::fs::read_to_string(mode.file()).unwrap()), place(&blue));
}

#[test]
fn what_is_removed_leaves_nothing_or_what_nginx_cannot_do_without() {
    let mode = Mode::start("gone").unwrap();
    let said = mode.stage.must(&["remove", "--yes"]);
    assert!(said.contains("still names app, which nobody serves: it answers 502; take its `proxy_pass` out"), "{said}");
    let text = std::fs::read_to_string(mode.file()).unwrap();
    assert!(text.contains(" down;") && !text.contains("server 127.0.0.1:2"), "{text}");
    let alerts = mode.stage.status().alerts.join("\n");
    assert!(alerts.contains("still names app"), "{alerts}");
    // The team takes its `proxy_pass` out: then the file goes, too.
    let http = format!("  include teal.d/*.conf;\n  server {{ listen {}; return 404; }}", mode.address());
    mode.nginx.configure("", &http).unwrap();
    let left = || std::fs::read_dir(mode.nginx.prefix().join("teal.d")).unwrap().count();
    mode.stage.until("the file is gone, and what was beside it", Duration::from_secs(40), || left() == 0);
}

#[test]
fn a_hand_edit_is_seen_and_shown() {
    let mode = Mode::start("edit").unwrap();
    let text = std::fs::read_to_string(mode.file()).unwrap();
    std::fs::write(mode.file(), text.replace("keepalive 32", "keepalive 99")).unwrap();
    refuses(&mode, "1", Code::NginxFile, &["was edited by hand", "-     keepalive 32;", "+     keepalive 99;"]);
    std::fs::write(mode.file(), "# mine\n").unwrap();
    refuses(&mode, "1", Code::NginxFile, &["was not written by this agent"]);
    std::fs::write(mode.file(), text).unwrap();
    mode.stage.must_deploy("1");
    assert_eq!(version(&mode), "1");
}

#[test]
fn a_configuration_that_nginx_refuses_changes_nothing() {
    let mode = Mode::start("broken").unwrap();
    let broken = mode.nginx.prefix().join("teal.d/other.conf");
    std::fs::write(&broken, "server { listen 127.0.0.1:1 nonsense; }\n").unwrap();
    refuses(&mode, "1", Code::NginxRefused, &["refuses the configuration", "nonsense"]);
    std::fs::remove_file(&broken).unwrap();
    // Another one has the name: it is seen when Teal's own is tested.
    let text = compose(&mode.nginx, 1, "", "");
    let web = text.split_once("  web:\n").unwrap().1;
    let text = format!("{text}  api:\n{}", web.replace("upstream: app", "upstream: other"));
    std::fs::write(&broken, "upstream other { server 127.0.0.1:1; }\n").unwrap();
    mode.stage.compose(&text);
    refuses(&mode, "1", Code::NginxRefused, &["duplicate upstream", "take your own `upstream` block"]);
    // What nginx leads to cannot be left under its feet.
    mode.stage.compose(&compose(&mode.nginx, 1, "", "").replace("upstream: app", "upstream: other"));
    refuses(&mode, "1", Code::NginxRefused, &["web leaves the upstream app", "still leads there"]);
}

#[test]
fn an_nginx_that_does_not_run_is_told_before_anything() {
    let mode = Mode::start("down").unwrap();
    let containers = mode.stage.containers();
    mode.nginx.signal("stop").unwrap();
    mode.stage.until("nginx has ended", Duration::from_secs(10), || TcpStream::connect(mode.address()).is_err());
    let output = mode.stage.command(&["deploy"]).env("VERSION", "1").output().unwrap();
    refused(&output, Code::NginxDown, &["nginx on this host does not run", "nginx.pid"]);
    assert_eq!(mode.stage.containers(), containers);
    let plan = mode.stage.command(&["plan"]).env("VERSION", "1").output().unwrap();
    assert!(text_of(&plan).contains("as it stands this is refused: nginx on this host does not run"));
}

#[test]
fn the_first_deployment_takes_over_from_what_the_team_runs_without_a_gap() {
    let mode = Mode::waiting("first", "worker_shutdown_timeout 40s;").unwrap();
    let (name, port) = (format!("{}-theirs", mode.stage.project), free_port());
    let publish = format!("127.0.0.1:{port}:8080");
    docker(&["run", "--detach", "--name", &name, "--publish", &publish, "--env=VERSION=theirs", IMAGE]);
    let own = mode.nginx.prefix().join("teal.d/own.conf");
    std::fs::write(&own, format!("upstream app {{ server 127.0.0.1:{port}; keepalive 8; }}\n")).unwrap();
    mode.pass().unwrap();
    mode.stage.until("their app answers", Duration::from_secs(10), || version(&mode) == "theirs");
    // As the manual says it: the block goes, nginx is not told yet.
    std::fs::remove_file(&own).unwrap();
    mode.stage.compose(&compose(&mode.nginx, 1, "", "      BOOT_MS: \"2000\"")).up();
    let prober = Prober::start(load(mode.address(), Pace::per_second(20.0))).unwrap();
    mode.stage.must_deploy("1");
    let report = prober.stop().unwrap();
    docker(&["rm", "--force", "--volumes", &name]);
    fails_by_the_race_alone(&report, &mode);
    assert!(report.answers_of("theirs") > 0 && version(&mode) == "1", "{:?}", report.totals.by_version);
    // One that is never ready leaves everything as it was.
    mode.stage.must(&["remove", "--yes"]);
}

#[test]
fn an_upload_that_an_old_worker_still_reads_reaches_its_release() {
    let mut mode = Mode::start("upload").unwrap();
    let mut stream = TcpStream::connect(mode.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // nginx passes a request on when it has the whole body: until then nobody behind it knows of it.
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\n12").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let rest = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(4));
        stream.write_all(b"34").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    mode.flip("1").unwrap();
    let answer = rest.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("1234"), "{answer}");
}

#[test]
fn a_reload_that_keeps_the_old_workers_is_taken_back() {
    let mode = Mode::start("stale").unwrap();
    mode.stage.compose(&compose(&mode.nginx, 1, ", confirm: 1s", ""));
    // The test does not bind, so it passes; the reload does, and nginx goes on as it was.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!("server {{ listen {}; }}\n", taken.local_addr().unwrap());
    let other = mode.nginx.prefix().join("teal.d/other.conf");
    std::fs::write(&other, text).unwrap();
    let before = std::fs::read_to_string(mode.file()).unwrap();
    refuses(&mode, "1", Code::NginxStale, &["was told to reload, and after 1 s its workers serve by the file before"]);
    assert_eq!(std::fs::read_to_string(mode.file()).unwrap(), before);
    std::fs::remove_file(&other).unwrap();
    mode.stage.must_deploy("1");
    assert_eq!(version(&mode), "1");
}

#[test]
fn ports_that_are_given_are_used_and_refused_when_somebody_has_them() {
    let mode = Mode::start("pairs").unwrap();
    let [blue, green] = [free_port(), free_port()];
    let settings = format!(", ports: {{ blue: [{blue}], green: [{green}] }}");
    mode.stage.compose(&compose(&mode.nginx, 1, &settings, ""));
    let taken = TcpListener::bind(("127.0.0.1", green)).unwrap();
    let port = green.to_string();
    let who = format!("(pid {})", std::process::id());
    refuses(&mode, "1", Code::PortInUse, &[&port, "gives to green, is in use by ", &who]);
    drop(taken);
    mode.stage.must_deploy("1");
    assert!(std::fs::read_to_string(mode.file()).unwrap().contains(&format!("server 127.0.0.1:{green};")));
    mode.stage.must_deploy("2");
    assert!(std::fs::read_to_string(mode.file()).unwrap().contains(&format!("server 127.0.0.1:{blue};")));
    assert_eq!(version(&mode), "2");
}

#[test]
fn a_first_release_whose_file_nginx_does_not_read_is_taken_back() {
    let mode = Mode::start("unread").unwrap();
    let text = compose(&mode.nginx, 1, ", confirm: 1s", "");
    let web = text.split_once("  web:\n").unwrap().1;
    let api = |file: &str| web.replace("upstream: app", "upstream: api").replace("teal.d/teal.conf", file);
    let with = |file: &str| format!("{}  api:\n{}", compose(&mode.nginx, 1, "", ""), api(file));
    mode.stage.compose(&with("unread.conf"));
    refuses(&mode, "0", Code::NginxStale, &["unread.conf within `http`"]);
    assert!(!mode.nginx.prefix().join("unread.conf").exists());
    mode.stage.compose(&with("nowhere/teal.conf"));
    refuses(&mode, "0", Code::NginxFile, &["its own folder is not there"]);
}

#[test]
fn a_health_port_that_answers_503_is_never_switched_to() {
    let mode = Mode::start("health").unwrap();
    let environment = "      MANAGEMENT_PORT: \"9090\"\n      BOOT_MODE: \"503\"\n      BOOT_MS: \"60000\"";
    let text = compose(&mode.nginx, 1, "", environment);
    let text = text.replace("path: /health,", "path: /health, port: 9090, deadline: 2s,");
    mode.stage.compose(&text);
    refuses(&mode, "1", Code::NeverReady, &["answered 503"]);
    let healthy = text.replace("      BOOT_MS: \"60000\"\n", "");
    assert_ne!(healthy, text);
    mode.stage.compose(&healthy);
    mode.stage.must_deploy("2");
    assert_eq!(version(&mode), "2");
}

#[test]
fn what_nginx_does_not_log_is_not_called_zero() {
    let mode = Mode::start("blind").unwrap();
    let http = format!(
        "  include teal.d/*.conf;\n  server {{ listen {}; access_log off; location / {{ proxy_pass http://app; }} }}",
        mode.address()
    );
    mode.nginx.configure("", &http).unwrap();
    mode.nginx.signal("reload").unwrap();
    let plan = text_of(&mode.stage.command(&["plan"]).env("VERSION", "1").output().unwrap());
    assert!(plan.contains("keeps requests from being counted") && plan.contains("worker_shutdown_timeout"), "{plan}");
    // The second one begins with what the first has seen of the configuration.
    mode.stage.must_deploy("1");
    let deployed = mode.stage.must_deploy("2");
    match &deployed.receipt().unwrap().traffic {
        Traffic::Unknown { why } => assert!(why.contains("if=$teal_release"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agent_that_dies_leaves_file_and_traffic_agreeing() {
    let mode = Mode::start("deaths").unwrap();
    let crashes = crash::of_live(&mode.stage, mode.address(), 3).unwrap();
    fails_by_the_race_alone(&crashes.report, &mode);
    assert!(crashes.ends.len() >= 5, "{:?}", crashes.ends);
    for (place, state) in &crashes.ends {
        assert!(matches!(state, State::Done | State::Reverted { .. }), "{place}: {state:?}");
    }
    assert_eq!(crashes.leftovers, Vec::<String>::new());
    let live = mode.stage.status().services.iter().find_map(|service| service.live.clone());
    let file = std::fs::read_to_string(mode.file()).unwrap();
    assert!(file.contains(&format!("# {}, ", live.unwrap())), "{file}");
    assert_eq!(file.matches("    server ").count(), 1, "{file}");
}

#[test]
fn nginx_in_a_container_is_told_there() {
    let mut mode = Mode::waiting("inside", "").unwrap();
    let name = format!("{}-nginx", mode.stage.project);
    let site = mode.stage.root().join("site");
    std::fs::create_dir(&site).unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let volume = format!("{}:/etc/nginx/conf.d", site.display());
    let run = ["run", "--detach", "--network=host", "--volume", &volume, "--name", &name, "teal-nginx:1.22"];
    docker(&run);
    let text = compose(&mode.nginx, 1, "", "");
    let at = text.find("      nginx: {").unwrap();
    let end = at + text[at..].find('\n').unwrap();
    let own = format!("      nginx: {{ upstream: app, container: {name} }}");
    mode.stage.compose(&text.replace(&text[at..end], &own)).up();
    mode.stage.must_deploy("0");
    assert!(site.join("teal.conf").exists(), "it is where nginx sees it");
    std::fs::write(
        site.join("site.conf"),
        format!("server {{ listen {address}; location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}\n"),
    )
    .unwrap();
    docker(&["kill", "--signal=HUP", &name]);
    mode.stage.until("nginx leads to it", Duration::from_secs(10), || TcpStream::connect(address).is_ok());
    mode.move_to(address);
    let prober = Prober::start(load(address, Pace::per_second(20.0))).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    for version in ["1", "2"] {
        mode.stage.must_deploy(version);
    }
    std::thread::sleep(Duration::from_millis(300));
    let report = prober.stop().unwrap();
    let causes: Vec<_> = report.causes.keys().filter(|cause| !is_race(**cause)).collect();
    assert!(causes.is_empty(), "{:?} {:#?}", report.causes, report.failures);
    assert_eq!(version(&mode), "2");
    // Made again without its file, which is written once more: it is on a volume here, so it is taken away by hand.
    std::fs::remove_file(site.join("teal.conf")).unwrap();
    mode.stage.until("the file is back", Duration::from_secs(40), || site.join("teal.conf").exists());
    mode.stage.must(&["remove", "--yes"]);
    docker(&["rm", "--force", "--volumes", &name]);
}

#[test]
fn two_services_of_one_nginx_flip_in_one_reload() {
    let mode = Mode::start("two").unwrap();
    let one = compose(&mode.nginx, 2, "", "");
    let (head, web) = one.split_once("  web:\n").unwrap();
    let both = format!("{head}  web:\n{web}  api:\n{}", web.replace("upstream: app", "upstream: api"));
    mode.stage.compose(&both);
    mode.stage.must_deploy("1");
    let before = mode.reloads();
    mode.stage.must_deploy("2");
    let text = std::fs::read_to_string(mode.file()).unwrap();
    assert_eq!(text.matches("    server 127.0.0.1:").count(), 4, "{text}");
    assert_eq!(mode.reloads() - before, 1);
    // A second upstream of that name would take the first one's requests.
    mode.stage.compose(&both.replace("upstream: api", "upstream: app"));
    refuses(&mode, "3", Code::NginxRefused, &["upstream app", "already"]);
}

#[test]
fn behind_nginx_the_replicas_of_a_step_alone_are_called() {
    let mode = Mode::start("mode-grows").unwrap();
    let stage = &mode.stage;
    let settings = "traffic: nginx\n      bake: 0\n      canary: { percent: 20, replicas: 1, for: manual }";
    let text = compose(&mode.nginx, 2, "", "");
    stage.compose(&text);
    // Both colors have ports for all of their replicas.
    for version in ["1", "2"] {
        stage.must_deploy(version);
    }
    stage.compose(&text.replace("traffic: nginx", settings));
    let servers = |of: &str| {
        let text = std::fs::read_to_string(mode.file()).unwrap();
        text.lines().filter(|line| line.contains("server 127.0.0.1:") && line.contains(of)).count()
    };
    let begun = stage.deploy("3", &["--no-wait"]);
    assert_eq!(begun.exit, 0, "{begun:#?}");
    let is = |state: &str| stage.status().running.iter().any(|running| running.state.name() == state);
    stage.until("the candidate has a share", Duration::from_secs(30), || is("stepping"));
    assert_eq!((servers("@4"), servers("@3")), (1, 2), "{}", std::fs::read_to_string(mode.file()).unwrap());
    let met = (0..100).filter(|_| version(&mode) == "3").count();
    assert!((10..=30).contains(&met), "{met} of 100 at 20 %");
    let prober = Prober::start(load(mode.address(), Pace::per_second(20.0))).unwrap();
    stage.must(&["promote", "--full"]);
    stage.until("it is live", Duration::from_secs(60), || stage.status().running.is_empty());
    fails_by_the_race_alone(&prober.stop().unwrap(), &mode);
    assert_eq!((servers("@4"), servers("@3")), (2, 0));
}

#[test]
fn behind_nginx_a_canary_has_its_share_a_bad_release_is_taken_back_and_a_warm_one_is_a_reload_away() {
    let mode = Mode::start("mode-canary").unwrap();
    let stage = &mode.stage;
    let watched = "traffic: nginx\n      bake: 2m\n      retain: 10m\n      canary: [20% manual]";
    stage.compose(&compose(&mode.nginx, 1, "", TROUBLE).replace("traffic: nginx", watched));
    let begun = stage.deploy_with("1", &["--no-wait"], &[]);
    assert_eq!(begun.exit, 0, "{begun:#?}");
    let is = |state: &str| stage.status().running.iter().any(|running| running.state.name() == state);
    stage.until("the candidate has a share", Duration::from_secs(30), || is("stepping"));
    let text = std::fs::read_to_string(mode.file()).unwrap();
    assert!(text.contains("weight=4;") || text.contains("weight=4 "), "four to one: {text}");
    let met = (0..100).filter(|_| version(&mode) == "1").count();
    assert!((10..=30).contains(&met), "{met} of 100 at 20 %");
    stage.must(&["promote", "--full"]);
    stage.until("it is watched", Duration::from_secs(30), || is("baking"));
    stage.must(&["promote"]);
    stage.until("it is live", Duration::from_secs(60), || stage.status().running.is_empty());
    assert_eq!(version(&mode), "1");
    stage.must(&["rollback"]);
    assert_eq!(version(&mode), "0", "{}", stage.logs());

    let prober = Prober::start(load(mode.address(), Pace::per_second(10.0))).unwrap();
    stage.compose(
        &compose(&mode.nginx, 1, "", TROUBLE)
            .replace("traffic: nginx", &watched.replace("\n      canary: [20% manual]", "")),
    );
    let bad = stage.deploy_with("bad", &[], &[("FAIL", "1")]);
    prober.stop().unwrap();
    assert_eq!(bad.exit, 8, "{bad:#?}\n{}", stage.logs());
    let why = match bad.receipt().map(|receipt| &receipt.outcome) {
        Some(Outcome::Reverted { why }) => why.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(why.code, Code::Worse, "{why:?}");
    assert_eq!(version(&mode), "0");
}
