//! Teal with its own proxy: at the edge, and behind an nginx that points there once.

use super::super::flip::MARGIN_US;
use super::super::web;
use super::script::MAIN;
use super::{Standing, server};
use crate::nginx::Nginx;
use crate::stage::Stage;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

pub struct Edge {
    stage: Stage,
}

impl Edge {
    pub fn start(name: &str) -> Self {
        let stage = Stage::new(name);
        stage.compose(&web(1, "", "")).up();
        stage.must_deploy("0");
        Self { stage }
    }
}

impl Standing for Edge {
    fn address(&self) -> SocketAddr {
        self.stage.address()
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

pub struct Behind {
    nginx: Nginx,
    address: SocketAddr,
    pub edge: Edge,
}

impl Behind {
    pub fn start(name: &str) -> io::Result<Self> {
        let stage = Stage::new(name);
        let text = format!("x-teal:\n  trusted_proxies: [127.0.0.1]\n{}", web(1, "", ""));
        let upstream = stage.address().to_string();
        Self::between(stage, &text, &upstream)
    }

    /// The service publishes no port: nginx and Teal meet at a socket with a path, whose group is that of nginx's workers.
    pub fn by_socket(name: &str) -> io::Result<Self> {
        let stage = Stage::new(name);
        let socket = stage.root().join("sockets/web.sock");
        // nginx's workers are another user, and a temporary folder is its owner's alone.
        std::fs::set_permissions(stage.root(), std::fs::Permissions::from_mode(0o755))?;
        let listen = format!("      listen: {{ unix: {}, group: www-data, port: 8080 }}", socket.display());
        let text = web(1, &listen, "").replace("    ports: [\"PORT:8080\"]\n", "");
        Self::between(stage, &text, &format!("unix:{}", socket.display()))
    }

    fn between(stage: Stage, compose: &str, upstream: &str) -> io::Result<Self> {
        stage.compose(compose).up();
        stage.must_deploy("0");
        let upstream = format!("upstream app {{ server {upstream}; keepalive 64; }}\n");
        let (http, address) = server();
        let nginx = Nginx::start(MAIN, &http, &[("upstream.conf", &upstream)], address)?;
        Ok(Self { nginx, address, edge: Edge { stage } })
    }

    /// Where nginx and Teal meet when they do so at a socket.
    pub fn socket(&self) -> PathBuf {
        self.stage().root().join("sockets/web.sock")
    }

    pub fn stage(&self) -> &Stage {
        &self.edge.stage
    }

    /// What nginx had to complain of.
    pub fn errors(&self) -> String {
        self.nginx.errors()
    }
}

impl Standing for Behind {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn project(&self) -> &str {
        self.edge.project()
    }

    fn flip(&mut self, version: &str) -> io::Result<(u64, u64)> {
        self.edge.flip(version)
    }
}
