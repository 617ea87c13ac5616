//! The proxy's process: found as an earlier agent left it, or started, and greeted.

use super::Keeper;
use crate::process::{self, Process};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use teal_link::{Link, Receiver, Sender};
use teal_model::fault::{Code, Fault};
use teal_model::wire::{FromAgent, FromProxy, PROTOCOL, ProtocolRange, RouteTable};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A proxy must say Hello within this time, just started or found.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// A proxy process that answers.
pub(super) struct Peer {
    pub(super) sender: Sender<FromAgent>,
    pub(super) receiver: Receiver<FromProxy>,
    pub(super) process: Process,
    pub(super) pid: u32,
    pub(super) instance: String,
}

impl Keeper {
    /// A proxy that an earlier agent started, with its table. One that is there and gives no greeting is ended: never two
    /// proxies with two tables.
    pub(super) async fn find(&mut self) -> Option<(Peer, Option<RouteTable>)> {
        let greeting = async {
            let stream = UnixStream::connect(&self.options.socket).await.map_err(Greeting::link)?;
            self.greet(stream).await
        };
        let why = match timeout(HELLO_WITHIN, greeting).await {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(Greeting::Version { theirs })) => format!("it speaks protocol {theirs:?}"),
            Ok(Err(Greeting::Link(why))) => why,
            Err(_) => "it took the connection and said nothing".to_owned(),
        };
        if let Some((_, process)) = recorded(&self.options.socket) {
            tracing::warn!(why, "a proxy is there and cannot be used: it is replaced");
            end(&process).await;
        }
        None
    }

    /// Where the proxy's process is written down: its pid and start time, so that a reused pid is not taken for it.
    pub(super) fn record(&self) -> PathBuf {
        self.options.socket.with_extension("pid")
    }

    async fn greet(&mut self, stream: UnixStream) -> Result<(Peer, Option<RouteTable>), Greeting> {
        let (mut sender, mut receiver) = Link::<FromAgent, FromProxy>::new(stream).split();
        let (hello, descriptors) = receiver.recv().await.map_err(Greeting::link)?;
        let FromProxy::Hello { protocol, instance, pid, table, listeners, version, .. } = hello else {
            return Err(Greeting::Link("its first word was not Hello".to_owned()));
        };
        let Some(protocol) = protocol.common(PROTOCOL) else {
            return Err(Greeting::Version { theirs: protocol });
        };
        // Opened before anything else is believed of this process.
        let process = Process::open(pid).map_err(|error| Greeting::Link(format!("its process {pid}: {error}")))?;
        for (listener, descriptor) in listeners.into_iter().zip(descriptors) {
            self.listeners.found(listener, descriptor);
        }
        let agent = self.options.agent.clone();
        sender.send(&FromAgent::Welcome { protocol, agent }, &[]).await.map_err(Greeting::link)?;
        tracing::info!(pid, instance, version, table = ?table.as_ref().map(|table| table.number.to_string()), "linked with the proxy");
        self.sent_processes.clear();
        self.state.send_modify(|state| {
            state.pid = Some(pid);
            state.instance = Some(instance.clone());
            state.acknowledged = None;
        });
        Ok((Peer { sender, receiver, process, pid, instance }, table))
    }

    pub(super) async fn start(&mut self) -> Result<Peer, Fault> {
        let fault = |what: String| Fault::new(Code::ProxyDown, what);
        // A file of an earlier run; binding needs the name to be free.
        if let Err(error) = std::fs::remove_file(&self.options.socket)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(fault(format!("{} cannot be removed: {error}", self.options.socket.display())));
        }
        let control = std::os::unix::net::UnixListener::bind(&self.options.socket).map_err(|error| {
            Fault::new(Code::StateDir, format!("{} cannot be made: {error}", self.options.socket.display()))
        })?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&self.options.socket, mode)
            .map_err(|error| fault(format!("{}: {error}", self.options.socket.display())))?;
        let log = || std::fs::OpenOptions::new().create(true).append(true).open(&self.options.log);
        let log = |path: &PathBuf| {
            log().map_err(|error| Fault::new(Code::StateDir, format!("{} cannot be written: {error}", path.display())))
        };
        let mut command = std::process::Command::new(&self.options.program);
        command
            .arg0("teal-proxy")
            .args(["proxy", "--control-fd", "0"])
            .stdin(Stdio::from(OwnedFd::from(control)))
            .stdout(log(&self.options.log)?)
            .stderr(log(&self.options.log)?)
            .current_dir("/")
            .env_clear();
        for name in ["TEAL_LOG", "TEAL_STATE_DIR", "RUST_BACKTRACE", "PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(workers) = self.options.workers {
            command.args(["--workers", &workers.to_string()]);
        }
        if let Some((user, group)) = self.options.user {
            command.uid(user).gid(group);
        }
        let mut child = command.spawn().map_err(|error| {
            fault(format!("the proxy cannot be started ({}): {error}", self.options.program.display()))
        })?;
        let started = process::started(child.id()).unwrap_or_default();
        std::fs::write(self.record(), format!("{} {started}\n", child.id()))
            .map_err(|error| Fault::new(Code::StateDir, format!("{}: {error}", self.record().display())))?;
        // Reaps it; its end is seen by pidfd.
        std::thread::spawn(move || child.wait());
        let stream = UnixStream::connect(&self.options.socket)
            .await
            .map_err(|error| fault(format!("the proxy's socket: {error}")))?;
        match timeout(HELLO_WITHIN, self.greet(stream)).await {
            Ok(Ok((peer, _))) => Ok(peer),
            Ok(Err(Greeting::Version { theirs })) => {
                Err(fault(format!("the proxy speaks protocol {theirs:?}, the agent {PROTOCOL:?}")))
            }
            Ok(Err(Greeting::Link(why))) => Err(fault(format!("the proxy ended while it started: {why}"))),
            Err(_) => Err(fault("the proxy was started and said nothing".to_owned())),
        }
    }
}

enum Greeting {
    Link(String),
    Version { theirs: ProtocolRange },
}

impl Greeting {
    fn link(error: impl std::fmt::Display) -> Self {
        Greeting::Link(error.to_string())
    }
}

/// The proxy that an agent started on this socket, if it still runs.
pub fn recorded(socket: &Path) -> Option<(u32, Process)> {
    let text = std::fs::read_to_string(socket.with_extension("pid")).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    let pid = pid.parse().ok()?;
    let process = Process::open(pid).ok()?;
    (process::started(pid).as_deref() == Some(started)).then_some((pid, process))
}

/// Ends a process and waits until it is gone.
pub(super) async fn end(process: &Process) {
    if let Err(error) = process.kill() {
        tracing::debug!(%error, "it is gone already");
    }
    if timeout(Duration::from_secs(5), process.ended()).await.is_err() {
        tracing::error!("the old proxy was killed and is still there");
    }
}
