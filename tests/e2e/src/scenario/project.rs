//! A whole project, `examples/project`: its app is deployed again and again, under load from outside through nginx and from
//! containers that call it by its name, while its database and its cache must not even notice.

use super::{calls, orders};
use crate::leftovers::{Part, Scope, Snapshot};
use crate::prober::{Clients, Config, Pace, Prober, Report};
use crate::stage::{Deployed, Stage, docker};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use teal_model::deployment::Published;

/// Whatever a deployment of the app must leave alone.
const OTHERS: [&str; 6] = ["nginx", "worker", "db", "cache", "caller-once", "caller-each"];
/// From one deployment to the next, so that load and idle connections settle.
const PAUSE: Duration = Duration::from_millis(500);

pub struct Whole {
    pub report: Report,
    /// Version that was replaced, and its flip.
    pub flips: Vec<(String, Published)>,
    pub calls: Vec<calls::Calls>,
    /// What is not the run of a container that it was before.
    pub restarts: Vec<String>,
    pub orders: orders::Orders,
    /// The worker's own count.
    pub worked: u64,
}

impl Whole {
    pub fn stale_answers(&self) -> usize {
        self.flips.iter().map(|(old, flip)| self.report.stale_answers(flip.acknowledged_us, old).len()).sum()
    }

    pub fn stale_calls(&self) -> Vec<String> {
        calls::stale(&self.calls, &self.flips)
    }
}

/// The files of `examples/project` in the stage's folder, with a free port.
pub fn lay_out(stage: &Stage) -> std::io::Result<()> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/project");
    stage.compose(&std::fs::read_to_string(example.join("compose.yaml"))?);
    std::fs::copy(example.join("nginx.conf"), stage.folder().join("nginx.conf"))?;
    set_tag(stage, "v1")
}

/// The app's image; what else is in `.env` stays.
fn set_tag(stage: &Stage, tag: &str) -> std::io::Result<()> {
    std::fs::write(stage.folder().join(".env"), format!("LISTEN={}\nTAG={tag}\n", stage.address()))
}

/// `deployments` of the app, each another version, every second another image.
pub fn run(stage: &Stage, deployments: usize) -> std::io::Result<Whole> {
    lay_out(stage)?;
    stage.up();
    stage.must_deploy("0");
    let before = runs_of_others(stage);
    let gets = Clients { get_starts_with: b"teal sample app, version ".to_vec(), ..Clients::steady(16) };
    let posts = Clients {
        post_share: 1.0,
        post_path: "/orders".to_owned(),
        post_bytes: 16,
        post_echoes: false,
        ..Clients::steady(8)
    };
    let load =
        Config::new(stage.address()).with(gets.pace(Pace::per_second(20.0))).with(posts.pace(Pace::per_second(10.0)));
    let prober = Prober::start(load)?;
    std::thread::sleep(PAUSE);
    let mut flips = Vec::new();
    for version in 1..=deployments {
        set_tag(stage, if version % 2 == 0 { "v1" } else { "checked" })?;
        let deployed = stage.deploy(&version.to_string(), &["app"]);
        assert!(deployed.done(), "{deployed:#?}\n{}", stage.logs());
        flips.push(((version - 1).to_string(), flip_of(&deployed)));
        std::thread::sleep(PAUSE);
    }
    let report = prober.stop()?;
    let mut calls = calls::now(stage, "caller-once")?;
    calls.extend(calls::now(stage, "caller-each")?);
    let orders = orders::compare(stage, &report)?;
    Ok(Whole {
        report,
        flips,
        calls,
        restarts: changed(&before, &runs_of_others(stage)),
        orders,
        worked: worked(stage),
    })
}

fn flip_of(deployed: &Deployed) -> Published {
    deployed.flip().unwrap_or_else(|| panic!("no flip in {deployed:#?}"))
}

/// Service, and the runs of its containers: id and start.
type Runs = BTreeMap<String, String>;

fn runs_of_others(stage: &Stage) -> Runs {
    let runs = |service: &str| {
        let mut arguments = vec!["inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.State.Running}}"];
        let replicas = stage.replicas(service);
        assert!(!replicas.is_empty(), "{service} does not run\n{}", stage.logs());
        arguments.extend(replicas.iter().map(String::as_str));
        docker(&arguments)
    };
    OTHERS.iter().map(|service| ((*service).to_owned(), runs(service))).collect()
}

fn changed(before: &Runs, after: &Runs) -> Vec<String> {
    let differs = before.iter().filter(|(service, runs)| after.get(*service) != Some(runs));
    differs.map(|(service, runs)| format!("{service}: {runs:?}, now {:?}", after.get(service))).collect()
}

/// `done=N` of the worker's last line.
fn worked(stage: &Stage) -> u64 {
    let logs =
        stage.replicas("worker").iter().map(|worker| docker(&["logs", "--tail", "1", worker])).collect::<String>();
    logs.trim().rsplit_once("done=").and_then(|(_, done)| done.parse().ok()).unwrap_or(0)
}

/// The host as it is before a stage is used.
pub fn snapshot() -> Snapshot {
    Snapshot::take(&Scope::default())
}

/// Removes the project and ends agent and proxy; what is there then and was not before, but for the volumes, which
/// are kept, and the image of containers that only hold a name.
pub fn left_over(stage: &Stage, before: &Snapshot) -> Vec<String> {
    stage.must(&["remove", "--yes"]);
    stage.must(&["down", "--proxy"]);
    let mut left = Vec::new();
    // Interfaces and processes of containers end a moment after their containers.
    for _ in 0..20 {
        let kept = |part: Part, thing: &str| match part {
            Part::Volume => thing.starts_with(&format!("{}_", stage.project)),
            Part::Image => thing.starts_with("teal-holder:"),
            _ => false,
        };
        let leftovers = before.diff(&snapshot()).except(kept);
        left = leftovers.left.iter().map(|(part, thing)| format!("{part} {thing}")).collect();
        left.extend(leftovers.unread.iter().map(|(part, why)| format!("not compared: {part}: {why}")));
        if left.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    left
}
