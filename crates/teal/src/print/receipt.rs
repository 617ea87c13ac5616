//! A receipt: what a deployment did, and what the requests felt of it.

use crate::print::Paint;
use crate::print::words::{count, counted, date, ms, printable, short_id, table, us};
use teal_model::receipt::{
    Connections, Failures, Measured, Outcome, Quantiles, Receipt, ReleaseLine, StepTime, Traffic,
};

pub fn text(receipt: &Receipt, paint: Paint) -> String {
    let mut text = format!("{}\n", headline(receipt, paint));
    text.push_str(&format!("by {}, {}\n", receipt.who, date(receipt.started_ms)));
    receipt.notes.iter().for_each(|note| text.push_str(&format!("- {}\n", printable(note))));
    if !receipt.releases.is_empty() {
        text.push('\n');
        receipt.releases.iter().for_each(|release| text.push_str(&of_release(release)));
    }
    if receipt.outcome == Outcome::Unchanged {
        return text;
    }
    let traffic = traffic(&receipt.traffic, paint);
    if !traffic.is_empty() {
        text.push_str(&format!("\n{traffic}"));
    }
    if !receipt.steps.is_empty() {
        text.push_str(&format!("\n{}", steps(&receipt.steps, paint)));
    }
    text
}

/// How it ended, in one line.
pub fn headline(receipt: &Receipt, paint: Paint) -> String {
    let name = format!("Deployment {} of {}", receipt.deployment, receipt.project);
    let after = ms(receipt.ended_ms.saturating_sub(receipt.started_ms));
    match &receipt.outcome {
        Outcome::Done => format!("{} after {after}", paint.green(&format!("{name} is done"))),
        Outcome::Unchanged => {
            format!("{}: what was asked for is live already", paint.green(&format!("{name} had nothing to do")))
        }
        Outcome::Reverted { why } => {
            format!("{} after {after}: {}", paint.red(&format!("{name} was reverted")), why.what)
        }
        Outcome::Stuck { step, error } => {
            format!("{} after {after}, at `{step}`: {}", paint.red(&format!("{name} is stuck")), error.what)
        }
    }
}

fn of_release(line: &ReleaseLine) -> String {
    let releases = line.from.map_or_else(|| format!("{}, the first", line.to), |from| format!("{from} -> {}", line.to));
    let again = match line.back {
        Some(back) if back == line.to => ", back".to_owned(),
        Some(back) if line.from == Some(back) => ", again".to_owned(),
        Some(back) => format!(", back to {back}"),
        None => String::new(),
    };
    let mut text = format!(
        "{}  {releases}{again} ({}), {}, {}\n",
        line.service,
        line.color,
        line.strategy,
        counted(u64::from(line.replicas), "replica")
    );
    // One that could not be had has none.
    let id = if line.image_id.is_empty() { String::new() } else { format!(" ({})", short_id(&line.image_id)) };
    text.push_str(&format!("  image   {}{id}\n", line.image));
    for digest in &line.repo_digests {
        text.push_str(&format!("  digest  {digest}\n"));
    }
    text
}

fn traffic(traffic: &Traffic, paint: Paint) -> String {
    match traffic {
        Traffic::Measured(measured) if *measured == Measured::default() => format!("{}none\n", label("Traffic", paint)),
        Traffic::Measured(measured) => measured_words(measured, paint),
        Traffic::Unknown { why } => format!("{}unknown: {why}\n", label("Traffic", paint)),
        // Workers and jobs have none that could be counted.
        Traffic::None => String::new(),
    }
}

/// As wide as the longest of them.
fn label(name: &str, paint: Paint) -> String {
    format!("{}{:width$}", paint.bold(name), "", width = LABEL - name.len())
}

const LABEL: usize = "Connections  ".len();

/// A database has connections alone, and most services requests alone.
fn measured_words(measured: &Measured, paint: Paint) -> String {
    let seen = measured.served + measured.failed.total() + measured.held + measured.client_aborts;
    let requests = seen > 0 || measured.before.requests > 0 || measured.tcp.is_empty();
    let mut text = String::new();
    if requests {
        text.push_str(&of_requests(measured, paint));
    }
    if !measured.tcp.is_empty() {
        text.push_str(&of_connections(&measured.tcp, paint));
    }
    let stall =
        if measured.longest_stall_us < 1_000 { "under 1 ms".to_owned() } else { ms(measured.longest_stall_us / 1_000) };
    text.push_str(&format!("{:LABEL$}longest stall {stall}\n", ""));
    let timed = [&measured.before, &measured.during, &measured.after].iter().any(|quantiles| quantiles.requests > 0);
    if timed { text + &latencies(measured) } else { text }
}

fn failed(total: u64, kinds: &str, paint: Paint) -> String {
    match total {
        0 => paint.green("0 failed"),
        n => paint.red(&format!("{} failed ({kinds})", count(n))),
    }
}

fn others(kinds: &[(u64, &str)]) -> String {
    let kinds = happened(kinds);
    if kinds.is_empty() { kinds } else { format!("{:LABEL$}{kinds}\n", "") }
}

fn of_connections(tcp: &Connections, paint: Paint) -> String {
    let kinds = happened(&[(tcp.failed.connect, "no connection"), (tcp.failed.hold_expired, "held too long")]);
    let failed = failed(tcp.failed.total(), &kinds, paint);
    let head = label("Connections", paint);
    let text = format!("{head}{} served, {failed}, {} open\n", count(tcp.served), count(tcp.open));
    text + &others(&[(tcp.held, "held"), (tcp.closed, "closed after the drain")])
}

fn of_requests(measured: &Measured, paint: Paint) -> String {
    let failed = failed(measured.failed.total(), &failures(&measured.failed), paint);
    let text = format!("{}{} served, {failed}\n", label("Requests", paint), count(measured.served));
    let kinds =
        [(measured.held, "held"), (measured.retried, "retried"), (measured.client_aborts, "given up by their clients")];
    text + &others(&kinds)
}

fn latencies(measured: &Measured) -> String {
    let row = |name: &str, quantiles: &Quantiles| {
        let time = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), us);
        vec![format!("  {name}"), count(quantiles.requests), time(quantiles.p50_us), time(quantiles.p99_us)]
    };
    let head = ["  LATENCY", "REQUESTS", "P50", "P99"].map(str::to_owned).to_vec();
    let rows = [head, row("before", &measured.before), row("during", &measured.during), row("after", &measured.after)];
    table(&rows, Paint::NONE)
}

/// `2 connect, 1 app 5xx`: the kinds that happened.
pub fn failures(failed: &Failures) -> String {
    happened(&[
        (failed.connect, "no connection"),
        (failed.reset, "reset"),
        (failed.cut, "cut"),
        (failed.timeout, "timed out"),
        (failed.hold_expired, "held too long"),
        (failed.app_5xx, "5xx of the app"),
    ])
}

fn happened(kinds: &[(u64, &str)]) -> String {
    let kinds: Vec<String> =
        kinds.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
    kinds.join(", ")
}

fn steps(steps: &[StepTime], paint: Paint) -> String {
    let mut rows = vec![["STEP", "TIME", "TABLE", "ACKNOWLEDGED IN"].map(str::to_owned).to_vec()];
    for step in steps {
        let table = step.table.map(|number| number.to_string()).unwrap_or_default();
        rows.push(vec![step.step.clone(), ms(step.ms), table, step.acknowledged_in_us.map(us).unwrap_or_default()]);
    }
    table(&rows, paint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::{golden, made_up};
    use teal_model::fault::{Code, Fault};
    use teal_model::receipt::ConnectionFailures;

    #[test]
    fn a_receipt_says_what_the_requests_felt() {
        golden("receipt.txt", &text(&made_up::receipt(), Paint::NONE));
    }

    #[test]
    fn what_was_noted_and_where_it_went_back_to_is_told() {
        let mut receipt = made_up::receipt();
        receipt.notes = [
            "turned down on first evidence: green (web 4) failed 3 of 120 requests, blue (web 3) 0 of 11,880",
            "promoted by ana@web1 in step 2 of 3",
        ]
        .map(str::to_owned)
        .into();
        receipt.releases.remove(0);
        receipt.releases[0].back = Some(2);
        (receipt.traffic, receipt.steps) = (Traffic::None, Vec::new());
        golden("receipt-notes.txt", &text(&receipt, Paint::NONE));
        (receipt.releases[0].from, receipt.releases[0].to) = (Some(3), 2);
        assert!(text(&receipt, Paint::NONE).contains("web  3 -> 2, back (green)"));
    }

    #[test]
    fn an_image_that_could_not_be_had_has_no_id() {
        let mut receipt = made_up::receipt();
        receipt.releases[0].image_id.clear();
        let line = receipt.releases[0].image.clone();
        assert!(text(&receipt, Paint::NONE).contains(&format!("  image   {line}\n")));
    }

    #[test]
    fn failures_are_counted_by_kind() {
        let mut receipt = made_up::receipt();
        let failed = Failures { connect: 2, reset: 0, cut: 1, timeout: 0, hold_expired: 1_200, app_5xx: 3 };
        if let Traffic::Measured(measured) = &mut receipt.traffic {
            *measured =
                Measured { failed, held: 0, retried: 0, client_aborts: 0, longest_stall_us: 400, ..measured.clone() };
            measured.before = Quantiles::default();
        }
        receipt.outcome =
            Outcome::Reverted { why: Fault::new(Code::ReplicaExited, "shop-web-green-1 exited with code 1") };
        golden("receipt-reverted.txt", &text(&receipt, Paint::NONE));
    }

    #[test]
    fn connections_are_counted_beside_requests_and_alone_where_there_is_no_request() {
        let mut receipt = made_up::receipt();
        let failed = ConnectionFailures { connect: 1, hold_expired: 2 };
        let tcp = Connections { served: 1_120, failed, held: 14, closed: 3, open: 8 };
        let Traffic::Measured(measured) = &mut receipt.traffic else { panic!() };
        measured.tcp = Connections { failed: ConnectionFailures::default(), held: 0, closed: 0, ..tcp };
        let both = traffic(&receipt.traffic, Paint::NONE);
        let alone = traffic(
            &Traffic::Measured(Measured { tcp, longest_stall_us: 312_000, ..Measured::default() }),
            Paint::NONE,
        );
        golden("receipt-connections.txt", &format!("{both}\n{alone}"));
    }

    #[test]
    fn what_nobody_counted_is_unknown_and_not_zero() {
        let mut receipt = made_up::receipt();
        receipt.traffic = Traffic::Unknown { why: "the proxy was replaced meanwhile".to_owned() };
        receipt.outcome = Outcome::Stuck {
            step: "start shop/web@3".to_owned(),
            error: Fault::new(Code::DockerDown, "the Docker daemon does not answer"),
        };
        golden("receipt-stuck.txt", &text(&receipt, Paint::NONE));
        receipt.traffic = Traffic::None;
        receipt.outcome = Outcome::Done;
        assert!(!text(&receipt, Paint::NONE).to_lowercase().contains("request"));
        receipt.traffic = Traffic::Measured(Measured::default());
        assert!(text(&receipt, Paint::NONE).contains("\nTraffic      none\n"));
    }

    #[test]
    fn an_unchanged_deployment_is_told_in_a_line() {
        let mut receipt = made_up::receipt();
        receipt.outcome = Outcome::Unchanged;
        receipt.releases.clear();
        golden("receipt-unchanged.txt", &text(&receipt, Paint::NONE));
    }
}
