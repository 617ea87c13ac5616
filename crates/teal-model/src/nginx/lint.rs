//! What of a team's configuration would spoil a deployment through nginx, or the counting of its requests.

use super::{Configuration, Node, Pass, Protocol, Target, View};

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    pub upstream: &'a str,
    /// The log of the requests that are counted.
    pub log: &'a str,
    pub drain_ms: u64,
    pub keepalive: bool,
}

/// What was found, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lint {
    pub remarks: Vec<String>,
    /// Requests pass that no line of the log tells of: why their number is not known.
    pub uncounted: Option<String>,
}

/// Some request goes to the upstream of this name.
pub fn names_upstream(configuration: &Configuration, name: &str) -> bool {
    let view = View::of(configuration);
    view.passes.iter().any(|pass| leads_to(pass, &view, name))
}

fn leads_to(pass: &Pass<'_>, view: &View<'_>, name: &str) -> bool {
    match &pass.target {
        Target::Upstream(at) => view.upstreams[*at].name == name && view.upstreams[*at].protocol == Protocol::Http,
        // Before Teal has written it, nginx has no such upstream, and takes the name for a host's.
        Target::Address(address) => address.to_string() == format!("{}:80", name.to_ascii_lowercase()),
        Target::Variable | Target::Unreadable => false,
    }
}

pub fn lint(configuration: &Configuration, wanted: &Wanted<'_>) -> Lint {
    let view = View::of(configuration);
    let mut found = Lint::default();
    let passes: Vec<&Pass<'_>> = view.passes.iter().filter(|pass| leads_to(pass, &view, wanted.upstream)).collect();
    if passes.is_empty() {
        found.remarks.push(match view.passes.iter().find(|pass| pass.target == Target::Variable) {
            None => format!(
                "nothing in nginx's configuration leads to the upstream {0}: no request comes here before a `proxy_pass http://{0};` does",
                wanted.upstream
            ),
            Some(pass) => format!(
                "nothing in nginx's configuration names the upstream {}; {} may, which is known for each request alone",
                wanted.upstream,
                pass.node.place()
            ),
        });
    }
    for pass in passes {
        look_at(pass, wanted, &mut found);
    }
    // nginx writes the log that it was built with only where no other is named, and Teal's names one.
    if view.access_logs.iter().all(|node| node.value() == wanted.log) {
        let why =
            "nginx's `http` names no `access_log`, and with Teal's its default one is not written any more; name it";
        found.remarks.push(format!("{why}: `access_log /var/log/nginx/access.log;`"));
    }
    let drain = wanted.drain_ms / 1000;
    match view.worker_shutdown_timeout {
        None => found.remarks.push(format!(
            "nginx has no `worker_shutdown_timeout`: after a reload an old worker stays for as long as one of its clients does; \
             `worker_shutdown_timeout {}s;` beside `worker_processes` ends it",
            (drain + 5).max(10)
        )),
        Some(node) => {
            if let Some(ms) = time_ms(node.value())
                && ms < wanted.drain_ms
            {
                found.remarks.push(format!(
                    "{}: nginx cuts what an old worker still has after {}, before the drain time of {drain} s is over",
                    node.place(),
                    node.value()
                ));
            }
        }
    }
    found
}

fn look_at(pass: &Pass<'_>, wanted: &Wanted<'_>, found: &mut Lint) {
    let logs = pass.in_force("access_log");
    let ours = logs.iter().any(|node| node.value() == wanted.log);
    let off = logs.iter().find(|node| node.value() == "off");
    let outside = logs
        .iter()
        .all(|node| pass.within.first().is_some_and(|http| http.children_named("access_log").contains(node)));
    if let Some(log) = off.or(logs.first())
        && (off.is_some() || !ours && !outside)
    {
        let instead = match off {
            Some(_) => "in its place",
            None => "beside it",
        };
        let why = format!(
            "{}: this `access_log` keeps requests from being counted; write `access_log {} teal if=$teal_release;` {instead}",
            log.place(),
            wanted.log
        );
        found.uncounted.get_or_insert_with(|| why.clone());
        if !found.remarks.contains(&why) {
            found.remarks.push(why);
        }
    }
    let is = |nodes: Vec<Node<'_>>, words: &[&str]| {
        nodes
            .iter()
            .any(|node| node.args().map(str::to_ascii_lowercase).eq(words.iter().map(|word| (*word).to_owned())))
    };
    let connection = is(pass.in_force("proxy_set_header"), &["connection", ""]);
    // A tunnel needs the header as the client sent it, by a map.
    let mapped = pass.in_force("proxy_set_header").iter().any(|node| {
        let mut words = node.args();
        words.next().is_some_and(|name| name.eq_ignore_ascii_case("connection"))
            && words.next().is_some_and(|value| value.starts_with('$'))
    });
    if wanted.keepalive && !(is(pass.in_force("proxy_http_version"), &["1.1"]) && (connection || mapped)) {
        found.remarks.push(format!(
            "{}: each request takes a connection of its own; `proxy_http_version 1.1;` and `proxy_set_header Connection \"\";` keep them",
            pass.node.place()
        ));
    }
}

/// nginx's own way: a number of seconds, or with `ms`, `s`, `m`, `h`.
fn time_ms(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WANTED: Wanted<'_> = Wanted { upstream: "app", log: "/var/log/teal.log", drain_ms: 30_000, keepalive: true };
    const PASS: &str = "proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\";";

    fn found(main: &str, http: &str, location: &str) -> Lint {
        let text = format!(
            "{main}\nhttp {{ {http}\nupstream app {{ server 127.0.0.1:1; }}\nserver {{ location / {{ {location} }} }}\n}}"
        );
        lint(&Configuration::of_files(&[("nginx.conf", &text)]).unwrap(), &WANTED)
    }

    #[test]
    fn a_configuration_as_it_should_be_has_no_remarks() {
        let ours = "access_log /a; access_log /var/log/teal.log teal if=$teal_release;";
        assert_eq!(found("worker_shutdown_timeout 35s;", ours, PASS), Lint::default());
        let own = format!("access_log /b; access_log /var/log/teal.log teal; {PASS}");
        assert_eq!(found("worker_shutdown_timeout 1m;", "access_log /a;", &own), Lint::default());
        let tunnel = PASS.replace("\"\"", "$connection_upgrade");
        assert_eq!(found("worker_shutdown_timeout 1m;", "access_log /a;", &tunnel), Lint::default());
        let lone = found("worker_shutdown_timeout 1m;", "access_log /var/log/teal.log teal;", PASS).remarks;
        assert!(lone.len() == 1 && lone[0].contains("its default one is not written"), "{lone:?}");
    }

    #[test]
    fn a_log_that_takes_requests_away_is_told_with_its_line() {
        let main = "worker_shutdown_timeout 1m;";
        let ours = "access_log /a; access_log /var/log/teal.log teal if=$teal_release;";
        for (http, location, place) in [
            (ours, format!("access_log /b; {PASS}"), "nginx.conf:4"),
            (ours, format!("access_log off; {PASS}"), "nginx.conf:4"),
            ("access_log off; access_log /var/log/teal.log teal;", PASS.to_owned(), "nginx.conf:2"),
        ] {
            let lint = found(main, http, &location);
            let why = lint.uncounted.unwrap();
            assert!(why.starts_with(place) && why.contains("if=$teal_release;"), "{why}");
            assert_eq!(lint.remarks, [why]);
        }
    }

    #[test]
    fn what_would_spoil_a_reload_is_told() {
        let remarks = |main: &str, location: &str| found(main, "", location).remarks.join("\n");
        assert!(remarks("", PASS).contains("has no `worker_shutdown_timeout`"));
        assert!(remarks("worker_shutdown_timeout 5s;", PASS).contains("nginx.conf:1: nginx cuts what an old worker"));
        assert!(remarks("worker_shutdown_timeout 1m;", "proxy_pass http://app;").contains("a connection of its own"));
        assert!(
            remarks("worker_shutdown_timeout 1m;", "proxy_pass http://other;").contains("leads to the upstream app")
        );
        assert!(remarks("worker_shutdown_timeout 1m;", "proxy_pass http://$name;").contains("for each request alone"));
        assert_eq!(
            [time_ms("5"), time_ms("5s"), time_ms("2m"), time_ms("x")],
            [Some(5_000), Some(5_000), Some(120_000), None]
        );
    }
}
