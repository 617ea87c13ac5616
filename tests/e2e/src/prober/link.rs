//! A client's connection: a socket that never blocks, and what is still to be written to it.

use super::drive::Shared;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

const ALWAYS: EventFlags = EventFlags::IN.union(EventFlags::RDHUP);

#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    member: u32,
    /// The kernel is asked to say when it takes bytes again.
    wants_out: bool,
    pub connected: bool,
    /// Requests begun on it.
    pub requests: u32,
    pub used_us: u64,
}

/// What is there to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    Nothing,
    Bytes(usize),
    End,
    Reset,
}

impl Link {
    /// Begins to connect; the socket becomes writable when that is over.
    pub fn open(shared: &mut Shared, member: u32) -> Result<Self, Errno> {
        let target = shared.config.target;
        let family = if target.is_ipv4() { net::AddressFamily::INET } else { net::AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        shared.recorder.live.connections += 1;
        match net::connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let data = EventData::new_u64(u64::from(member));
        epoll::add(&shared.epoll, &socket, data, ALWAYS | EventFlags::OUT)?;
        Ok(Self { socket, member, wants_out: true, connected: false, requests: 0, used_us: 0 })
    }

    /// After the socket became writable for the first time.
    pub fn finish_connect(&mut self) -> Result<(), Errno> {
        match sockopt::socket_error(&self.socket) {
            Ok(Ok(())) => {
                self.connected = true;
                Ok(())
            }
            Ok(Err(error)) | Err(error) => Err(error),
        }
    }

    pub fn receive(&self, into: &mut [u8]) -> Came {
        loop {
            match net::recv(&self.socket, &mut *into, RecvFlags::empty()) {
                Ok((0, _)) => return Came::End,
                Ok((length, _)) => return Came::Bytes(length),
                Err(Errno::AGAIN) => return Came::Nothing,
                Err(Errno::INTR) => {}
                Err(_) => return Came::Reset,
            }
        }
    }

    /// Writes what the kernel takes; asks to be told when it takes more. False: the other side is gone, though it may
    /// have left an answer to be read.
    pub fn send(&mut self, epoll: &OwnedFd, bytes: &[u8], written: &mut usize) -> bool {
        while *written < bytes.len() {
            match net::send(&self.socket, &bytes[*written..], SendFlags::NOSIGNAL) {
                Ok(length) => *written += length,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return self.want_out(epoll, true),
                Err(_) => return false,
            }
        }
        self.want_out(epoll, false)
    }

    fn want_out(&mut self, epoll: &OwnedFd, wanted: bool) -> bool {
        if self.wants_out == wanted {
            return true;
        }
        self.wants_out = wanted;
        let flags = if wanted { ALWAYS | EventFlags::OUT } else { ALWAYS };
        epoll::modify(epoll, &self.socket, EventData::new_u64(u64::from(self.member)), flags).is_ok()
    }

    pub fn local(&self) -> Option<SocketAddr> {
        net::getsockname(&self.socket).ok()?.try_into().ok()
    }
}
