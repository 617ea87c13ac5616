//! CPU per proxied request, Teal's proxy and nginx side by side: each pinned to core 0, load and app on core 1.

use std::error::Error;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;
use teal_e2e::nginx::{self, Nginx};
use teal_e2e::prober::{Clients, Config, Prober};
use teal_e2e::scenario::web;
use teal_e2e::stage::{Stage, docker, free_port};

const ROUND: Duration = Duration::from_secs(4);
const CONNECTIONS: usize = 64;

pub struct Cpu {
    pub teal_us: f64,
    pub nginx_us: f64,
    pub detail: String,
}

struct Round {
    us: f64,
    per_second: f64,
    busy: f64,
}

pub fn run(rounds: usize) -> Result<Cpu, Box<dyn Error>> {
    let stage = Stage::new("bench-cpu");
    stage.compose(&web(1, "", ""));
    // One core for each, so one worker for each.
    stage.must(&["up", "--detach", "--workers", "1"]);
    stage.must_deploy("0");
    let container = stage.containers().first().cloned().ok_or("no container runs")?;
    let inspect = |format: &str| docker(&["inspect", "--format", format, &container]).trim().to_owned();
    let address = inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    pin(inspect("{{.State.Pid}}").parse()?, 1)?;
    let proxy = stage.proxy_pid();
    pin(proxy, 0)?;
    let other_address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let nginx = one_worker(&format!("{address}:8080"), other_address)?;
    let worker = nginx.workers().first().copied().ok_or("nginx has no worker")?;
    pin(worker, 0)?;
    // One round each to fill pools and caches.
    round(stage.address(), proxy)?;
    round(other_address, worker)?;
    let (mut teal, mut other) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        teal.push(round(stage.address(), proxy)?);
        other.push(round(other_address, worker)?);
    }
    let busiest = teal.iter().chain(&other).map(|round| round.busy).fold(0.0, f64::max);
    if busiest > 0.8 {
        return Err(format!("void: the load generator was {:.0} % busy", busiest * 100.0).into());
    }
    let detail = format!(
        "{CONNECTIONS} keep-alive clients, GET / with a small body; {:.0} and {:.0} requests/s; load generator at most {:.0} % busy; {}",
        middle(&teal, |round| round.per_second),
        middle(&other, |round| round.per_second),
        busiest * 100.0,
        nginx::version()?
    );
    Ok(Cpu { teal_us: middle(&teal, |round| round.us), nginx_us: middle(&other, |round| round.us), detail })
}

fn middle(rounds: &[Round], value: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn round(target: SocketAddr, pid: u32) -> Result<Round, Box<dyn Error>> {
    let mut load = Config::new(target).with(Clients::steady(CONNECTIONS));
    load.cpus = vec![1];
    let prober = Prober::start(load)?;
    std::thread::sleep(Duration::from_millis(300));
    let (cpu, requests) = (cpu_us(pid)?, prober.snapshot().requests);
    std::thread::sleep(ROUND);
    let (cpu, requests) = (cpu_us(pid)? - cpu, prober.snapshot().requests - requests);
    let report = prober.stop()?;
    if report.failed() > 0 {
        return Err(format!("{} requests to {target} failed: {:?}", report.failed(), report.failures.first()).into());
    }
    Ok(Round { us: cpu / requests as f64, per_second: requests as f64 / ROUND.as_secs_f64(), busy: report.busy_share })
}

/// User and system time of all threads (proc(5): fields 14 and 15 of stat, in clock ticks).
fn cpu_us(pid: u32) -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(") ").ok_or("stat without a name")?.1.split(' ').collect();
    let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    Ok(ticks / per_second * 1e6)
}

fn pin(pid: u32, core: u32) -> Result<(), Box<dyn Error>> {
    let status =
        Command::new("taskset").args(["-acp", &core.to_string(), &pid.to_string()]).stdout(Stdio::null()).status()?;
    status.success().then_some(()).ok_or_else(|| format!("process {pid} cannot be pinned to core {core}").into())
}

/// One worker, keep-alive to the app, no access log: what a team would set for speed.
fn one_worker(backend: &str, address: SocketAddr) -> std::io::Result<Nginx> {
    let http = format!(
        "  keepalive_requests 100000000;
  upstream app {{ server {backend}; keepalive 128; keepalive_requests 100000000; }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
    }}
  }}"
    );
    Nginx::start("worker_processes 1;", &http, &[], address)
}
