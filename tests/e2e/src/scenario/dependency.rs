//! What both colors need is gone for a while during a bake: every request fails, and none of it is the candidate's fault.

use super::{TROUBLE, bad_release, web};
use crate::prober::{Prober, Report};
use crate::stage::Stage;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use teal_model::api::Summary;
use teal_model::deployment::State;

/// For as many requests as it takes to know how often the service fails as a rule.
const USUAL: Duration = Duration::from_secs(13);
/// Of all requests on the candidate before the outage, so that there is something to be mistaken about.
const BEFORE: Duration = Duration::from_secs(5);
/// A late verdict would come within this.
const AFTER: Duration = Duration::from_secs(10);

pub struct Outage {
    pub report: Report,
    /// How long every request failed.
    pub lasted: Duration,
    /// Of `teal status`, during the outage.
    pub alerts: Vec<String>,
    /// Where the deployment stood some time after it.
    pub state: State,
}

/// A deployment whose bake an outage of this length falls into.
pub fn run(stage: &Stage, outage: Duration) -> std::io::Result<Outage> {
    let mut dependency = Dependency::start()?;
    let more = "    extra_hosts: [\"outside:host-gateway\"]\n    deploy:";
    stage.compose(&web(2, "      bake: 5m", TROUBLE).replace("    deploy:", more)).up();
    let needs = format!("outside:{}", dependency.port);
    let needs = [("DEPENDENCY", needs.as_str())];
    let first = stage.deploy_with("0", &[], &needs);
    assert!(first.done(), "{first:#?}\n{}", stage.logs());
    let prober = Prober::start(bad_release::load(stage))?;
    std::thread::sleep(USUAL);
    let begun = stage.deploy_with("1", &["--no-wait"], &needs);
    assert_eq!(begun.exit, 0, "{begun:#?}");
    let baking = || stage.status().running.iter().any(|running| running.state.name() == "baking");
    stage.until("the candidate has all requests", Duration::from_secs(30), baking);
    std::thread::sleep(BEFORE);
    let before = stage.status().alerts;
    let began = Instant::now();
    dependency.stop();
    let mut alerts: Vec<String> = Vec::new();
    while began.elapsed() < outage {
        alerts.extend(stage.status().alerts.into_iter().filter(|alert| !before.contains(alert)));
        alerts.dedup();
        std::thread::sleep(Duration::from_millis(500));
    }
    let lasted = began.elapsed();
    dependency.listen()?;
    std::thread::sleep(AFTER);
    let report = prober.stop()?;
    let newest = stage.must(&["history", "--limit", "1", "--output", "json"]);
    let newest: Summary = serde_json::from_str(newest.trim())?;
    if !newest.state.has_ended() {
        // It would go on for as long as its bake.
        stage.must(&["abort"]);
    }
    Ok(Outage { report, lasted, alerts, state: newest.state })
}

pub fn was_taken_back(state: &State) -> bool {
    matches!(state, State::Reverting { .. } | State::Reverted { .. } | State::Stuck { .. })
}

/// A port of this host that takes connections, or refuses them. Containers reach it at `host-gateway`.
struct Dependency {
    port: u16,
    accepting: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Dependency {
    fn start() -> std::io::Result<Self> {
        let mut dependency = Self { port: 0, accepting: None };
        dependency.listen()?;
        Ok(dependency)
    }

    fn listen(&mut self) -> std::io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.port))?;
        self.port = listener.local_addr()?.port();
        let stopped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopped);
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Acquire) {
                drop(listener.accept());
            }
        });
        self.accepting = Some((stopped, thread));
        Ok(())
    }

    fn stop(&mut self) {
        let Some((stopped, thread)) = self.accepting.take() else { return };
        stopped.store(true, Ordering::Release);
        // Wakes the thread that waits in accept.
        drop(TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))));
        let _ = thread.join();
    }
}

impl Drop for Dependency {
    fn drop(&mut self) {
        self.stop();
    }
}
