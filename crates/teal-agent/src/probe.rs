//! Readiness checks against one replica: an HTTP answer, or a TCP connection.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use teal_model::config::{Probe, Service};
use teal_model::fault::{Code, Fault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// More of an answer's head than any status line needs.
const HEAD: usize = 1024;

/// What one round of probes said.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Passed,
    /// Nothing takes the connection yet; in words.
    Closed(String),
    /// It answers, and not well yet; in words.
    NotYet(String),
    /// It will never pass.
    Never(Fault),
}

/// One TCP or HTTP check.
#[derive(Debug, Clone, PartialEq)]
struct Check {
    port: u16,
    /// None: connecting is enough.
    request: Option<Request>,
}

#[derive(Debug, Clone, PartialEq)]
struct Request {
    method: &'static str,
    path: String,
    host: Option<String>,
    /// None: any answer that is HTTP. Some(None): 2xx and 3xx.
    status: Option<Option<u16>>,
}

/// Everything that a replica of this service must answer to.
fn checks(service: &Service) -> Vec<Check> {
    let first = service.ports.first().map(|port| port.target);
    let mut checks = Vec::new();
    match &service.teal.health.probe {
        Probe::Http { path, port, status, host } => {
            let request = Request { method: "GET", path: path.clone(), host: host.clone(), status: Some(*status) };
            checks.extend(port.or(first).map(|port| Check { port, request: Some(request) }));
        }
        Probe::Tcp { port } => checks.extend(port.or(first).map(|port| Check { port, request: None })),
        Probe::Default | Probe::None => {}
    }
    // The proxy will speak HTTP to every published port, whatever the health check is.
    let mut published: Vec<u16> = service.ports.iter().map(|port| port.target).collect();
    published.sort_unstable();
    published.dedup();
    if service.teal.health.probe != Probe::None {
        checks.extend(published.into_iter().map(|port| Check {
            port,
            request: Some(Request { method: "HEAD", path: "/".to_owned(), host: None, status: None }),
        }));
    }
    checks
}

/// One round: every check of the service, in order, until one does not pass.
pub async fn round(service: &Service, ip: IpAddr) -> Answer {
    let within = Duration::from_millis(service.teal.health.timeout_ms);
    for check in checks(service) {
        let address = SocketAddr::new(ip, check.port);
        let answer = match timeout(within, once(address, &check)).await {
            Ok(answer) => answer,
            Err(_) => Answer::NotYet(format!("{address} said nothing for {} ms", within.as_millis())),
        };
        if answer != Answer::Passed {
            return answer;
        }
    }
    Answer::Passed
}

async fn once(address: SocketAddr, check: &Check) -> Answer {
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return Answer::Closed(format!("{address}: {error}")),
    };
    let Some(request) = &check.request else { return Answer::Passed };
    let host = request.host.clone().unwrap_or_else(|| address.to_string());
    let text = format!(
        "{} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: teal-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        request.method, request.path
    );
    if let Err(error) = stream.write_all(text.as_bytes()).await {
        return Answer::NotYet(format!("{address}: {error}"));
    }
    let mut head = Vec::new();
    loop {
        match status(&head) {
            Status::Is(code) => return judge(address, request, code),
            Status::NotHttp => return not_http(address, &head),
            Status::Incomplete => {}
        }
        match stream.read_buf(&mut head).await {
            Ok(0) if head.is_empty() => {
                return Answer::NotYet(format!("{address} closed the connection without an answer"));
            }
            Ok(0) => return not_http(address, &head),
            Ok(_) => {}
            Err(error) => return Answer::NotYet(format!("{address}: {error}")),
        }
    }
}

fn judge(address: SocketAddr, request: &Request, code: u16) -> Answer {
    let wanted = match request.status {
        None => true,
        Some(None) => (200..400).contains(&code),
        Some(Some(status)) => code == status,
    };
    if wanted { Answer::Passed } else { Answer::NotYet(format!("http://{address}{} answered {code}", request.path)) }
}

fn not_http(address: SocketAddr, head: &[u8]) -> Answer {
    let start: String = head
        .iter()
        .take(40)
        .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { *byte as char } else { '.' })
        .collect();
    Answer::Never(
        Fault::new(Code::NotHttp, format!("{address} takes connections but does not speak HTTP"))
            .detail(vec![format!("it answered: {start}")]),
    )
}

enum Status {
    Incomplete,
    Is(u16),
    NotHttp,
}

/// The status of `HTTP/1.x NNN ...` (RFC 9112 section 4).
fn status(head: &[u8]) -> Status {
    const START: &[u8] = b"HTTP/1.";
    if head.len() < START.len() {
        return if START.starts_with(head) { Status::Incomplete } else { Status::NotHttp };
    }
    if !head.starts_with(START) || head.len() > HEAD {
        return Status::NotHttp;
    }
    match head.get(9..12) {
        None => Status::Incomplete,
        Some(digits) => {
            std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).map_or(Status::NotHttp, Status::Is)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_told_from_anything_else() {
        assert!(matches!(status(b"HTTP/1.1 200 OK\r\n"), Status::Is(200)));
        assert!(matches!(status(b"HTTP/1.0 50"), Status::Incomplete));
        assert!(matches!(status(b"HT"), Status::Incomplete));
        assert!(matches!(status(b"SSH-2.0-OpenSSH"), Status::NotHttp));
        assert!(matches!(status(b"HTTP/1.1 abc"), Status::NotHttp));
    }
}
