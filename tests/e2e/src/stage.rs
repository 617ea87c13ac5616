//! One Teal of its own for a test: directories, agent, proxy, a project on a free port, and their end.

use serde_json::Value;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use teal_model::api::{Notice, Status, What};
use teal_model::deployment::{Published, State};
use teal_model::receipt::{Outcome, Receipt};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Dropped, it removes the project, ends agent and proxy, and takes away what a failed test left.
pub struct Stage {
    dir: tempfile::TempDir,
    pub project: String,
    pub port: u16,
    program: PathBuf,
    /// Who runs it; None: the test's own user.
    user: Option<u32>,
}

/// A deployment that has ended, as `teal deploy --output json` told it.
#[derive(Debug)]
pub struct Deployed {
    pub exit: i32,
    pub notices: Vec<Notice>,
    /// What it printed that is no notice: a fault.
    pub stdout: String,
    pub stderr: String,
}

impl Deployed {
    pub fn receipt(&self) -> Option<&Receipt> {
        self.notices.iter().find_map(|notice| match &notice.what {
            What::Ended { receipt } => Some(&**receipt),
            _ => None,
        })
    }

    pub fn done(&self) -> bool {
        self.exit == 0 && self.receipt().is_some_and(|receipt| receipt.outcome == Outcome::Done)
    }

    /// The table by which the candidate got its requests.
    pub fn flip(&self) -> Option<Published> {
        let mut state = None;
        self.notices.iter().find_map(|notice| match &notice.what {
            What::Entered { state: entered, .. } => {
                state = Some(entered);
                None
            }
            What::Did { published: Some(published), .. }
                if matches!(state, Some(State::Shifting { .. } | State::Releasing { .. })) =>
            {
                Some(*published)
            }
            _ => None,
        })
    }
}

/// The program under test: `TEAL_BIN`, else the one that was built beside this.
pub fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("TEAL_BIN") {
        return program.into();
    }
    let here = std::env::current_exe().unwrap_or_default();
    let built = here.ancestors().map(|folder| folder.join("teal")).find(|program| program.is_file());
    built.unwrap_or_else(|| panic!("no `teal` beside {}: run `cargo build -p teal`, or set TEAL_BIN", here.display()))
}

/// A port on loopback that nobody has at this moment.
pub fn free_port() -> u16 {
    let bound = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).unwrap_or_else(|error| panic!("no free port on loopback: {error}"))
}

impl Stage {
    /// Directories and a project name of its own; nothing runs yet.
    pub fn new(name: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("teal-e2e-").tempdir();
        let dir = dir.unwrap_or_else(|error| panic!("no temporary directory: {error}"));
        let project = format!("e2e-{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let stage = Self { dir, project, port: free_port(), program: program(), user: None };
        std::fs::create_dir(stage.folder()).unwrap_or_else(|error| panic!("the project's folder: {error}"));
        stage
    }

    /// The same, with an agent that is this user's. Needs root.
    pub fn of_user(name: &str, user: u32) -> std::io::Result<Self> {
        let mut stage = Self::new(name);
        let own = stage.root().join("teal");
        // Where the program was built others may not look.
        std::fs::copy(&stage.program, &own)?;
        for path in [stage.root().to_owned(), stage.folder()] {
            std::os::unix::fs::chown(path, Some(user), Some(user))?;
        }
        (stage.program, stage.user) = (own, Some(user));
        Ok(stage)
    }

    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// `compose.yaml` of the project; `"PORT:` of a published port stands for its own, and deployments end with their flip
    /// unless the text has a project's `bake` or `retain`.
    pub fn compose(&self, text: &str) -> &Self {
        let text = brief(text).replace("\"PORT:", &format!("\"127.0.0.1:{}:", self.port));
        std::fs::write(self.folder().join("compose.yaml"), text)
            .unwrap_or_else(|error| panic!("compose.yaml: {error}"));
        self
    }

    /// `teal` with these arguments, in the project's folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(self.folder())
            .env("TEAL_STATE_DIR", self.state_dir())
            .env("TEAL_RUN_DIR", self.run_dir())
            .env("COMPOSE_PROJECT_NAME", &self.project)
            .env("TEAL_WHO", "test")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user).env("HOME", self.root());
        }
        command
    }

    pub fn teal(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap_or_else(|error| panic!("{}: {error}", self.program.display()))
    }

    /// Runs it and expects exit code 0.
    pub fn must(&self, arguments: &[&str]) -> String {
        let output = self.teal(arguments);
        assert!(
            output.status.success(),
            "teal {arguments:?}: {}\n{}{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.logs()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn up(&self) -> &Self {
        self.must(&["up", "--detach"]);
        self
    }

    /// `teal deploy`, with `VERSION` for the compose file.
    pub fn deploy(&self, version: &str, arguments: &[&str]) -> Deployed {
        self.deploy_with(version, arguments, &[])
    }

    /// The same, with more variables for the compose file.
    pub fn deploy_with(&self, version: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Deployed {
        let mut all = vec!["deploy", "--output", "json"];
        all.extend(arguments);
        let output = self.command(&all).env("VERSION", version).envs(variables.iter().copied()).output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let (mut notices, mut rest) = (Vec::new(), String::new());
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            match serde_json::from_str::<Notice>(line) {
                Ok(notice) => notices.push(notice),
                Err(_) => rest.extend([line, "\n"]),
            }
        }
        Deployed {
            exit: output.status.code().unwrap_or(-1),
            notices,
            stdout: rest,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn must_deploy(&self, version: &str) -> Deployed {
        let deployed = self.deploy(version, &[]);
        assert!(deployed.done(), "{deployed:#?}\n{}", self.logs());
        deployed
    }

    pub fn status(&self) -> Status {
        let text = self.must(&["status", "--output", "json"]);
        let value: Value = serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"));
        serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub fn agent_pid(&self) -> u32 {
        self.status().agent.pid
    }

    pub fn proxy_pid(&self) -> u32 {
        self.status().proxy.pid.unwrap_or_else(|| panic!("no proxy runs\n{}", self.logs()))
    }

    /// The logs of agent and proxy: what a failed assertion wants to show.
    pub fn logs(&self) -> String {
        let tail = |name: &str| {
            let text = std::fs::read_to_string(self.state_dir().join(name)).unwrap_or_else(|error| error.to_string());
            let lines: Vec<&str> = text.lines().collect();
            format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(60)..].join("\n"))
        };
        tail("agent.log") + &tail("proxy.log")
    }

    /// Waits until this holds, and says what was waited for when it does not within the time.
    pub fn until(&self, what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + within;
        while !holds() {
            assert!(Instant::now() < deadline, "not within {within:?}: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The names of the project's containers, running or not.
    pub fn containers(&self) -> Vec<String> {
        let filter = format!("label=teal.project={}", self.project);
        let mut names: Vec<String> =
            docker(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]).lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// The ids of the containers that a service runs in now, by `teal status`.
    pub fn replicas(&self, service: &str) -> Vec<String> {
        let services = self.status().services;
        let ours =
            services.into_iter().filter(|it| it.service.project == self.project && it.service.service == service);
        ours.flat_map(|it| it.replicas).map(|replica| replica.container).collect()
    }

    /// The networks that carry the project's name.
    pub fn networks(&self) -> Vec<String> {
        self.named(&docker(&["network", "ls", "--format", "{{.Name}}"]))
    }

    /// The volumes that carry the project's name: `teal remove` keeps them.
    pub fn volumes(&self) -> Vec<String> {
        self.named(&docker(&["volume", "ls", "--format", "{{.Name}}"]))
    }

    fn named(&self, names: &str) -> Vec<String> {
        let prefix = format!("{}_", self.project);
        names.lines().filter(|name| name.starts_with(&prefix)).map(str::to_owned).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.run_dir().join("agent.sock").exists() {
            for arguments in [&["remove", "--yes"][..], &["down", "--proxy"]] {
                // A test that failed is in the middle of its own error: this one must not hide it.
                let _ = self.teal(arguments);
            }
        }
        for name in self.containers() {
            docker(&["rm", "--force", "--volumes", &name]);
        }
        for network in self.networks() {
            docker(&["network", "rm", &network]);
        }
        for volume in self.volumes() {
            docker(&["volume", "rm", &volume]);
        }
        for pid in processes_of(self.dir.path()) {
            kill(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Nobody watches after the flip, and nothing stays warm, as far as the text does not say it itself.
fn brief(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = lines.iter().position(|line| line.starts_with("x-teal:")).unwrap_or_else(|| {
        lines.push("x-teal:".to_owned());
        lines.len() - 1
    });
    let inside = lines[at + 1..].iter().take_while(|line| line.starts_with(' '));
    let own: Vec<String> = [&lines[at]].into_iter().chain(inside).cloned().collect();
    let has = |key: &str| own.iter().any(|line| line.contains(&format!("{key}:")));
    let missing: Vec<&str> = ["bake", "retain"].into_iter().filter(|key| !has(key)).collect();
    if let Some(flow) = lines[at].strip_prefix("x-teal: {") {
        let added: String = missing.iter().map(|key| format!("{key}: 0, ")).collect();
        lines[at] = format!("x-teal: {{{added}{flow}");
    } else {
        let indent: String = own.get(1).map_or("  ", String::as_str).chars().take_while(|c| *c == ' ').collect();
        lines.splice(at + 1..at + 1, missing.iter().map(|key| format!("{indent}{key}: 0")));
    }
    lines.join("\n") + "\n"
}

/// `docker` with these arguments; what it printed. A failure is told in it, since most callers clean up.
pub fn docker(arguments: &[&str]) -> String {
    match Command::new("docker").args(arguments).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(std::thread::panicking() || error.contains("No such"), "docker {arguments:?}: {error}");
            String::new()
        }
        Err(error) => panic!("docker cannot be run: {error}"),
    }
}

pub fn kill(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Processes of this stage: those whose environment names its directory.
fn processes_of(dir: &Path) -> Vec<u32> {
    let dir = dir.as_os_str().as_encoded_bytes();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.windows(dir.len()).any(|window| window == dir)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::brief;

    #[test]
    fn a_test_says_itself_when_it_is_about_the_time_after_the_flip() {
        let services = "services:\n  web: {image: app}\n";
        assert_eq!(brief(services), format!("{services}x-teal:\n  bake: 0\n  retain: 0\n"));
        let believed = "x-teal:\n    trusted_proxies: [127.0.0.1]\n";
        let both = format!("{believed}{services}").replace("x-teal:\n", "x-teal:\n    bake: 0\n    retain: 0\n");
        assert_eq!(brief(&format!("{believed}{services}")), both);
        assert_eq!(brief("x-teal: {bake: 5s}\n"), "x-teal: {retain: 0, bake: 5s}\n");
        assert_eq!(brief("x-teal:\n  bake: 5s\n  retain: 1m\n"), "x-teal:\n  bake: 5s\n  retain: 1m\n");
    }
}
