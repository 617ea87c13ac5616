//! `teal-load`: steady traffic for demonstrations, with a line a second that says what its users see.
#![allow(clippy::print_stdout, clippy::print_stderr)] // printing is this program's job

use clap::Parser;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use teal_e2e::prober::{Clients, Config, Pace, Prober, Report, Snapshot};

const LOOK: Duration = Duration::from_millis(50);
const LINE: Duration = Duration::from_secs(1);

/// Sends requests over keep-alive connections, never repeats one, and counts every failure. Ends with 1 if there was
/// one, also after SIGINT and SIGTERM.
#[derive(Debug, Parser)]
#[command(name = "teal-load", version)]
struct Arguments {
    /// Where to send GET requests: http://HOST[:PORT][/PATH]
    #[arg(long)]
    url: String,
    /// Keep-alive connections
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// How long; without it until a signal comes
    #[arg(long)]
    seconds: Option<f64>,
    /// Requests a second and connection, on a schedule; without it as many as are answered
    #[arg(long)]
    rate: Option<f64>,
    /// Of all requests, 0 to 1, POSTs to /echo, whose answer must be the body sent
    #[arg(long, default_value_t = 0.0)]
    post_share: f64,
    /// Of all requests, 0 to 1, those to /slow, which take up to two seconds
    #[arg(long, default_value_t = 0.0)]
    slow_share: f64,
    /// WebSocket clients on /ws, with ten messages a second each
    #[arg(long, default_value_t = 0)]
    websockets: usize,
    /// After it a request counts as failed, in seconds
    #[arg(long, default_value_t = 10.0)]
    timeout: f64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The summary as JSON on stdout; the lines go to stderr
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(report) if report.failed() == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("teal-load: {problem}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<Report, String> {
    let config = configure(arguments)?;
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).map_err(|error| error.to_string())?;
    }
    let handle = Prober::start(config).map_err(|error| format!("cannot start: {error}"))?;
    let started = Instant::now();
    let over = |now: Instant| arguments.seconds.is_some_and(|seconds| (now - started).as_secs_f64() >= seconds);
    let (mut next_line, mut before) = (started + LINE, Snapshot::default());
    loop {
        std::thread::sleep(LOOK);
        let now = Instant::now();
        if now >= next_line {
            next_line += LINE;
            let live = handle.snapshot();
            let line = describe(now - started, &live, &before);
            if arguments.json {
                eprintln!("{line}")
            } else {
                println!("{line}")
            }
            before = live;
        }
        if ended.load(Ordering::Acquire) || over(now) {
            break;
        }
    }
    let report = handle.stop().map_err(|error| format!("the clients could not go on: {error}"))?;
    if arguments.json {
        println!("{}", summary(&report))
    } else {
        println!("\n{report}")
    }
    Ok(report)
}

fn configure(arguments: &Arguments) -> Result<Config, String> {
    let shares = [arguments.post_share, arguments.slow_share];
    if shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
        return Err("a share lies between 0 and 1".to_owned());
    }
    if arguments.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
        return Err("--rate is more than 0".to_owned());
    }
    let timeout = Duration::try_from_secs_f64(arguments.timeout).map_err(|error| format!("--timeout: {error}"))?;
    let (target, host, path) = parse_url(&arguments.url)?;
    let clients = Clients {
        pace: arguments.rate.map_or(Pace::Closed, Pace::per_second),
        get_path: path,
        post_share: arguments.post_share,
        slow_share: arguments.slow_share,
        ..Clients::steady(arguments.connections)
    };
    let config = Config { host, timeout, seed: arguments.seed, ..Config::new(target) };
    Ok(config.with(clients).with_websockets(arguments.websockets, Duration::from_millis(100)))
}

fn parse_url(url: &str) -> Result<(SocketAddr, String, String), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url}: only http:// is spoken here"))?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let bracket = host.rfind(']').unwrap_or(0);
    let with_port = if host[bracket..].contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut addresses = with_port.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    let target = addresses.next().ok_or_else(|| format!("{host}: no address"))?;
    Ok((target, host.to_owned(), path.to_owned()))
}

fn describe(elapsed: Duration, live: &Snapshot, before: &Snapshot) -> String {
    let mut line = format!(
        "{:5.0} s  {:6} requests/s  {} failed  worst {:7.1} ms ",
        elapsed.as_secs_f64(),
        live.requests - before.requests,
        live.failed,
        live.worst_us as f64 / 1e3,
    );
    for (index, (version, count)) in live.by_version.iter().enumerate() {
        let answers = count - before.by_version.get(index).map_or(0, |(_, count)| *count);
        if answers > 0 && !version.is_empty() {
            line.push_str(&format!(" {version}: {answers}/s"));
        }
    }
    line
}

fn summary(report: &Report) -> serde_json::Value {
    let by_version: serde_json::Map<String, serde_json::Value> =
        report.totals.by_version.iter().map(|(version, count)| (version.clone(), json!(count))).collect();
    json!({
        "seconds": report.ended_us.saturating_sub(report.started_us) as f64 / 1e6,
        "requests": report.totals.requests,
        "failed": report.totals.failed,
        "causes": report.causes,
        "failures": report.failures,
        "closed_by_server": report.totals.closed_by_server,
        "closed_as_announced": report.totals.closed_as_announced,
        "connections": report.totals.connections,
        "websockets_closed": report.totals.websockets_closed,
        "answers_by_version": by_version,
        "median_us": report.latency_us(0.5),
        "p99_us": report.latency_us(0.99),
        "max_us": report.latency_us(1.0),
        "longest_gap_us": report.longest_gap(report.started_us, report.ended_us),
        "busy_share": report.busy_share,
        "void": report.void(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that cannot go on says where
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_address_host_and_path() {
        let (target, host, path) = parse_url("http://127.0.0.1:8080/a?b=/c").unwrap();
        assert_eq!(
            (target.to_string(), host, path),
            ("127.0.0.1:8080".into(), "127.0.0.1:8080".into(), "/a?b=/c".into())
        );
        let (target, _, path) = parse_url("http://[::1]").unwrap();
        assert_eq!((target.to_string(), path), ("[::1]:80".into(), "/".into()));
        assert!(parse_url("https://x/").is_err());
    }
}
