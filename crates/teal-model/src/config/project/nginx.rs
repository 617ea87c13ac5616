use crate::ids::Color;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// `x-teal.nginx`: how nginx, which stays in front of a service, is told where its containers are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Nginx {
    /// The name behind `proxy_pass http://`.
    pub upstream: String,
    pub process: NginxProcess,
    /// The address that containers are published on and nginx calls.
    pub address: IpAddr,
    /// The container's port that nginx calls; None: the first published one's target.
    pub port: Option<u16>,
    /// Host ports by color, a list a replica: the port that nginx calls, then the health port. Empty: chosen free, and kept.
    pub ports: BTreeMap<Color, Vec<Vec<u16>>>,
    /// Idle connections that each worker keeps to the service.
    pub keepalive: u32,
}

/// Which nginx, by what Teal writes there. Services of one place share its file, and flip with one reload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NginxPlace {
    pub container: Option<String>,
    pub file: String,
}

/// One nginx, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct NginxProcess {
    /// The container that it runs in; None: on the host.
    pub container: Option<String>,
    /// The file that Teal writes, as nginx sees it. `nginx.conf` must include it within `http`.
    pub file: String,
    /// Where nginx logs the requests that Teal counts, as nginx sees it.
    pub log: String,
    /// The file with the pid of its master, on the host.
    pub pid: String,
    pub test: Vec<String>,
    /// None: a signal to the master.
    pub reload: Option<Vec<String>>,
    /// How long a reload may take until the new workers alone serve.
    pub confirm_ms: u64,
}

impl Nginx {
    pub const KEEPALIVE: u32 = 32;
}

impl NginxProcess {
    pub const CONFIRM_MS: u64 = 10_000;

    pub fn place(&self) -> NginxPlace {
        NginxPlace { container: self.container.clone(), file: self.file.clone() }
    }

    /// For people.
    pub fn words(&self) -> String {
        match &self.container {
            None => "nginx on this host".to_owned(),
            Some(container) => format!("nginx in the container {container}"),
        }
    }
}

impl Default for Nginx {
    fn default() -> Self {
        Self {
            upstream: String::new(),
            process: NginxProcess::default(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: None,
            ports: BTreeMap::new(),
            keepalive: Self::KEEPALIVE,
        }
    }
}

impl Default for NginxProcess {
    fn default() -> Self {
        Self {
            container: None,
            file: "/etc/nginx/conf.d/teal.conf".to_owned(),
            log: "/var/log/nginx/teal.log".to_owned(),
            pid: "/run/nginx.pid".to_owned(),
            test: ["nginx", "-t"].map(str::to_owned).to_vec(),
            reload: None,
            confirm_ms: Self::CONFIRM_MS,
        }
    }
}
