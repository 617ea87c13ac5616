//! The process `teal agent`: directories, lock, parts in order, and its end.

use crate::agent::Agent;
use crate::journal::Journal;
use crate::reserve::Reserve;
use crate::runtime::docker::DockerRuntime;
use crate::traffic::Traffic;
use crate::traffic::builtin::{BuiltinProxy, ProxyOptions};
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use teal_model::api::DownRequest;
use teal_model::fault::{Code, Fault};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long requests in flight get when the proxy is ended too.
const PROXY_ENDS_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Options {
    pub state_dir: PathBuf,
    pub run_dir: PathBuf,
    /// When the agent is root: the user that the proxy runs as.
    pub proxy_user: Option<String>,
    /// Workers of the proxy; None: one a core.
    pub workers: Option<u32>,
    /// The program to run as `PROGRAM proxy`.
    pub program: PathBuf,
}

pub const SOCKET: &str = "agent.sock";
pub const PROXY_SOCKET: &str = "proxy.sock";
pub const PROXY_LOG: &str = "proxy.log";
const LOCK: &str = "lock";

/// Runs the agent until it is told to end (`teal down`, SIGTERM, SIGINT). The proxy goes on unless `teal down --proxy` said otherwise.
pub fn run(options: Options) -> Result<(), Fault> {
    let internal = |error: std::io::Error| Fault::new(Code::Internal, format!("the agent cannot start: {error}"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(internal)?;
    let ended = runtime.block_on(serve(options));
    // Whatever is still under way is journaled as an intent: the next agent goes on with it.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

async fn serve(options: Options) -> Result<(), Fault> {
    // Journal and logs are nobody else's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    directory(&options.state_dir, 0o700)?;
    directory(&options.run_dir, 0o755)?;
    let _lock = lock(&options.state_dir)?;
    let reserve = Reserve::of(&options.state_dir);
    reserve.give_up_to_begin();
    let (agent, traffic) = begin(&options).await.map_err(|fault| reserve.explained(fault))?;
    let socket = options.run_dir.join(SOCKET);
    let listener = listen(&socket)?;
    tracing::info!(agent = agent.id, socket = %socket.display(), "serves");
    let (down, mut asked) = watch::channel(None::<DownRequest>);
    let by_signal = down.clone();
    tokio::spawn(async move {
        if let Ok(()) = ended_by_signal().await {
            by_signal.send_replace(Some(DownRequest { proxy: false }));
        }
    });
    let served = crate::api::serve(agent, listener, down).await;
    remove_socket(&socket);
    served.map_err(|error| Fault::new(Code::Internal, format!("{}: {error}", socket.display())))?;
    if asked.borrow_and_update().as_ref().is_some_and(|down| down.proxy) {
        traffic.shutdown(PROXY_ENDS_WITHIN).await?;
    }
    Ok(())
}

/// The agent with its parts, serving what it finds.
async fn begin(options: &Options) -> Result<(Arc<Agent>, Arc<dyn Traffic>), Fault> {
    let journal = Arc::new(Journal::open(&options.state_dir)?);
    let docker = Arc::new(DockerRuntime::from_env().map_err(crate::agent::fault_of)?);
    let proxy = ProxyOptions {
        program: options.program.clone(),
        socket: options.run_dir.join(PROXY_SOCKET),
        log: options.state_dir.join(PROXY_LOG),
        user: proxy_user(options.proxy_user.as_deref())?,
        workers: options.workers,
        agent: journal.agent_id()?,
    };
    let (traffic, serving) = BuiltinProxy::open(proxy).await?;
    let traffic: Arc<dyn Traffic> = Arc::new(traffic);
    let agent = Agent::start(options.state_dir.clone(), journal, docker, traffic.clone(), serving).await?;
    Ok((agent, traffic))
}

async fn ended_by_signal() -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn directory(path: &Path, mode: u32) -> Result<(), Fault> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| Fault::new(Code::StateDir, format!("{} cannot be made: {error}", path.display())))
}

/// One agent a state directory. The kernel takes the lock back when the process ends, however it ends.
fn lock(state_dir: &Path) -> Result<File, Fault> {
    let path = state_dir.join(LOCK);
    let unwritable =
        |error: std::io::Error| Fault::new(Code::StateDir, format!("{} cannot be written: {error}", path.display()));
    let file = File::options().create(true).truncate(false).write(true).read(true).open(&path).map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(Fault::new(Code::AgentRuns, format!("another agent owns {}", state_dir.display())))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(unwritable(error)),
    }
}

/// The lock says that no other agent is there: a socket file is one that a killed agent left.
fn listen(socket: &Path) -> Result<UnixListener, Fault> {
    remove_socket(socket);
    let listener = UnixListener::bind(socket)
        .map_err(|error| Fault::new(Code::StateDir, format!("{} cannot be made: {error}", socket.display())))?;
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(socket, owner_only)
        .map_err(|error| Fault::new(Code::StateDir, format!("{}: {error}", socket.display())))?;
    Ok(listener)
}

fn remove_socket(socket: &Path) {
    if let Err(error) = std::fs::remove_file(socket)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, socket = %socket.display(), "an old socket file cannot be removed");
    }
}

/// Root's proxy runs as `nobody`, or as the user that was named; anybody else's as themselves.
fn proxy_user(name: Option<&str>) -> Result<Option<(u32, u32)>, Fault> {
    if !rustix::process::geteuid().is_root() {
        return match name {
            Some(name) => Err(Fault::new(Code::Usage, format!("only root can run the proxy as {name}"))),
            None => Ok(None),
        };
    }
    let name = name.unwrap_or("nobody");
    let passwd = std::fs::read_to_string("/etc/passwd")
        .map_err(|error| Fault::new(Code::Usage, format!("/etc/passwd cannot be read: {error}")))?;
    let found =
        passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&name));
    let id = |index: usize| found.as_ref().and_then(|fields| fields.get(index)).and_then(|id| id.parse::<u32>().ok());
    match (id(2), id(3)) {
        (Some(0), _) => Err(Fault::new(Code::Usage, "the proxy must not run as root")),
        (Some(user), Some(group)) => Ok(Some((user, group))),
        _ => Err(Fault::new(Code::Usage, format!("there is no user {name} to run the proxy as"))
            .hint("name one with --proxy-user")),
    }
}
