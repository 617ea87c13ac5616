//! Names of services: `/etc/hosts`, then one A query to the nameserver of `/etc/resolv.conf` (RFC 1035), which in a
//! container is Docker's at 127.0.0.11. glibc's resolver cannot be linked into a static binary.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

const DOCKERS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// As glibc has them (resolv.conf(5)): a lost datagram is nobody's failure.
const TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 2;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
const HEADER_BYTES: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFound {
    /// The nameserver knows of no such name, or of none with an IPv4 address.
    NoSuchName,
    /// It answered with this code instead (RFC 1035 section 4.1.1).
    Refused(u8),
    NoAnswer,
    Malformed,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("no such name"),
            Self::Refused(code) => write!(f, "the nameserver answered with code {code}"),
            Self::NoAnswer => f.write_str("the nameserver does not answer"),
            Self::Malformed => f.write_str("the nameserver's answer makes no sense"),
        }
    }
}

impl std::error::Error for NotFound {}

/// The first address of `HOST:PORT`.
pub fn address(name: &str) -> io::Result<SocketAddr> {
    let (host, port) = name.rsplit_once(':').unwrap_or((name, ""));
    let port =
        port.parse().map_err(|_| io::Error::new(ErrorKind::InvalidInput, format!("{name}: HOST:PORT is wanted")))?;
    let host = lookup(host).map_err(|error| io::Error::new(ErrorKind::NotFound, error))?;
    Ok(SocketAddr::new(host[0].into(), port))
}

/// Every address of a name, in the order of the answer; never empty.
pub fn lookup(host: &str) -> Result<Vec<Ipv4Addr>, NotFound> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    if let Some(address) = in_hosts(&std::fs::read_to_string("/etc/hosts").unwrap_or_default(), host) {
        return Ok(vec![address]);
    }
    let server = nameserver(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    ask(SocketAddr::new(server, 53), host, TIMEOUT)
}

fn in_hosts(hosts: &str, host: &str) -> Option<Ipv4Addr> {
    hosts.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    })
}

fn nameserver(resolv_conf: &str) -> IpAddr {
    let servers = resolv_conf.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok());
    servers.into_iter().next().unwrap_or(DOCKERS.into())
}

fn ask(server: SocketAddr, host: &str, timeout: Duration) -> Result<Vec<Ipv4Addr>, NotFound> {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let unspecified = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let query = query(id, host).ok_or(NotFound::NoSuchName)?;
    for _ in 0..ATTEMPTS {
        let socket = UdpSocket::bind(unspecified).and_then(|socket| socket.connect(server).map(|()| socket));
        let Ok(socket) = socket else { continue };
        if socket.send(&query).is_err() {
            continue;
        }
        if let Some(answer) = receive(&socket, id, timeout) {
            return read(&answer);
        }
    }
    Err(NotFound::NoAnswer)
}

/// The answer to this query, and to no earlier one.
fn receive(socket: &UdpSocket, id: u16, timeout: Duration) -> Option<Vec<u8>> {
    let deadline = Instant::now() + timeout;
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        socket.set_read_timeout(Some(left)).ok()?;
        let length = socket.recv(&mut buffer).ok()?;
        if buffer[..length].starts_with(&id.to_be_bytes()) {
            return Some(buffer[..length].to_vec());
        }
    }
}

/// None: no name can be written so.
fn query(id: u16, host: &str) -> Option<Vec<u8>> {
    let mut query = id.to_be_bytes().to_vec();
    // A standard query, recursion desired; one question and nothing else.
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in host.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        query.push(length);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(TYPE_A.to_be_bytes());
    query.extend(CLASS_IN.to_be_bytes());
    Some(query)
}

fn read(answer: &[u8]) -> Result<Vec<Ipv4Addr>, NotFound> {
    let header = answer.get(..HEADER_BYTES).ok_or(NotFound::Malformed)?;
    match header[3] & 0x0f {
        0 => {}
        3 => return Err(NotFound::NoSuchName),
        code => return Err(NotFound::Refused(code)),
    }
    let addresses = records(answer).ok_or(NotFound::Malformed)?;
    if addresses.is_empty() { Err(NotFound::NoSuchName) } else { Ok(addresses) }
}

/// The addresses among the answers; None: it ends too early.
fn records(answer: &[u8]) -> Option<Vec<Ipv4Addr>> {
    let number = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    let (questions, answers) = (number(4)?, number(6)?);
    let mut at = HEADER_BYTES;
    for _ in 0..questions {
        at = after_name(answer, at)? + 4;
    }
    let mut addresses = Vec::new();
    for _ in 0..answers {
        at = after_name(answer, at)?;
        let (kind, class, length) = (number(at)?, number(at + 2)?, number(at + 8)?);
        let data = answer.get(at + 10..at + 10 + usize::from(length))?;
        at += 10 + data.len();
        if let (TYPE_A, CLASS_IN, [a, b, c, d]) = (kind, class, data) {
            addresses.push(Ipv4Addr::new(*a, *b, *c, *d));
        }
    }
    Some(addresses)
}

/// Labels, up to an empty one or a pointer to the rest (RFC 1035 section 4.1.4).
fn after_name(answer: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *answer.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A nameserver that gives these answers, one a query, behind the query's own id and question.
    fn server(answers: Vec<Option<Vec<u8>>>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let mut buffer = [0; 512];
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                let Some(answer) = answer else { continue };
                let mut message = buffer[..2].to_vec();
                message.extend(&answer[..10]);
                message.extend(&buffer[HEADER_BYTES..length]);
                message.extend(&answer[10..]);
                // A stranger's answer comes first.
                socket.send_to(&[0xff; 40], from).unwrap();
                socket.send_to(&message, from).unwrap();
            }
        });
        at
    }

    fn answer(code: u8, records: &[&[u8]]) -> Option<Vec<u8>> {
        let mut message = vec![0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
        for record in records {
            message.extend(*record);
        }
        Some(message)
    }

    const POINTER_A: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4, 172, 18, 0, 5];
    const POINTER_CNAME: &[u8] = &[0xc0, 12, 0, 5, 0, 1, 0, 0, 2, 88, 0, 2, 0xc0, 12];

    const SOON: Duration = Duration::from_millis(200);

    #[test]
    fn a_name_has_the_addresses_that_the_nameserver_says() {
        let at = server(vec![answer(0, &[POINTER_CNAME, POINTER_A, POINTER_A])]);
        assert_eq!(ask(at, "app", SOON), Ok(vec![Ipv4Addr::new(172, 18, 0, 5); 2]));
    }

    #[test]
    fn a_name_that_is_not_there_is_told_from_a_nameserver_that_is_not() {
        let at = server(vec![answer(3, &[]), answer(2, &[]), answer(0, &[]), Some(vec![0; 10])]);
        assert_eq!(ask(at, "app", SOON), Err(NotFound::NoSuchName));
        assert_eq!(ask(at, "app", SOON), Err(NotFound::Refused(2)));
        assert_eq!(ask(at, "app", SOON), Err(NotFound::NoSuchName), "a name with other records only");
        assert_eq!(ask(server(vec![None, None]), "app", SOON), Err(NotFound::NoAnswer));
        assert_eq!(ask(at, "an..empty.label", SOON), Err(NotFound::NoSuchName));
    }

    #[test]
    fn one_lost_datagram_is_asked_for_again() {
        let at = server(vec![None, answer(0, &[POINTER_A])]);
        assert_eq!(ask(at, "app", SOON), Ok(vec![Ipv4Addr::new(172, 18, 0, 5)]));
    }

    #[test]
    fn a_cut_answer_is_no_answer() {
        let whole = [&[0, 1][..], &answer(0, &[]).unwrap()[..], b"\x03app\x00\0\x01\0\x01", POINTER_A].concat();
        let mut whole = whole;
        whole[7] = 1;
        assert_eq!(read(&whole).unwrap().len(), 1);
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), Err(NotFound::Malformed), "{length} bytes");
        }
    }

    #[test]
    fn numbers_and_the_files_of_the_container_go_first() {
        assert_eq!(lookup("10.1.2.3"), Ok(vec![Ipv4Addr::new(10, 1, 2, 3)]));
        let hosts = "127.0.0.1 localhost\n::1 six\n172.18.0.9 db.shop Db # the database\n";
        assert_eq!(in_hosts(hosts, "db"), Some(Ipv4Addr::new(172, 18, 0, 9)));
        assert_eq!((in_hosts(hosts, "six"), in_hosts(hosts, "the")), (None, None));
        assert_eq!(nameserver("search x\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n").to_string(), "10.0.0.2");
        assert_eq!(nameserver(""), IpAddr::from(DOCKERS));
        assert!(address("app").is_err());
    }
}
