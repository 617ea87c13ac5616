//! `bench/deploy.sh`: blue and green on two pairs of published ports, and an upstream that is rewritten.

use super::super::IMAGE;
use super::super::flip::MARGIN_US;
use super::{Standing, server};
use crate::clock::monotonic_us;
use crate::nginx::Nginx;
use crate::stage::{docker, free_port};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// As Debian has it: workers of their own user, as many as the machine has cores.
pub const MAIN: &str = "user www-data; worker_processes auto;";

pub struct Script {
    name: String,
    wait: Duration,
    nginx: Nginx,
    address: SocketAddr,
}

impl Script {
    pub fn start(name: &str, wait: Duration) -> io::Result<Self> {
        let (http, address) = server();
        let ports: Vec<String> = (0..4).map(|_| free_port().to_string()).collect();
        // Nobody is live yet: blue's port is written, and refuses.
        let upstream = format!("upstream app {{ server 127.0.0.1:{}; }}\n", ports[0]);
        let files = [("ports", ports.join(" ") + "\n"), ("upstream.conf", upstream)];
        let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
        let nginx = Nginx::start(MAIN, &http, &files, address)?;
        let mut script = Self { name: format!("e2e-{name}-{}", std::process::id()), wait, nginx, address };
        script.flip("0")?;
        Ok(script)
    }
}

impl Standing for Script {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn project(&self) -> &str {
        &self.name
    }

    fn flip(&mut self, version: &str) -> io::Result<(u64, u64)> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/deploy.sh");
        let mut child = Command::new(script)
            .arg(self.nginx.prefix())
            .args([&self.name, version, &self.wait.as_secs_f64().to_string()])
            .env("IMAGE", IMAGE)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let (mut reload, mut done) = (None, None);
        let steps = child.stdout.take().ok_or_else(|| io::Error::other("no pipe from deploy.sh"))?;
        for step in BufReader::new(steps).lines() {
            match step?.as_str() {
                "reload" => reload = Some(monotonic_us()),
                "done" => done = Some(monotonic_us()),
                _ => {}
            }
        }
        let status = child.wait()?;
        match (reload, done) {
            (Some(reload), Some(done)) if status.success() => Ok((reload - MARGIN_US, done + MARGIN_US)),
            _ => Err(io::Error::other(format!("deploy.sh: {status}\n{}", self.nginx.errors()))),
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        for color in ["blue", "green"] {
            docker(&["rm", "--force", "--volumes", &format!("{}-{color}", self.name)]);
        }
    }
}
