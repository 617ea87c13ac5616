//! A project as `docker compose up` leaves it: containers, labels, network and names that Compose gives.

use super::{IMAGE, web};
use crate::prober::{Clients, Config, Pace};
use crate::stage::{Stage, docker, free_port};

/// Dropped, its containers go; the stage takes the network.
pub struct Composed<'a> {
    stage: &'a Stage,
    replicas: u32,
}

impl<'a> Composed<'a> {
    /// `compose.yaml`, and a `web` that was started from it, with `VERSION` 0.
    pub fn up(stage: &'a Stage, more: &str, environment: &str) -> Self {
        stage.compose(&web(1, more, environment));
        let project = &stage.project;
        let label = |key: &str, value: &str| format!("--label=com.docker.compose.{key}={value}");
        docker(&[
            "network",
            "create",
            &label("project", project),
            &label("network", "default"),
            &format!("{project}_default"),
        ]);
        let composed = Self { stage, replicas: 1 };
        for number in 1..=composed.replicas {
            docker(&[
                "run",
                "--detach",
                "--restart=unless-stopped",
                &format!("--name={project}-web-{number}"),
                &format!("--network={project}_default"),
                "--network-alias=web",
                &format!("--publish=127.0.0.1:{}:8080", stage.port),
                "--env=VERSION=0",
                "--env=SIGTERM=drain",
                &label("project", project),
                &label("service", "web"),
                &label("container-number", &number.to_string()),
                &label("oneoff", "False"),
                &label("config-hash", "0"),
                IMAGE,
            ]);
        }
        stage.until("the app answers", std::time::Duration::from_secs(10), || {
            std::net::TcpStream::connect(stage.address()).is_ok()
        });
        composed
    }

    pub fn name(&self) -> String {
        format!("{}-web-1", self.stage.project)
    }

    /// What a restart or another container would change; None: it is gone.
    pub fn life(&self) -> Option<String> {
        life(&self.name())
    }
}

impl Drop for Composed<'_> {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.name()]);
    }
}

/// A container as a script's `docker run` leaves it: `PROJECT-app-blue`, with the stage's port and another one.
pub struct Scripted<'a> {
    stage: &'a Stage,
    pub management: u16,
    pub network: String,
}

impl<'a> Scripted<'a> {
    pub fn run(stage: &'a Stage, more: &[&str]) -> Self {
        let scripted = Self { stage, management: free_port(), network: format!("{}_shop", stage.project) };
        docker(&["network", "create", &scripted.network]);
        let fixed = [
            "run",
            "--detach",
            "--restart=unless-stopped",
            &format!("--name={}", scripted.name()),
            &format!("--network={}", scripted.network),
            &format!("--publish=127.0.0.1:{}:8080", stage.port),
            &format!("--publish=127.0.0.1:{}:9090", scripted.management),
            "--env=MANAGEMENT_PORT=9090",
            "--env=SIGTERM=drain",
            "--env=VERSION=0",
            &format!("--volume={}:/config:ro", stage.folder().display()),
        ];
        docker(&[&fixed[..], more, &[IMAGE]].concat());
        stage.until("the app answers", std::time::Duration::from_secs(10), || {
            std::net::TcpStream::connect(stage.address()).is_ok()
        });
        scripted
    }

    pub fn name(&self) -> String {
        format!("{}-app-blue", self.stage.project)
    }

    /// What a restart or another container would change; None: it is gone.
    pub fn life(&self) -> Option<String> {
        life(&self.name())
    }
}

impl Drop for Scripted<'_> {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.name()]);
    }
}

fn life(container: &str) -> Option<String> {
    let format = "{{.Id}} {{.State.Running}} {{.State.StartedAt}} {{.RestartCount}} {{.HostConfig.RestartPolicy.Name}}";
    let text = docker(&["inspect", "--format", format, container]);
    (!text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// Clients that open a connection for each request: whoever takes new connections is found out.
pub fn new_connections(stage: &Stage) -> Config {
    let mut config = Config::new(stage.address()).with(Clients::steady(8).pace(Pace::per_second(40.0)));
    config.headers.push(("Connection".to_owned(), "close".to_owned()));
    config
}

/// Firewall rules of any agent that are about the stage's port.
pub fn rules(stage: &Stage) -> Vec<String> {
    let port = format!(":{}>", stage.port);
    let mut rules = Vec::new();
    for tool in ["iptables-save", "ip6tables-save"] {
        let output = std::process::Command::new(tool).output().unwrap_or_else(|error| panic!("{tool}: {error}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        rules.extend(text.lines().filter(|line| line.contains("teal:") && line.contains(&port)).map(str::to_owned));
    }
    rules
}
