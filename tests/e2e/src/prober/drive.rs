//! The loop of one prober thread: sockets, timers and timeouts of its clients.

use super::client::{Client, Next};
use super::config::Config;
use super::recorder::{Recorder, Snapshot};
use super::websocket::WebSocket;
use crate::clock::{monotonic_us, thread_cpu_us};
use rustix::event::epoll::{self, CreateFlags};
use rustix::time::Timespec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const SCRATCH_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 256;
/// Timeouts are looked for, and live counts published, this often.
const TICK_US: u64 = 20_000;

/// What all members of a thread share.
#[derive(Debug)]
pub struct Shared {
    pub epoll: OwnedFd,
    pub config: Arc<Config>,
    pub common_headers: Vec<u8>,
    pub recorder: Recorder,
    pub scratch: Box<[u8]>,
    pub stopping: bool,
}

/// What a thread brings home.
#[derive(Debug)]
pub struct Harvest {
    pub recorder: Recorder,
    pub started_us: u64,
    pub ended_us: u64,
    pub cpu_us: u64,
}

/// How a thread and its handle speak.
#[derive(Debug, Default)]
pub struct Signals {
    pub stop: AtomicBool,
    pub live: Mutex<Snapshot>,
}

#[derive(Debug)]
enum Member {
    Client(Client),
    WebSocket(WebSocket),
}

impl Member {
    fn due(&mut self, shared: &mut Shared) -> Next {
        match self {
            Self::Client(client) => client.due(shared),
            Self::WebSocket(websocket) => websocket.due(shared),
        }
    }

    fn ready(&mut self, shared: &mut Shared) -> Next {
        match self {
            Self::Client(client) => client.ready(shared),
            Self::WebSocket(websocket) => websocket.ready(shared),
        }
    }

    fn overdue(&mut self, shared: &mut Shared, now_us: u64) -> Next {
        match self {
            Self::Client(client) => client.overdue(shared, now_us),
            Self::WebSocket(websocket) => websocket.overdue(shared, now_us),
        }
    }

    fn in_flight(&self) -> bool {
        match self {
            Self::Client(client) => client.in_flight(),
            Self::WebSocket(websocket) => websocket.in_flight(),
        }
    }
}

/// A thread's clients and when they want to be called.
struct Crew {
    members: Vec<Member>,
    /// The time a member waits for; an older entry of the heap is void. 0: it waits for its socket.
    wake_us: Vec<u64>,
    timers: BinaryHeap<Reverse<(u64, u32)>>,
}

/// Runs the share `thread` of the clients until the signal to stop, and then until no request is in flight.
pub fn run(config: &Arc<Config>, thread: usize, signals: &Signals) -> std::io::Result<Harvest> {
    let started_us = monotonic_us();
    let cpu_before_us = thread_cpu_us();
    let mut shared = Shared {
        epoll: epoll::create(CreateFlags::CLOEXEC)?,
        config: Arc::clone(config),
        common_headers: common_headers(config),
        recorder: Recorder::new(config.keep_records / config.threads.max(1)),
        scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
        stopping: false,
    };
    let mut crew = Crew::enlist(&shared, thread);
    let mut events = [MaybeUninit::uninit(); EVENTS_MAX];
    let mut tick_us = started_us + TICK_US;
    loop {
        let now_us = monotonic_us();
        crew.wake(&mut shared, now_us);
        if now_us >= tick_us {
            tick_us = now_us + TICK_US;
            shared.stopping = signals.stop.load(Ordering::Acquire);
            crew.tick(&mut shared, now_us);
            publish(&mut shared, signals);
        }
        if shared.stopping && !crew.members.iter().any(Member::in_flight) {
            break;
        }
        let wait_us = crew.next_us().unwrap_or(tick_us).min(tick_us).saturating_sub(monotonic_us());
        let timeout = Timespec { tv_sec: 0, tv_nsec: (wait_us.min(TICK_US) * 1_000) as _ };
        let (ready, _) = match epoll::wait(&shared.epoll, &mut events, Some(&timeout)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for event in ready.iter() {
            let number = event.data.u64() as usize;
            let next = crew.members[number].ready(&mut shared);
            crew.note(number, next);
        }
    }
    publish(&mut shared, signals);
    Ok(Harvest {
        recorder: shared.recorder,
        started_us,
        ended_us: monotonic_us(),
        cpu_us: thread_cpu_us() - cpu_before_us,
    })
}

impl Crew {
    /// Clients are dealt to the threads in turn, so that every thread gets some of each kind.
    fn enlist(shared: &Shared, thread: usize) -> Self {
        let mut crew = Self { members: Vec::new(), wake_us: Vec::new(), timers: BinaryHeap::new() };
        let threads = shared.config.threads.max(1);
        let mut number = 0u16;
        let mine = |number: &mut u16| {
            *number = number.wrapping_add(1);
            usize::from(number.wrapping_sub(1)) % threads == thread
        };
        for (group, clients) in shared.config.clients.iter().enumerate() {
            for _ in 0..clients.connections {
                if mine(&mut number) {
                    let (client, due_us) = Client::new(crew.members.len() as u32, number, group, shared);
                    crew.join(Member::Client(client), due_us);
                }
            }
        }
        for (group, websockets) in shared.config.websockets.iter().enumerate() {
            for _ in 0..websockets.connections {
                if mine(&mut number) {
                    let (websocket, due_us) = WebSocket::new(crew.members.len() as u32, number, group, shared);
                    crew.join(Member::WebSocket(websocket), due_us);
                }
            }
        }
        crew
    }

    fn join(&mut self, member: Member, due_us: u64) {
        self.members.push(member);
        self.wake_us.push(0);
        self.note(self.members.len() - 1, Next::At(due_us));
    }

    fn note(&mut self, number: usize, next: Next) {
        if let Next::At(us) = next {
            self.wake_us[number] = us.max(1);
            self.timers.push(Reverse((us.max(1), number as u32)));
        }
    }

    fn next_us(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((us, _))| *us)
    }

    fn wake(&mut self, shared: &mut Shared, now_us: u64) {
        while let Some(Reverse((us, number))) = self.timers.peek().copied() {
            if us > now_us {
                return;
            }
            self.timers.pop();
            let number = number as usize;
            if self.wake_us[number] == us && !shared.stopping {
                self.wake_us[number] = 0;
                let next = self.members[number].due(shared);
                self.note(number, next);
            }
        }
    }

    fn tick(&mut self, shared: &mut Shared, now_us: u64) {
        for number in 0..self.members.len() {
            let next = self.members[number].overdue(shared, now_us);
            self.note(number, next);
        }
    }
}

fn common_headers(config: &Config) -> Vec<u8> {
    let mut headers = format!("Host: {}\r\n", config.host);
    for (name, value) in &config.headers {
        headers.push_str(&format!("{name}: {value}\r\n"));
    }
    headers.into_bytes()
}

fn publish(shared: &mut Shared, signals: &Signals) {
    let mut live = signals.live.lock().unwrap_or_else(PoisonError::into_inner);
    let worst_us = live.worst_us.max(shared.recorder.live.worst_us);
    live.clone_from(&shared.recorder.live);
    live.worst_us = worst_us;
    shared.recorder.live.worst_us = 0;
}
