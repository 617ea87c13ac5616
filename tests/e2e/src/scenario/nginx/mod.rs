//! Ways to deploy beside nginx, and what the clients of each lose: one flip of one of them is a round.
//!
//! ```text
//!   script, script_wait   clients ▶ nginx ▶ published port ▶ container     deploy.sh rewrites the upstream and reloads
//!   mode                  clients ▶ nginx ▶ container                      Teal does
//!   behind                clients ▶ nginx ▶ Teal's proxy ▶ container       nginx is never reloaded
//!   edge                  clients ▶ Teal's proxy ▶ container
//! ```

pub mod mode;
mod script;
mod teal;

use super::IMAGE;
use super::flip::MARGIN_US;
use crate::clock::monotonic_us;
use crate::prober::{Cause, Clients, Config, Pace, Prober, Report};
use crate::stage::{docker, free_port};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

pub use mode::Mode;
pub use script::MAIN;
pub use teal::Behind;

/// Between the reload and the stop of what was live, in `ScriptWait`.
pub const WAIT: Duration = Duration::from_secs(5);
/// Before the flip of a round: connections are opened, pools fill.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setup {
    Script,
    ScriptWait,
    Mode,
    /// Settings of nginx by which the race of a reload might be smaller; for a bench of its own.
    ModeLingering,
    ModeShortKeepalive,
    ModeNoKeepalive,
    Behind,
    Edge,
}

impl Setup {
    pub const ALL: [Self; 5] = [Self::Script, Self::ScriptWait, Self::Mode, Self::Behind, Self::Edge];

    /// `mode`, tuned.
    pub const TUNED: [Self; 3] = [Self::ModeLingering, Self::ModeShortKeepalive, Self::ModeNoKeepalive];

    /// Part of the ids of its figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::ScriptWait => "script_wait",
            Self::Mode => "mode",
            Self::ModeLingering => "mode_lingering",
            Self::ModeShortKeepalive => "mode_short_keepalive",
            Self::ModeNoKeepalive => "mode_no_keepalive",
            Self::Behind => "behind",
            Self::Edge => "edge",
        }
    }

    /// Whether not one request may fail.
    pub fn promises(self) -> bool {
        matches!(self, Self::Behind | Self::Edge)
    }

    /// Version 0 of the app, served.
    pub fn stand(self) -> io::Result<Box<dyn Standing>> {
        Ok(match self {
            Self::Script => Box::new(script::Script::start("script", Duration::ZERO)?),
            Self::ScriptWait => Box::new(script::Script::start("wait", WAIT)?),
            Self::Mode => Box::new(Mode::start("mode")?),
            Self::ModeLingering => Box::new(Mode::tuned("lingering", "lingering_close always;")?),
            Self::ModeShortKeepalive => Box::new(Mode::tuned("shortkeep", "keepalive_timeout 1s; keepalive_time 1s;")?),
            Self::ModeNoKeepalive => Box::new(Mode::tuned("nokeep", "keepalive_timeout 0;")?),
            Self::Behind => Box::new(Behind::start("behind")?),
            Self::Edge => Box::new(teal::Edge::start("edge")),
        })
    }
}

/// One way to deploy, with a release that serves.
pub trait Standing {
    /// Where clients connect.
    fn address(&self) -> SocketAddr;
    /// A name that its containers begin with.
    fn project(&self) -> &str;
    /// Deploys. From when to when it is watched for time without an answer: around the moment in which requests go to
    /// another release, and for a script until the one before has been stopped.
    fn flip(&mut self, version: &str) -> io::Result<(u64, u64)>;
}

/// What one flip under load showed.
#[derive(Debug, Clone, Default)]
pub struct Round {
    pub requests: u64,
    pub failed: u64,
    pub causes: BTreeMap<Cause, u64>,
    /// Idle connections that were closed before a request was written: no failure.
    pub closed_idle: u64,
    /// Longest time without an answer around the flip, and in a stretch as long without one: a container had started, and
    /// another was stopped.
    pub stall_us: u64,
    pub steady_us: u64,
    pub busy_share: f64,
    pub first_failure: Option<String>,
}

/// 64 keep-alive clients, half of whose requests are POSTs; a pace, or each as fast as it is answered.
pub fn load(address: SocketAddr, pace: Pace) -> Config {
    Config::new(address).with(Clients { post_share: 0.5, slow_share: 0.0, ..Clients::mixed(64) }.pace(pace))
}

pub fn round(standing: &mut dyn Standing, pace: Pace, version: usize) -> io::Result<Round> {
    let prober = Prober::start(load(standing.address(), pace))?;
    std::thread::sleep(SETTLE);
    let (from, to) = standing.flip(&version.to_string())?;
    // The margin after the flip is watched too, and what it stopped has settled.
    std::thread::sleep(Duration::from_micros(3 * MARGIN_US));
    let steady = control(&format!("{}-control-{version}", standing.project()), to - from);
    let report = prober.stop()?;
    Ok(Round {
        requests: report.requests(),
        failed: report.failed(),
        closed_idle: report.totals.closed_by_server,
        stall_us: report.longest_gap(from, to),
        steady_us: report.longest_gap(steady.0, steady.1),
        busy_share: report.busy_share,
        first_failure: report.failures.first().map(ToString::to_string),
        causes: report.causes,
    })
}

/// A container starts, and is stopped when the margin before a flip would be over; no request goes there.
fn control(name: &str, length_us: u64) -> (u64, u64) {
    docker(&["run", "--detach", "--env=SIGTERM=drain", "--name", name, IMAGE]);
    // A deployment flips once its candidate has answered its probes: about this long after the start.
    std::thread::sleep(Duration::from_millis(60));
    let from = monotonic_us();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_micros(MARGIN_US));
            docker(&["stop", name]);
            docker(&["rm", "--volumes", name]);
        });
        std::thread::sleep(Duration::from_micros(length_us));
    });
    (from, from + length_us)
}

/// `flips` of nginx before Teal, under one load that does not end in between.
pub fn behind(behind: &mut Behind, flips: usize) -> io::Result<Report> {
    let prober = Prober::start(load(behind.address(), Pace::per_second(20.0)))?;
    std::thread::sleep(SETTLE);
    for version in 1..=flips {
        behind.flip(&version.to_string())?;
    }
    std::thread::sleep(Duration::from_micros(3 * MARGIN_US));
    prober.stop()
}

/// A server of nginx on a free port of loopback that gives everything to the upstream `app`, and its address.
fn server() -> (String, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = format!("  include upstream.conf;\n  server {{ listen {address}; access_log off; {} }}", pass("app"));
    (text, address)
}

/// Everything goes to this upstream, on connections that are kept.
fn pass(upstream: &str) -> String {
    format!(
        "location / {{
      proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Connection \"\";
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
    }}"
    )
}
