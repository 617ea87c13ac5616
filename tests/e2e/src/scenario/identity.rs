//! The Docker daemon is restarted under load: the containers of three services that answer on the same port come back with
//! each other's addresses, and no request may be answered by a wrong one.

use super::{CALLER_IMAGE, IMAGE, calls};
use crate::clock::monotonic_us;
use crate::daemon::Daemon;
use crate::prober::{Cause, Clients, Config, Handle, Pace, Prober, Report};
use crate::stage::{Stage, docker, free_port};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const SERVICES: [&str; 3] = ["red", "green", "blue"];
/// Within it every service answers again after a restart, or the run is given up.
const BACK: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_secs(1);
const PACE: f64 = 50.0;

#[derive(Default)]
pub struct Identity {
    /// Answers of another service than the one that was asked, from outside and from within.
    pub wrong: u64,
    pub requests: u64,
    /// Of each restart, the longest time in which some service answered nobody.
    pub down_us: Vec<u64>,
    /// The same, of restarts that leave the containers running.
    pub live_restore_down_us: Vec<u64>,
    /// How many of the restarts gave some container another address.
    pub moved: usize,
    pub detail: String,
}

struct Service {
    name: &'static str,
    address: SocketAddr,
}

/// `restarts` of each kind.
pub fn run(stage: &Stage, restarts: usize) -> std::io::Result<Identity> {
    let services = SERVICES.map(|name| Service { name, address: SocketAddr::from(([127, 0, 0, 1], free_port())) });
    stage.compose(&compose(&services)).up();
    stage.must_deploy("0");
    let caller = stage.replicas("caller").pop().ok_or_else(|| std::io::Error::other("no caller runs"))?;
    let probers = services.iter().map(load).collect::<std::io::Result<Vec<Handle>>>()?;
    std::thread::sleep(PAUSE);
    let mut daemon = Daemon::default();
    let mut run = Identity::default();
    let (mut stopping, mut living) = (Vec::new(), Vec::new());
    for _ in 0..restarts {
        stopping.push(restart(stage, &services, &mut daemon, false, &mut run.moved)?);
    }
    // The one that brings the option in stops them all once more.
    restart(stage, &services, &mut daemon, true, &mut run.moved)?;
    for _ in 0..restarts {
        living.push(restart(stage, &services, &mut daemon, true, &mut run.moved)?);
    }
    let reports = probers.into_iter().map(Handle::stop).collect::<std::io::Result<Vec<Report>>>()?;
    // The daemon that goes back to its own options ends this caller for the last time, and its counts are in its log.
    drop(daemon);
    stage.until("every service answers again", BACK, || services.iter().all(answers));
    let calls = calls::logged(&caller);
    run.down_us = stopping.iter().map(|window| longest_gap(&reports, *window)).collect();
    run.live_restore_down_us = living.iter().map(|window| longest_gap(&reports, *window)).collect();
    run.requests = reports.iter().map(Report::requests).sum();
    run.wrong = reports.iter().map(|report| report.failed_by(Cause::WrongBody)).sum::<u64>() + calls::wrong(&calls);
    run.detail = describe(&reports, &calls);
    Ok(run)
}

fn compose(services: &[Service]) -> String {
    let mut text = "services:\n".to_owned();
    let mut targets = Vec::new();
    for Service { name, address } in services {
        text.push_str(&format!(
            "  {name}:
    image: {IMAGE}
    environment: {{ VERSION: \"{name}-${{VERSION:-0}}\", SIGTERM: drain }}
    ports: [\"{address}:8080\"]
    restart: always
    deploy: {{ replicas: 2 }}
"
        ));
        targets.push(format!("http://{name}:8080/#{name}-"));
    }
    text + &format!(
        "  caller:
    image: {CALLER_IMAGE}
    environment: {{ TARGETS: \"{}\", CONNECTIONS: \"2\" }}
    restart: always
    depends_on: [{}]
",
        targets.join(" "),
        SERVICES.join(", ")
    )
}

fn load(service: &Service) -> std::io::Result<Handle> {
    let clients = Clients {
        get_starts_with: format!("teal sample app, version {}-", service.name).into_bytes(),
        ..Clients::steady(4)
    };
    let mut load = Config::new(service.address).with(clients.pace(Pace::per_second(PACE)));
    // Requests are held while nobody is there to answer them.
    load.timeout = BACK;
    load.tag = format!("{}-", service.name);
    Prober::start(load)
}

/// From before the restart until a moment after every service answered again.
fn restart(
    stage: &Stage,
    services: &[Service],
    daemon: &mut Daemon,
    live_restore: bool,
    moved: &mut usize,
) -> std::io::Result<(u64, u64)> {
    let (addresses, from) = (addresses(stage), monotonic_us());
    daemon.restart(live_restore)?;
    stage.until("every service answers again", BACK, || services.iter().all(answers));
    std::thread::sleep(PAUSE);
    let window = (from, monotonic_us());
    *moved += usize::from(self::addresses(stage) != addresses);
    Ok(window)
}

/// Names of the project's containers with their addresses, in the order of the names.
fn addresses(stage: &Stage) -> Vec<String> {
    let names = stage.containers();
    let format = "{{.Name}} {{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
    names.iter().map(|name| docker(&["inspect", "--format", format, name])).collect()
}

/// One request on a connection of its own; whoever answers it is the probers' business.
fn answers(service: &Service) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(service.address)?;
        stream.set_read_timeout(Some(BACK))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200 "))
    };
    ask().unwrap_or(false)
}

fn longest_gap(reports: &[Report], (from, to): (u64, u64)) -> u64 {
    reports.iter().map(|report| report.longest_gap(from, to)).max().unwrap_or(0)
}

fn describe(reports: &[Report], calls: &[calls::Calls]) -> String {
    let failed: u64 = reports.iter().map(Report::failed).sum();
    let wrong = reports.iter().flat_map(|report| &report.failures).find(|failure| failure.cause == Cause::WrongBody);
    let wrong = wrong.map_or_else(String::new, |failure| format!("; first wrong answer: {failure}"));
    format!("{failed} requests failed while nobody could answer; from within: {}{wrong}", calls::describe(calls))
}
