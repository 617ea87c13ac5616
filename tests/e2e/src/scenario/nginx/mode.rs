//! Teal that tells an nginx of the host, by its file and reloads, where the containers are.

use super::super::flip::MARGIN_US;
use super::super::web;
use super::script::MAIN;
use super::{Standing, pass};
use crate::nginx::Nginx;
use crate::stage::{Stage, free_port};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub struct Mode {
    pub nginx: Nginx,
    pub stage: Stage,
    address: SocketAddr,
    more: String,
}

impl Mode {
    /// Version 0 of the app, served through nginx.
    pub fn start(name: &str) -> io::Result<Self> {
        Self::tuned(name, "")
    }

    /// With more words in nginx's `http`.
    pub fn tuned(name: &str, more: &str) -> io::Result<Self> {
        let mode = Self { more: more.to_owned(), ..Self::waiting(name, &main())? };
        mode.stage.compose(&compose(&mode.nginx, 1, "", "")).up();
        mode.stage.must_deploy("0");
        mode.pass()?;
        Ok(mode)
    }

    /// An nginx that leads nowhere yet, and a stage.
    pub fn waiting(name: &str, main: &str) -> io::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let http = format!("  include teal.d/*.conf;\n  server {{ listen {address}; return 404; }}");
        let nginx = Nginx::start(main, &http, &[], address)?;
        std::fs::create_dir(nginx.prefix().join("teal.d"))?;
        Ok(Self { nginx, stage: Stage::new(name), address, more: String::new() })
    }

    /// From now on nginx gives everything to the upstream `app`, once it is reloaded.
    pub fn lead(&self) -> io::Result<()> {
        let more = &self.more;
        let http = format!("  {more} include teal.d/*.conf;\n  server {{ listen {}; {} }}", self.address, pass("app"));
        self.nginx.configure(&main(), &http)
    }

    /// It is, and has only workers that know it.
    pub fn pass(&self) -> io::Result<()> {
        self.lead()?;
        let before = self.nginx.workers();
        self.nginx.signal("reload")?;
        while self.nginx.workers().iter().any(|pid| before.contains(pid)) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Ok(())
    }

    /// How often nginx was told to read its files again.
    pub fn reloads(&self) -> usize {
        let notices = std::fs::read_to_string(self.nginx.prefix().join("notices.log")).unwrap_or_default();
        notices.matches(", reconfiguring").count()
    }

    /// Clients come elsewhere.
    pub fn move_to(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// The file that Teal writes.
    pub fn file(&self) -> PathBuf {
        file(self.nginx.prefix())
    }
}

fn main() -> String {
    format!("{MAIN} worker_shutdown_timeout 40s; error_log notices.log notice;")
}

fn file(prefix: &Path) -> PathBuf {
    prefix.join("teal.d/teal.conf")
}

/// A `web` service behind this nginx, as the upstream `app`. `settings` go into `x-teal.nginx`, with a comma before.
pub fn compose(nginx: &Nginx, replicas: u32, settings: &str, environment: &str) -> String {
    let prefix = nginx.prefix().display();
    let behind = format!(
        "      traffic: nginx
      nginx: {{ upstream: app, file: {prefix}/teal.d/teal.conf, log: {prefix}/teal.log, pid: {prefix}/nginx.pid, test: [nginx, -p, {prefix}, -c, {prefix}/nginx.conf, -t]{settings} }}"
    );
    web(replicas, &behind, environment).replace("    ports: [\"PORT:8080\"]\n", "    expose: [\"8080\"]\n")
}

impl Standing for Mode {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn project(&self) -> &str {
        &self.stage.project
    }

    fn flip(&mut self, version: &str) -> io::Result<(u64, u64)> {
        let deployed = self.stage.must_deploy(version);
        let flip = deployed.flip().ok_or_else(|| io::Error::other(format!("no flip in {deployed:#?}")))?;
        Ok((flip.sent_us - MARGIN_US, flip.acknowledged_us + MARGIN_US))
    }
}
