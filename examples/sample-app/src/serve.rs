//! Opens the ports and gives every connection a thread with a small stack.

use crate::connection::{self, Peer, Role};
use crate::orders::Orders;
use crate::settings::{BootMode, Settings};
use crate::trouble::Trouble;
use crate::{echo, life, log};
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const STACK_BYTES: usize = 96 * 1024;
const DRAIN_POLL: Duration = Duration::from_millis(5);
/// A descriptor table that is full empties again; until then accepting must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

/// What all connections share.
pub struct App {
    pub settings: Settings,
    pub instance: String,
    pub started: Instant,
    pub draining: AtomicBool,
    /// Where there is a database.
    pub orders: Option<Orders>,
    pub trouble: Trouble,
    next_connection: AtomicU64,
    peers: Mutex<HashMap<u64, Arc<Peer>>>,
    ports: Mutex<Vec<u16>>,
}

/// Serves until the process ends; returns when a drain is over.
pub fn run(settings: Settings) -> std::io::Result<()> {
    let started = Instant::now();
    let app = Arc::new(App {
        instance: instance(),
        orders: Orders::new(&settings),
        trouble: Trouble::new(&settings, started),
        settings,
        started,
        draining: AtomicBool::new(false),
        next_connection: AtomicU64::new(1),
        peers: Mutex::default(),
        ports: Mutex::default(),
    });
    life::start(&app)?;
    if app.settings.boot_mode == BootMode::Closed {
        std::thread::sleep(app.settings.boot);
    }
    if let Some(port) = app.settings.management_port {
        let listener = app.open("management", port)?;
        let app = Arc::clone(&app);
        std::thread::spawn(move || app.accept(&listener, Role::Management));
    }
    if let Some(port) = app.settings.echo_port {
        let listener = app.open("echoing", port)?;
        let app = Arc::clone(&app);
        std::thread::spawn(move || app.accept(&listener, Role::Echo));
    }
    let listener = app.open("listening", app.settings.port)?;
    app.accept(&listener, Role::Service);
    drop(listener);
    while app.peers.lock().unwrap_or_else(PoisonError::into_inner).values().any(|peer| peer.role != Role::Management) {
        std::thread::sleep(DRAIN_POLL);
    }
    log::line("drained");
    Ok(())
}

impl App {
    fn open(&self, word: &str, port: u16) -> std::io::Result<TcpListener> {
        // Both families where the kernel has both.
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
            .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?;
        let port = listener.local_addr()?.port();
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).push(port);
        log::line(&format!("{word} port={port} version={} instance={}", self.settings.version, self.instance));
        Ok(listener)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener, role: Role) {
        loop {
            let accepted = listener.accept();
            if self.draining.load(Ordering::SeqCst) {
                return;
            }
            let Ok((stream, from)) = accepted else {
                std::thread::sleep(ACCEPT_PAUSE);
                continue;
            };
            self.welcome(stream, from, role);
        }
    }

    fn welcome(self: &Arc<Self>, stream: TcpStream, from: SocketAddr, role: Role) {
        // Without it the last segment of an answer can wait 40 ms for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let number = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let peer = Arc::new(Peer::new(number, stream, from, role));
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::clone(&peer));
        let app = Arc::clone(self);
        let spawned = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            match role {
                Role::Echo => echo::serve(&app, &peer),
                Role::Service | Role::Management => connection::serve(&app, &peer),
            }
            app.forget(number);
        });
        if let Err(error) = spawned {
            log::complain(&format!("no thread for a connection: {error}"));
            self.forget(number);
        }
    }

    fn forget(&self, number: u64) {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    /// Closes the ports and idle connections; what is in flight ends by itself.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        for port in self.ports.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // Wakes the thread that waits in accept.
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, *port));
        }
        for peer in self.peers.lock().unwrap_or_else(PoisonError::into_inner).values() {
            peer.close_if_idle();
        }
    }
}

/// Host name and process, so that answers of replicas can be told apart.
pub fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}/{}", host.trim(), std::process::id())
}
