//! Readiness checks against one replica, and what it speaks on its ports: an HTTP answer, or a TCP connection.
//!
//! ```text
//! a port of which nothing is written or known:  connect ─ wait for its first words ─ HEAD / ─▶ HTTP, or something else
//! ```

use crate::reach::Ways;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;
use teal_model::config::{Probe, Protocol as Transport, Service};
use teal_model::door::{self, Door};
use teal_model::fault::{Code, Fault};
use teal_model::wire::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// More of an answer's head than any status line needs.
const HEAD: usize = 1024;
/// A server that speaks first (SMTP, MySQL, SSH) does so within this.
const FIRST_WORD: Duration = Duration::from_millis(50);
/// Once a port has answered something else than HTTP this often in a row, it is believed; and silence, this often.
const BELIEVED: u32 = 2;
const SILENCES: u32 = 3;
/// Docker, which has taken a connection for a container where nobody listens, closes it within this.
const CLOSED_WITHIN: Duration = Duration::from_millis(200);
/// For the answer of a port that nobody waits for.
const IN_PASSING: Duration = Duration::from_secs(2);
/// A port on which nobody listens any more is none of its doors after this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

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
    ask: Ask,
}

#[derive(Debug, Clone, PartialEq)]
enum Ask {
    /// Connecting is enough.
    Connect,
    Http(Request),
    /// Whether it speaks HTTP.
    Speech,
}

#[derive(Debug, Clone, PartialEq)]
struct Request {
    method: &'static str,
    path: String,
    host: Option<String>,
    /// None: any answer that is HTTP. Some(None): 2xx and 3xx.
    status: Option<Option<u16>>,
}

impl Request {
    /// Any answer will do.
    fn any() -> Self {
        Self { method: "HEAD", path: "/".to_owned(), host: None, status: None }
    }

    fn text(&self, At { address, .. }: At) -> String {
        let host = self.host.clone().unwrap_or_else(|| address.to_string());
        format!(
            "{} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: teal-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.method, self.path
        )
    }
}

/// Where a port is asked.
#[derive(Debug, Clone, Copy)]
struct At {
    address: SocketAddr,
    /// Docker takes the connection, whether or not anybody listens behind it: one that is closed at once was nobody's.
    doubted: bool,
}

impl At {
    fn first_word(self) -> Duration {
        if self.doubted { CLOSED_WITHIN } else { FIRST_WORD }
    }
}

/// One replica that is being asked, and what it has shown so far.
pub struct Interview {
    service: Service,
    ways: Ways,
    /// What the release before it spoke: a port that spoke HTTP has to go on doing so.
    expected: Vec<Door>,
    doors: BTreeMap<u16, Protocol>,
    /// Answers in a row that were not HTTP, and silences, by port.
    doubts: BTreeMap<u16, (u32, u32)>,
    /// Since when nobody listens there any more.
    closed: BTreeMap<u16, Instant>,
}

impl Interview {
    pub fn new(service: Service, ways: Ways, expected: Vec<Door>, known: &[Door]) -> Self {
        let doors = known.iter().map(|door| (door.port, door.protocol)).collect();
        Self { service, ways, expected, doors, doubts: BTreeMap::new(), closed: BTreeMap::new() }
    }

    /// What it speaks, as far as that is known.
    pub fn doors(&self) -> Vec<Door> {
        self.doors.iter().map(|(port, protocol)| Door { port: *port, protocol: *protocol }).collect()
    }

    /// One round: every check of the service, in order, until one does not pass. `listening`: the ports on which it was seen
    /// to listen, where that can be seen.
    pub async fn round(&mut self, listening: Option<BTreeSet<u16>>) -> Answer {
        let within = Duration::from_millis(self.service.teal.health.timeout_ms);
        for check in self.checks() {
            let at = match self.at(check.port, listening.as_ref()) {
                Ok(at) => at,
                Err(answer) => return answer,
            };
            let answer = match &check.ask {
                Ask::Speech => self.learn(check.port, at, within).await,
                Ask::Connect => within_time(at, within, connect(at)).await,
                Ask::Http(request) => within_time(at, within, once(at, request)).await,
            };
            if answer != Answer::Passed {
                return answer;
            }
            match check.ask {
                Ask::Connect => drop(self.doors.entry(check.port).or_insert(Protocol::Tcp)),
                Ask::Http(_) => drop(self.doors.insert(check.port, Protocol::Http)),
                Ask::Speech => {}
            }
        }
        Answer::Passed
    }

    pub fn can_reach(&self, port: u16) -> bool {
        self.ways.to(port).is_some()
    }

    fn at(&self, port: u16, listening: Option<&BTreeSet<u16>>) -> Result<At, Answer> {
        let nowhere = || Answer::NotYet(format!("its port {port} is not published on this host"));
        let address = self.ways.to(port).ok_or_else(nowhere)?;
        let relayed = self.ways.is_relayed(port);
        match listening {
            Some(seen) if relayed && !seen.contains(&port) => {
                Err(Answer::Closed(format!("nobody listens on port {port} in it")))
            }
            _ => Ok(At { address, doubted: relayed && listening.is_none() }),
        }
    }

    /// Everything that the replica must answer to.
    fn checks(&self) -> Vec<Check> {
        let service = &self.service;
        let first = door::first_port(service);
        let mut checks = Vec::new();
        match &service.teal.health.probe {
            Probe::Http { path, port, status, host } => {
                let request = Request { method: "GET", path: path.clone(), host: host.clone(), status: Some(*status) };
                checks.extend(port.or(first).map(|port| Check { port, ask: Ask::Http(request) }));
            }
            Probe::Tcp { port } => checks.extend(port.or(first).map(|port| Check { port, ask: Ask::Connect })),
            Probe::Default => {}
            Probe::None => return checks,
        }
        // What the proxy will speak to it, whatever the health check is.
        checks.extend(door::client_ports(service).into_iter().map(|port| Check {
            port,
            ask: match self.known(port) {
                Some(Protocol::Http) => Ask::Http(Request::any()),
                Some(Protocol::Tcp) => Ask::Connect,
                None => Ask::Speech,
            },
        }));
        checks
    }

    fn known(&self, port: u16) -> Option<Protocol> {
        door::written(&self.service, port)
            .or_else(|| self.doors.get(&port).copied())
            .or_else(|| door::spoken(&self.expected, port))
    }

    /// Asks a port what it speaks; Passed once that is known.
    async fn learn(&mut self, port: u16, at: At, within: Duration) -> Answer {
        let (others, silences) = self.doubts.entry(port).or_default();
        let words = match timeout(within, speech(at)).await {
            Ok(Speech::Http) => {
                self.doors.insert(port, Protocol::Http);
                return Answer::Passed;
            }
            Ok(Speech::Closed(why)) => {
                (*others, *silences) = (0, 0);
                return Answer::Closed(why);
            }
            Ok(Speech::Other(what)) => {
                *others += 1;
                what
            }
            Err(_) => {
                *silences += 1;
                format!("{} took the connection and said nothing for {} ms", at.address, within.as_millis())
            }
        };
        if *others >= BELIEVED || *silences >= SILENCES {
            self.doors.insert(port, Protocol::Tcp);
            return Answer::Passed;
        }
        Answer::NotYet(words)
    }

    /// Takes down the ports that it listens on (published ones besides), with what is spoken there; forgets those that are
    /// closed now. None: which they are cannot be seen, so those that the file names are meant.
    pub async fn meet(&mut self, listening: Option<BTreeSet<u16>>) {
        let published = door::client_ports(&self.service);
        let named = || self.service.expose.iter().filter(|one| one.protocol == Transport::Tcp).map(|one| one.port);
        let ports: BTreeSet<u16> = match &listening {
            Some(seen) => {
                self.forget_closed(seen, &published);
                seen.clone()
            }
            None => named().chain(published.iter().copied()).collect(),
        };
        for port in ports {
            if self.doors.contains_key(&port) {
                continue;
            }
            // One that this host does not reach is no door.
            let Ok(at) = self.at(port, listening.as_ref()) else { continue };
            let protocol = match self.known(port) {
                Some(known) => known,
                None => self.ask_in_passing(port, at, published.contains(&port)).await,
            };
            self.doors.insert(port, protocol);
        }
    }

    /// A port that was closed may be opened again by an app that starts its server anew.
    fn forget_closed(&mut self, seen: &BTreeSet<u16>, published: &BTreeSet<u16>) {
        let now = Instant::now();
        self.closed.retain(|port, _| !seen.contains(port));
        self.doors.retain(|port, _| {
            let open = seen.contains(port) || published.contains(port);
            open || now.duration_since(*self.closed.entry(*port).or_insert(now)) < FORGOTTEN_AFTER
        });
    }

    async fn ask_in_passing(&mut self, port: u16, at: At, published: bool) -> Protocol {
        for _ in 0..BELIEVED {
            match self.learn(port, at, IN_PASSING).await {
                Answer::Passed => return self.doors.get(&port).copied().unwrap_or(Protocol::Tcp),
                // Nobody listens there: `health: none` leaves what is published to the file, and that means requests.
                Answer::Closed(_) if published => return Protocol::Http,
                Answer::Closed(_) => return Protocol::Tcp,
                _ => {}
            }
        }
        Protocol::Tcp
    }
}

async fn within_time(at: At, within: Duration, asked: impl Future<Output = Answer>) -> Answer {
    timeout(within, asked)
        .await
        .unwrap_or_else(|_| Answer::NotYet(format!("{} said nothing for {} ms", at.address, within.as_millis())))
}

async fn connect(at: At) -> Answer {
    let mut stream = match TcpStream::connect(at.address).await {
        Ok(stream) => stream,
        Err(error) => return Answer::Closed(format!("{}: {error}", at.address)),
    };
    let mut word = [0];
    match at.doubted {
        true => match timeout(CLOSED_WITHIN, stream.read(&mut word)).await {
            Ok(Ok(0) | Err(_)) => Answer::Closed(nobodys(at)),
            _ => Answer::Passed,
        },
        false => Answer::Passed,
    }
}

fn nobodys(at: At) -> String {
    format!("{} was closed at once: nobody listens behind it", at.address)
}

enum Speech {
    Http,
    /// Something else; in words.
    Other(String),
    Closed(String),
}

/// Listens first, then asks in the oldest HTTP there is: without a Host field, which some servers of other protocols take
/// for an attack.
async fn speech(at: At) -> Speech {
    let address = at.address;
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return Speech::Closed(format!("{address}: {error}")),
    };
    let mut head = Vec::new();
    match timeout(at.first_word(), stream.read_buf(&mut head)).await {
        Ok(Ok(0) | Err(_)) if at.doubted => return Speech::Closed(nobodys(at)),
        Ok(Ok(_)) => return Speech::Other(format!("{address} speaks first: {}", printable(&head))),
        _ => {}
    }
    if let Err(error) = stream.write_all(b"HEAD / HTTP/1.0\r\n\r\n").await {
        return Speech::Other(format!("{address}: {error}"));
    }
    loop {
        match status(&head) {
            Status::Is(_) => return Speech::Http,
            Status::NotHttp => return Speech::Other(format!("{address} answered: {}", printable(&head))),
            Status::Incomplete => {}
        }
        match stream.read_buf(&mut head).await {
            Ok(0) => return Speech::Other(format!("{address} closed the connection without an answer")),
            Ok(_) => {}
            Err(error) => return Speech::Other(format!("{address}: {error}")),
        }
    }
}

async fn once(at: At, request: &Request) -> Answer {
    let address = at.address;
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return Answer::Closed(format!("{address}: {error}")),
    };
    if let Err(error) = stream.write_all(request.text(at).as_bytes()).await {
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
            Ok(0) | Err(_) if head.is_empty() && at.doubted => return Answer::Closed(nobodys(at)),
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
    Answer::Never(
        Fault::new(Code::NotHttp, format!("{address} takes connections but does not speak HTTP"))
            .detail(vec![format!("it answered: {}", printable(head))]),
    )
}

fn printable(head: &[u8]) -> String {
    head.iter()
        .take(40)
        .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { *byte as char } else { '.' })
        .collect()
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use teal_model::config::{ExposedPort, Port};
    use tokio::net::TcpListener;

    #[test]
    fn a_status_line_is_told_from_anything_else() {
        assert!(matches!(status(b"HTTP/1.1 200 OK\r\n"), Status::Is(200)));
        assert!(matches!(status(b"HTTP/1.0 50"), Status::Incomplete));
        assert!(matches!(status(b"HT"), Status::Incomplete));
        assert!(matches!(status(b"SSH-2.0-OpenSSH"), Status::NotHttp));
        assert!(matches!(status(b"HTTP/1.1 abc"), Status::NotHttp));
    }

    /// Greets, reads, answers, closes.
    async fn server(greeting: &'static str, answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = Arc::new(listener);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = served.accept().await.unwrap();
                tokio::spawn(async move {
                    stream.write_all(greeting.as_bytes()).await.unwrap();
                    let mut asked = [0; 256];
                    let _ = stream.read(&mut asked).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        port
    }

    fn interview(published: &[u16], exposed: &[u16], expected: &[Door]) -> Interview {
        let ports = published.iter().map(|port| Port { published: *port, target: *port, ..Port::default() }).collect();
        let expose = exposed.iter().map(|port| ExposedPort { port: *port, ..ExposedPort::default() }).collect();
        let service = Service { ports, expose, ..Service::default() };
        Interview::new(service, Ways::at("127.0.0.1".parse().unwrap()), expected.to_vec(), &[])
    }

    #[tokio::test]
    async fn a_published_port_that_speaks_something_else_is_found_to() {
        let http = server("", "HTTP/1.0 200 OK\r\n\r\n").await;
        let greets = server("220 mail ready\r\n", "").await;
        let hangs_up = server("", "").await;
        let mut asked = interview(&[http, greets, hangs_up], &[], &[]);
        let mut rounds = 0;
        while asked.round(None).await != Answer::Passed {
            rounds += 1;
            assert!(rounds < 10);
        }
        let spoken: Vec<_> = [http, greets, hangs_up].iter().map(|port| door::spoken(&asked.doors(), *port)).collect();
        assert_eq!(spoken, [Some(Protocol::Http), Some(Protocol::Tcp), Some(Protocol::Tcp)]);
        assert!(rounds >= 2, "one odd answer is not believed");
    }

    #[tokio::test]
    async fn a_port_that_spoke_http_before_has_to_go_on_doing_so() {
        let port = server("", "-ERR unknown command\r\n").await;
        let mut asked = interview(&[port], &[], &[Door { port, protocol: Protocol::Http }]);
        assert!(matches!(asked.round(None).await, Answer::Never(fault) if fault.code == Code::NotHttp));
        let mut asked = interview(&[port], &[], &[Door { port, protocol: Protocol::Tcp }]);
        assert_eq!(asked.round(None).await, Answer::Passed);
    }

    #[tokio::test]
    async fn what_it_listens_on_is_met_and_what_it_closed_is_forgotten() {
        let http = server("", "HTTP/1.1 404 Not Found\r\n\r\n").await;
        let other = server("", "-ERR\r\n").await;
        let mut asked = interview(&[], &[other], &[]);
        asked.meet(Some(BTreeSet::from([http, other]))).await;
        assert_eq!(door::spoken(&asked.doors(), http), Some(Protocol::Http));
        assert_eq!(door::spoken(&asked.doors(), other), Some(Protocol::Tcp));
        asked.meet(Some(BTreeSet::from([http]))).await;
        assert_eq!(asked.doors().len(), 2, "it may be opened again");
        tokio::time::pause();
        tokio::time::advance(FORGOTTEN_AFTER).await;
        asked.meet(Some(BTreeSet::from([http]))).await;
        assert_eq!(asked.doors().len(), 1);
        tokio::time::resume();
        let mut unseen = interview(&[], &[other], &[]);
        unseen.meet(None).await;
        assert_eq!(unseen.doors(), [Door { port: other, protocol: Protocol::Tcp }]);
    }

    /// As Docker does it: takes every connection, and closes it where nobody is behind.
    async fn relay(to: Option<u16>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let Some(to) = to else { continue };
                tokio::spawn(async move {
                    let mut behind = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut behind).await;
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn a_connection_that_docker_takes_for_nobody_is_none() {
        let quiet = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let quiet_port = quiet.local_addr().unwrap().port();
        let http = server("", "HTTP/1.0 200 OK\r\n\r\n").await;
        let at = |address| At { address, doubted: true };
        let (nobody, somebody, web) = (relay(None).await, relay(Some(quiet_port)).await, relay(Some(http)).await);
        assert!(matches!(connect(at(nobody)).await, Answer::Closed(_)));
        assert!(matches!(once(at(nobody), &Request::any()).await, Answer::Closed(_)));
        assert!(matches!(speech(at(nobody)).await, Speech::Closed(_)));
        assert_eq!(connect(at(somebody)).await, Answer::Passed);
        assert_eq!(once(at(web), &Request::any()).await, Answer::Passed);
        assert!(matches!(speech(at(web)).await, Speech::Http));
    }

    #[tokio::test]
    async fn what_is_seen_to_listen_is_believed_more_than_what_takes_the_connection() {
        let http = server("", "HTTP/1.1 200 OK\r\n\r\n").await;
        let address = relay(Some(http)).await;
        let ports = vec![Port { published: 80, target: 8080, ..Port::default() }];
        let service = Service { ports, ..Service::default() };
        let mut asked = Interview::new(service, Ways::relayed([(8080, address)]), Vec::new(), &[]);
        assert!(matches!(asked.round(Some(BTreeSet::new())).await, Answer::Closed(why) if why.contains("port 8080")));
        assert_eq!(asked.round(Some(BTreeSet::from([8080]))).await, Answer::Passed);
        asked.meet(Some(BTreeSet::from([8080, 9000]))).await;
        assert_eq!(asked.doors(), [Door { port: 8080, protocol: Protocol::Http }], "nothing leads to 9000");
    }
}
