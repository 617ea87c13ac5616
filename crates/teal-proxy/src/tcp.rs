//! What the kernel knows of a connection and does for it: whether the other side ever took what was sent, whether it is
//! still there, how a close looks to it.

// One reason: TCP_INFO and SIOCOUTQ have no safe wrappers.
#![allow(unsafe_code)]

use rustix::net::sockopt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;
use tokio::net::TcpStream;

/// TCP_CLOSE of the kernel's `net/tcp_states.h`: a reset has arrived.
const CLOSED: u8 = 7;
/// The other side's kernel answers bytes for a closed socket with a reset, at once; this is patience for a slow one.
const TRIES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(1);
/// A silent connection is asked after this long whether its peer is still there, again and again, and then given up: a
/// machine or network that went without a word is noticed within two minutes.
const ASK_AFTER: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_secs(15);
const ASK_TIMES: u32 = 4;

/// A peer that is gone without a word is noticed. Linux hands this down from a listening socket to what is accepted.
pub(crate) fn keep_alive(socket: impl AsFd) -> io::Result<()> {
    sockopt::set_tcp_keepidle(&socket, ASK_AFTER)?;
    sockopt::set_tcp_keepintvl(&socket, ASK_AGAIN)?;
    sockopt::set_tcp_keepcnt(&socket, ASK_TIMES)?;
    Ok(sockopt::set_socket_keepalive(&socket, true)?)
}

/// The coming close is a reset to the peer, unless bytes are on their way to it, which a reset would destroy.
pub(crate) fn reset_when_closed(stream: &TcpStream) {
    if unacknowledged(stream) == 0 {
        // Else it is closed in the usual way.
        let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    }
}

/// Bytes that were written and that the peer's kernel has not confirmed.
fn unacknowledged(stream: &TcpStream) -> libc::c_int {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as `stream` is borrowed, and SIOCOUTQ (TIOCOUTQ) writes one int.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { bytes } else { libc::c_int::MAX }
}

/// Whether an application that closed its end certainly never saw the last `sent` bytes. Asked after its FIN was read
/// before any byte of an answer, and no write had failed (a failed write takes the error of a reset away, and then the end
/// of the stream no longer says that there was a FIN).
///
/// A kernel sends FIN for a socket that was closed with nothing unread (else a reset, RFC 2525 section 2.17), so a request
/// that the application had read was acknowledged with or before that FIN. What is not acknowledged came after it, and
/// the reset that follows says that nobody is there any more to read it.
pub(crate) async fn never_taken(stream: &TcpStream, sent: usize) -> bool {
    for _ in 0..TRIES {
        match info(stream) {
            Ok(info) if info.unacknowledged < sent as u64 => return false,
            Ok(info) if info.state == CLOSED => return true,
            Ok(_) => tokio::time::sleep(BETWEEN).await,
            Err(_) => return false,
        }
    }
    false
}

struct Info {
    state: u8,
    /// Bytes that were sent and not acknowledged.
    unacknowledged: u64,
}

/// `struct tcp_info` of linux/tcp.h, which only grows: the fields up to `tcpi_bytes_retrans` (Linux 4.19).
#[repr(C)]
#[derive(Default)]
struct TcpInfo {
    state: u8,
    flags: [u8; 7],
    times: [u32; 24],
    pacing: [u64; 2],
    bytes_acked: u64,
    bytes_received: u64,
    segments: [u32; 6],
    rates: [u64; 4],
    delivered: [u32; 2],
    bytes_sent: u64,
    bytes_retrans: u64,
}

fn info(stream: &TcpStream) -> io::Result<Info> {
    let mut info = TcpInfo::default();
    let mut length = size_of::<TcpInfo>() as libc::socklen_t;
    let pointer = (&raw mut info).cast::<libc::c_void>();
    // SAFETY: the descriptor is open for as long as `stream` is borrowed, and the kernel writes at most `length` bytes of
    // plain numbers into a struct of that size.
    let result =
        unsafe { libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, pointer, &raw mut length) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if (length as usize) < size_of::<TcpInfo>() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // The SYN counts as one acknowledged byte.
    let acknowledged = info.bytes_acked.saturating_sub(1);
    let sent = info.bytes_sent.saturating_sub(info.bytes_retrans);
    Ok(Info { state: info.state, unacknowledged: sent.saturating_sub(acknowledged) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.expect("connected"), server.expect("accepted").0)
    }

    /// One exchange, as on a pooled connection.
    async fn exchange(client: &mut TcpStream, server: &mut TcpStream) {
        let mut bytes = [0; 4];
        client.write_all(b"ping").await.expect("sent");
        server.read_exact(&mut bytes).await.expect("read");
        server.write_all(b"pong").await.expect("answered");
        client.read_exact(&mut bytes).await.expect("heard");
    }

    #[tokio::test]
    async fn what_is_accepted_is_kept_alive_as_its_listener_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        keep_alive(&listener).expect("set");
        let address = listener.local_addr().expect("an address");
        let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (accepted, _) = accepted.expect("accepted");
        assert!(sockopt::socket_keepalive(&accepted).expect("told"));
        assert_eq!(sockopt::tcp_keepidle(&accepted).expect("told"), ASK_AFTER);
    }

    #[tokio::test]
    async fn a_reset_waits_for_what_is_on_its_way() {
        let (client, mut server) = pair().await;
        // More than the other side takes without reading.
        while client.try_write(&[1; 64 * 1024]).is_ok() {}
        reset_when_closed(&client);
        drop(client);
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).await.expect("an orderly end");
        assert!(heard.len() >= 64 * 1024);

        let (mut client, mut server) = pair().await;
        exchange(&mut client, &mut server).await;
        reset_when_closed(&client);
        drop(client);
        let error = server.read(&mut [0]).await.expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn what_came_after_the_close_was_never_taken() {
        let (mut client, mut server) = pair().await;
        exchange(&mut client, &mut server).await;
        drop(server);
        client.write_all(b"lost").await.expect("the kernel takes it");
        assert_eq!(client.read(&mut [0]).await.expect("the end"), 0);
        assert!(never_taken(&client, 4).await);
    }

    #[tokio::test]
    async fn what_was_read_before_the_close_was_taken() {
        let (mut client, mut server) = pair().await;
        exchange(&mut client, &mut server).await;
        client.write_all(b"read").await.expect("sent");
        server.read_exact(&mut [0; 4]).await.expect("read");
        drop(server);
        assert_eq!(client.read(&mut [0]).await.expect("the end"), 0);
        assert!(!never_taken(&client, 4).await);
    }

    #[tokio::test]
    async fn one_that_only_stopped_writing_may_still_read() {
        let (mut client, mut server) = pair().await;
        exchange(&mut client, &mut server).await;
        server.shutdown().await.expect("half closed");
        client.write_all(b"more").await.expect("sent");
        assert_eq!(client.read(&mut [0]).await.expect("the end"), 0);
        assert!(!never_taken(&client, 4).await);
    }
}
