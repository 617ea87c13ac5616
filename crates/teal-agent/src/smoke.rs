//! Smoke tests: the candidate is asked before any of its users, through the proxy's own listener where that leads to it as it will.

use crate::get::Get;
use crate::host_command::{self, Ended, Surroundings};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use teal_model::config::{Smoke, SmokeCheck};
use teal_model::fault::{Code, Fault};
use teal_model::ids::ReleaseKey;
use tokio::time::{Instant, timeout_at};

/// The request field that asks for the candidate, `candidate TOKEN`.
pub const FIELD: &str = "teal-preview";
/// Of an answer that was not wanted, for people.
const BODY: usize = 4096;
const LINES: usize = 20;

/// A candidate, and how its preview is reached.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub release: ReleaseKey,
    /// The proxy's listener, or a replica; for one on every address, loopback is asked.
    pub at: SocketAddr,
    /// What `Host` says, where a check does not say it.
    pub host: String,
    /// Of its preview; None: it is asked itself.
    pub token: Option<String>,
}

impl Candidate {
    fn at(&self) -> SocketAddr {
        let ip = match self.at.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.at.port())
    }

    fn preview(&self) -> String {
        self.token.as_ref().map_or_else(|| "candidate".to_owned(), |token| format!("candidate {token}"))
    }

    fn surroundings(&self, directory: &Path) -> Surroundings {
        let ReleaseKey { service, number } = &self.release;
        let variables = [
            ("TEAL_URL", format!("http://{}", self.at())),
            ("TEAL_HOST", self.host.clone()),
            ("TEAL_PREVIEW", self.preview()),
            ("TEAL_PROJECT", service.project.clone()),
            ("TEAL_SERVICE", service.service.clone()),
            ("TEAL_RELEASE", number.to_string()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        Surroundings { directory: directory.to_owned(), variables: BTreeMap::from(variables) }
    }
}

/// Why a check did not pass.
struct Failure {
    why: String,
    detail: Vec<String>,
    hint: Option<&'static str>,
}

/// Every check in turn, until one fails; what each said, in words. Commands run in `directory`.
///
/// # Errors
/// A check failed, or the time for all of them is over.
pub async fn run(smoke: &Smoke, candidate: &Candidate, directory: &Path) -> Result<Vec<String>, Fault> {
    let until = Instant::now() + Duration::from_millis(smoke.timeout_ms);
    let mut words = Vec::new();
    for check in &smoke.checks {
        let began = Instant::now();
        let passed = match check {
            SmokeCheck::Http { path, status, host } => ask(candidate, path, *status, host.as_deref(), until).await,
            SmokeCheck::Command { command } => call(candidate, command, directory, until).await,
        };
        match passed {
            Ok(said) => words.push(format!("{said}, {} ms", began.elapsed().as_millis())),
            Err(Failure { why, detail, hint }) => {
                let what = format!("the smoke test of {} failed: {why}", candidate.release);
                let fault = Fault::new(Code::SmokeFailed, what).detail(detail);
                return Err(hint.map_or(fault.clone(), |hint| fault.hint(hint)));
            }
        }
    }
    Ok(words)
}

const LATE: &str = "raise `x-teal.smoke.timeout` if it only needs more time; the live release serves as before";

async fn ask(
    candidate: &Candidate,
    path: &str,
    status: Option<u16>,
    host: Option<&str>,
    until: Instant,
) -> Result<String, Failure> {
    let host = host.unwrap_or(&candidate.host);
    let fields = candidate.token.iter().map(|_| (FIELD, candidate.preview())).collect();
    let get = Get { path: path.to_owned(), host: host.to_owned(), fields, keep: BODY };
    let asked = format!("GET {path} at {} (Host: {host})", candidate.at());
    let failed = |why: String, hint| Failure { why, detail: Vec::new(), hint };
    let answer = timeout_at(until, get.from(candidate.at()))
        .await
        .map_err(|_| failed(format!("{asked} was not answered in time"), Some(LATE)))?
        .map_err(|why| failed(format!("{asked}: {why}"), None))?;
    let said = format!("{asked} answered {}", answer.status);
    match status {
        Some(wanted) if answer.status == wanted => Ok(said),
        None if answer.is_good() => Ok(said),
        wanted => {
            let wanted = wanted.map_or("2xx or 3xx".to_owned(), |wanted| wanted.to_string());
            let body = String::from_utf8_lossy(&answer.body);
            let detail = body.lines().take(LINES).map(str::to_owned).collect();
            Err(Failure { why: format!("{said}, not {wanted}"), detail, hint: None })
        }
    }
}

async fn call(candidate: &Candidate, command: &[String], directory: &Path, until: Instant) -> Result<String, Failure> {
    let within = until.saturating_duration_since(Instant::now());
    let surroundings = candidate.surroundings(directory);
    let ran = host_command::run(command, &surroundings, within).await;
    let hint = "correct `x-teal.smoke`; the live release serves as before";
    let ran = ran.map_err(|why| Failure { why, detail: Vec::new(), hint: Some(hint) })?;
    let (how, hint) = match ran.ended {
        Ended::Exited(0) => return Ok(format!("`{}` exited with code 0", command.join(" "))),
        Ended::Exited(code) => (format!("exited with code {code}"), None),
        Ended::Signalled(signal) => (format!("was killed by signal {signal}"), None),
        Ended::TimedOut => ("had not ended in time, and was killed".to_owned(), Some(LATE)),
    };
    Err(Failure { why: format!("`{}` {how}", command.join(" ")), detail: ran.last_lines, hint })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::get::tests::{answer, server};
    use std::os::unix::fs::PermissionsExt;
    use teal_model::ids::ServiceKey;
    use tokio::net::TcpListener;

    fn smoke(checks: &[SmokeCheck]) -> Smoke {
        Smoke { checks: checks.to_vec(), timeout_ms: 5_000 }
    }

    fn http(path: &str, status: Option<u16>, host: Option<&str>) -> SmokeCheck {
        SmokeCheck::Http { path: path.to_owned(), status, host: host.map(str::to_owned) }
    }

    fn command(words: &[&str]) -> SmokeCheck {
        SmokeCheck::Command { command: words.iter().map(|word| (*word).to_owned()).collect() }
    }

    fn candidate(at: SocketAddr) -> Candidate {
        let release = ReleaseKey::new(ServiceKey::new("shop", "web"), 3);
        Candidate { release, at, host: "shop.example".to_owned(), token: Some("s3cret".to_owned()) }
    }

    /// A proxy that knows the candidate's preview.
    async fn previewed() -> SocketAddr {
        server(|head| {
            let asked = head.contains("teal-preview: candidate s3cret\r\n");
            match (asked, head.contains("host: shop.example\r\n"), head.starts_with("GET /broken ")) {
                (true, true, false) => answer("200 OK", ""),
                (true, false, _) => answer("204 No Content", ""),
                (true, true, true) => answer("500 Oops", "no such table\nreally"),
                (false, ..) => answer("403 Forbidden", ""),
            }
        })
        .await
    }

    #[tokio::test]
    async fn the_candidate_is_asked_by_its_preview() {
        let at = previewed().await;
        let checks = [http("/", None, None), http("/", Some(204), Some("other.example"))];
        let words = run(&smoke(&checks), &candidate(at), Path::new("/")).await.unwrap();
        assert!(words[0].starts_with(&format!("GET / at {at} (Host: shop.example) answered 200, ")), "{words:?}");
        assert_eq!(words.len(), 2);
        let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), at.port());
        assert_eq!(candidate(everywhere).at(), at);
    }

    #[tokio::test]
    async fn a_candidate_that_is_asked_itself_sees_no_token() {
        let itself = server(|head| {
            let ok = head.contains("host: shop.example\r\n") && !head.contains("teal-preview");
            answer(if ok { "200 OK" } else { "403 Forbidden" }, "")
        })
        .await;
        let candidate = Candidate { token: None, ..candidate(itself) };
        run(&smoke(&[http("/", Some(200), None)]), &candidate, Path::new("/")).await.unwrap();
        let says = command(&["sh", "-c", "[ \"$TEAL_PREVIEW\" = candidate ]"]);
        run(&smoke(&[says]), &candidate, Path::new("/")).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_is_not_wanted_is_shown() {
        let at = previewed().await;
        let fault = run(&smoke(&[http("/broken", None, None)]), &candidate(at), Path::new("/")).await.unwrap_err();
        assert_eq!(
            (fault.code, fault.detail.as_slice()),
            (Code::SmokeFailed, ["no such table", "really"].map(str::to_owned).as_slice())
        );
        assert_eq!(
            fault.to_string(),
            format!(
                "the smoke test of shop/web@3 failed: GET /broken at {at} (Host: shop.example) answered 500, not 2xx or 3xx"
            )
        );
        assert_eq!(fault.hint, Code::SmokeFailed.hint());
        let fault = run(&smoke(&[http("/", Some(201), None)]), &candidate(at), Path::new("/")).await.unwrap_err();
        assert!(fault.to_string().ends_with("answered 200, not 201"), "{fault}");
    }

    #[tokio::test]
    async fn nobody_is_waited_for_longer_than_all_checks_may_take() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = silent.local_addr().unwrap();
        for check in [http("/", None, None), command(&["sleep", "60"])] {
            let smoke = Smoke { timeout_ms: 200, ..smoke(&[check]) };
            let fault = run(&smoke, &candidate(at), Path::new("/")).await.unwrap_err();
            assert!(fault.to_string().contains("in time") && fault.hint.contains("x-teal.smoke.timeout"), "{fault}");
        }
    }

    #[tokio::test]
    async fn a_command_is_told_where_the_candidate_is() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("smoke.sh");
        let asks = "#!/bin/sh\nset -e\n[ \"$1 $TEAL_PROJECT/$TEAL_SERVICE@$TEAL_RELEASE\" = \"now shop/web@3\" ]\necho $TEAL_URL $TEAL_HOST $TEAL_PREVIEW > told\n";
        std::fs::write(&script, asks).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let at: SocketAddr = "0.0.0.0:8080".parse().unwrap();
        let words = run(&smoke(&[command(&["./smoke.sh", "now"])]), &candidate(at), dir.path()).await.unwrap();
        assert!(words[0].starts_with("`./smoke.sh now` exited with code 0, "), "{words:?}");
        let told = std::fs::read_to_string(dir.path().join("told")).unwrap();
        assert_eq!(told, "http://127.0.0.1:8080 shop.example candidate s3cret\n");
    }

    #[tokio::test]
    async fn a_command_that_fails_or_cannot_be_run_is_a_failed_test() {
        let at: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let fails = smoke(&[command(&["sh", "-c", "echo no orders >&2; exit 4"])]);
        let fault = run(&fails, &candidate(at), Path::new("/")).await.unwrap_err();
        assert!(fault.to_string().ends_with("exit 4` exited with code 4"), "{fault}");
        assert_eq!(fault.detail, ["no orders"]);
        let missing = run(&smoke(&[command(&["./missing.sh"])]), &candidate(at), Path::new("/")).await.unwrap_err();
        assert!(missing.to_string().ends_with("`./missing.sh` cannot be run: there is no ./missing.sh"), "{missing}");
        assert!(missing.hint.starts_with("correct `x-teal.smoke`"));
    }
}
