//! Teal with its own proxy: at the edge, and behind an nginx that points there once.

use super::super::flip::MARGIN_US;
use super::super::web;
use super::script::MAIN;
use super::{Standing, server};
use crate::nginx::Nginx;
use crate::stage::Stage;
use std::io;
use std::net::SocketAddr;

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
        stage.compose(&text).up();
        stage.must_deploy("0");
        let upstream = format!("upstream app {{ server {}; keepalive 64; }}\n", stage.address());
        let (http, address) = server();
        let nginx = Nginx::start(MAIN, &http, &[("upstream.conf", &upstream)], address)?;
        Ok(Self { nginx, address, edge: Edge { stage } })
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
