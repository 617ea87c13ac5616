//! One nginx as the system shows it: its master and workers, its files, its network, its commands.

use crate::agent::fault_of;
use crate::runtime::{Runtime, Status};
use crate::sockets::Sockets;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use teal_model::config::NginxProcess;
use teal_model::fault::{Code, Fault};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// For one command: a test of a configuration with many certificates takes seconds.
const COMMAND: Duration = Duration::from_secs(60);
/// For one question to the server that tells the generation.
const ASK: Duration = Duration::from_millis(500);

/// The nginx that settings name, as it runs now.
#[derive(Debug, Clone)]
pub struct Running {
    pub master: u32,
    /// The root of its container.
    root: Option<Arc<OwnedFd>>,
    container: Option<String>,
}

/// A file of nginx, as long as this is kept.
#[derive(Debug)]
pub struct Reached {
    path: PathBuf,
    _folder: Option<OwnedFd>,
}

impl std::ops::Deref for Reached {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl From<PathBuf> for Reached {
    fn from(path: PathBuf) -> Self {
        Self { path, _folder: None }
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    /// It has exited 0.
    pub done: bool,
    pub printed: String,
    /// What it printed, and what it had to say.
    pub words: String,
}

impl Running {
    /// # Errors
    /// It does not run; the words say how that was seen.
    pub async fn find(settings: &NginxProcess, runtime: &Arc<dyn Runtime>) -> Result<Self, Fault> {
        let down = |why: String| Fault::new(Code::NginxDown, format!("{} does not run: {why}", settings.words()));
        let Some(name) = &settings.container else {
            let pid = std::fs::read_to_string(&settings.pid)
                .map_err(|error| down(format!("its pid file {} cannot be read: {error}", settings.pid)))?;
            let master = pid.trim().parse().ok().filter(|pid| is_master(*pid));
            // During an upgrade of its binary two masters share the sockets, and each serves by a file of its own.
            if is_running(&format!("{}.oldbin", settings.pid)) {
                let what = format!("{} is being upgraded: two masters run", settings.words());
                return Err(Fault::new(Code::NginxStale, what).hint("finish it: end the old master with SIGQUIT"));
            }
            let master = master.ok_or_else(|| {
                down(format!("{} names {}, which is no master process of nginx", settings.pid, pid.trim()))
            })?;
            return Ok(Self { master, root: None, container: None });
        };
        let container = runtime.inspect(name).await.map_err(fault_of)?;
        let container = container.ok_or_else(|| down("there is no such container".to_owned()))?;
        let init = u32::try_from(container.pid).ok().filter(|pid| *pid > 0 && container.status == Status::Running);
        let init = init.ok_or_else(|| down("the container does not run".to_owned()))?;
        let master = descendants(init).into_iter().find(|pid| is_master(*pid));
        let master = master.ok_or_else(|| down("the container has no master process of nginx".to_owned()))?;
        let root = openat(CWD, format!("/proc/{master}/root"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        let root = root.map_err(|error| down(format!("its files cannot be reached: {error}")))?;
        Ok(Self { master, root: Some(Arc::new(root)), container: Some(container.id) })
    }

    /// Where a path of nginx is for us. In a container links are followed as they are there, never out of it.
    pub fn path(&self, path: &str) -> io::Result<Reached> {
        let path = Path::new(path);
        let (Some(root), Some(folder), Some(name)) = (&self.root, path.parent(), path.file_name()) else {
            return Ok(Reached { path: path.to_owned(), _folder: None });
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat2(root.as_ref(), folder, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
        Ok(Reached { path, _folder: Some(folder) })
    }

    /// Its worker processes, and whether each takes no new connection any more.
    pub fn workers(&self) -> Vec<(u32, bool)> {
        let title = |pid: u32| command_line(pid).filter(|title| title.starts_with("nginx: worker process"));
        let workers = children(self.master).into_iter();
        workers.filter_map(|pid| Some((pid, title(pid)?.contains("shutting down")))).collect()
    }

    /// Runs a command where nginx is. An error: it could not be run at all.
    pub async fn run(&self, command: &[String], runtime: &Arc<dyn Runtime>) -> Result<Ran, Fault> {
        let failed = |why: String| {
            Fault::new(Code::NginxRefused, format!("`{}` cannot be run: {why}", command.join(" ")))
                .hint("name the command in `x-teal.nginx.test` or `x-teal.nginx.reload`")
        };
        let ran = async {
            match &self.container {
                None => on_host(command).await.map_err(|error| failed(error.to_string())),
                Some(id) => inside(id, command, runtime).await,
            }
        };
        timeout(COMMAND, ran).await.map_err(|_| failed(format!("it took longer than {} s", COMMAND.as_secs())))?
    }

    pub fn signal(&self, signal: Signal) -> Result<(), Fault> {
        let failed = |why: String| {
            Fault::new(Code::NginxRefused, format!("nginx's master {} cannot be signalled: {why}", self.master))
        };
        let pid = i32::try_from(self.master).ok().and_then(Pid::from_raw).filter(|_| is_master(self.master));
        let pid = pid.ok_or_else(|| failed("it has ended".to_owned()))?;
        kill_process(pid, signal).map_err(|error| failed(error.to_string()))
    }

    /// The generation that a worker answers with which takes a new connection now.
    pub async fn generation(&self, port: u16) -> io::Result<String> {
        let master = self.master;
        let asked = tokio::task::spawn_blocking(move || in_network_of(master, move || ask(port))).await;
        asked.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Connections of nginx's network to these addresses.
    pub fn connections(&self, addrs: &BTreeSet<SocketAddr>) -> io::Result<usize> {
        Sockets::of(self.master)?.connected_to(addrs)
    }
}

/// The same of an nginx that has no master: on the host its workers may go on without.
pub fn connections_without(settings: &NginxProcess, addrs: &BTreeSet<SocketAddr>) -> io::Result<usize> {
    match &settings.container {
        None => Sockets::of(std::process::id())?.connected_to(addrs),
        // Its processes have ended with it.
        Some(_) => Ok(0),
    }
}

fn is_running(pid_file: &str) -> bool {
    let pid = std::fs::read_to_string(pid_file).ok().and_then(|pid| pid.trim().parse().ok());
    pid.is_some_and(is_master)
}

fn ask(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), ASK)?;
    stream.set_read_timeout(Some(ASK))?;
    stream.set_write_timeout(Some(ASK))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
    body.ok_or_else(|| io::Error::other("an answer without a body"))
}

/// Does something where a process's sockets are: a thread goes there, and ends there.
fn in_network_of<T: Send>(pid: u32, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    use std::os::unix::fs::MetadataExt;
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
    let (theirs, ours) = (namespace.metadata()?, std::fs::metadata("/proc/self/ns/net")?);
    if (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) {
        return act();
    }
    std::thread::scope(|scope| {
        let acting = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            act()
        });
        acting.join().unwrap_or_else(|_| Err(io::Error::other("the thread that was to do it ended")))
    })
}

async fn on_host(command: &[String]) -> io::Result<Ran> {
    let (program, arguments) = command.split_first().ok_or_else(|| io::Error::other("it is empty"))?;
    let mut command = tokio::process::Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = printed.clone() + &String::from_utf8_lossy(&output.stderr);
    Ok(Ran { done: output.status.success(), printed, words })
}

async fn inside(id: &str, command: &[String], runtime: &Arc<dyn Runtime>) -> Result<Ran, Fault> {
    let (_typed, input) = mpsc::channel(1);
    let (output, mut words) = mpsc::channel::<Vec<u8>>(64);
    let gathered = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(more) = words.recv().await {
            all.extend(more);
        }
        all
    });
    let code = runtime.exec(id, command, true, input, output).await.map_err(fault_of)?;
    let words = gathered.await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words).replace('\r', "");
    // A terminal has one stream. What nginx says of itself begins so, and no directive does.
    let printed = words.lines().filter(|line| !line.starts_with("nginx: ")).map(|line| format!("{line}\n"));
    Ok(Ran { done: code == 0, printed: printed.collect(), words })
}

fn command_line(pid: u32) -> Option<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&line).replace('\0', " "))
}

fn is_master(pid: u32) -> bool {
    command_line(pid).is_some_and(|line| line.starts_with("nginx: master process"))
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().filter_map(|task| Some(task.ok()?.path().join("children")));
    let lists = tasks.filter_map(|path| std::fs::read_to_string(path).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

/// It, and all that came of it.
fn descendants(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(pid) = all.get(at) {
        let more = children(*pid);
        all.extend(more);
        at += 1;
    }
    all
}
