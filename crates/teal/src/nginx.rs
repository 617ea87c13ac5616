//! nginx of this host, or in a container of it: asked for its configuration, told to test and to take it.

pub mod moved;

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use teal_model::fault::{Code, Fault};
use teal_model::nginx::behind::Standpoint;

/// How long nginx may take to start its new workers.
const TAKES: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How nginx is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nginx {
    pub program: String,
    /// Its main file, where it is not the one that it was built with.
    pub config: Option<String>,
    pub prefix: Option<String>,
    /// It runs in this container.
    pub container: Option<String>,
}

impl Nginx {
    /// What `nginx -T` prints.
    pub fn dump(&self) -> Result<String, Fault> {
        let output = self.run(&["-T"])?;
        if !output.status.success() {
            return Err(self.refused("nginx refuses the configuration that it has", &output));
        }
        String::from_utf8(output.stdout).map_err(|error| {
            Fault::new(Code::NginxRefused, format!("its configuration is not text in UTF-8: {error}"))
                .hint("write the file in UTF-8, then again")
        })
    }

    pub fn test(&self) -> Result<(), Fault> {
        let output = self.run(&["-t"])?;
        match output.status.success() {
            true => Ok(()),
            false => Err(self.refused("nginx refuses the configuration", &output)),
        }
    }

    /// Reloads, and waits for the workers of the new configuration where the master can be seen. `pid`: the master's file.
    pub fn reload(&self, pid: Option<&Path>) -> Result<(), Fault> {
        let master = pid.and_then(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u32>().ok());
        let before = master.map(children).unwrap_or_default();
        let output = self.run(&["-s", "reload"])?;
        if !output.status.success() {
            return Err(self.refused("nginx cannot be told to reload", &output));
        }
        let Some(master) = master.filter(|_| !before.is_empty()) else { return Ok(()) };
        let deadline = Instant::now() + TAKES;
        while children(master).is_subset(&before) {
            if Instant::now() > deadline {
                let what = "nginx did not take the new configuration: no new worker came";
                return Err(Fault::new(Code::NginxRefused, what).hint("its error log says why"));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn run(&self, words: &[&str]) -> Result<Output, Fault> {
        let mut command = match &self.container {
            Some(container) => {
                let mut docker = Command::new("docker");
                docker.args(["exec", container, &self.program]);
                docker
            }
            None => Command::new(&self.program),
        };
        for (flag, value) in [("-p", &self.prefix), ("-c", &self.config)] {
            if let Some(value) = value {
                command.args([flag, value]);
            }
        }
        command.args(words).stdin(Stdio::null());
        command.output().map_err(|error| {
            let program = if self.container.is_some() { "docker" } else { &self.program };
            Fault::new(Code::NginxRefused, format!("{program} cannot be run: {error}"))
                .hint("name it with --program, the container it runs in with --container, or read a file with --dump")
        })
    }

    fn refused(&self, what: &str, output: &Output) -> Fault {
        let said = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
        Fault::new(Code::NginxRefused, what).detail(said)
    }

    /// A file of its configuration, as this host names it. None: it is in the container alone.
    pub fn on_host(&self, path: &str, mounts: &[Mount]) -> Option<PathBuf> {
        if self.container.is_none() {
            return Some(PathBuf::from(path));
        }
        let within = |mount: &&Mount| Path::new(path).starts_with(&mount.destination);
        let nearest = mounts.iter().filter(within).max_by_key(|mount| mount.destination.len())?;
        let rest = Path::new(path).strip_prefix(&nearest.destination).ok()?;
        let source = PathBuf::from(&nearest.source);
        Some(if rest.as_os_str().is_empty() { source } else { source.join(rest) })
    }

    /// Where it stands.
    pub fn surroundings(&self) -> Result<Surroundings, Fault> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let Some(container) = &self.container else {
            let standpoint = Standpoint { on_host: true, addresses: own_addresses() };
            return Ok(Surroundings { standpoint, mounts: Vec::new(), peer: loopback });
        };
        let format = "{{json .HostConfig.NetworkMode}}\n{{json .Mounts}}\n{{range .NetworkSettings.Networks}}{{.Gateway}} {{.IPAddress}}\n{{end}}";
        let output =
            Command::new("docker").args(["inspect", "--type=container", "--format", format, container]).output();
        let output = output.map_err(|error| Fault::new(Code::DockerDown, format!("docker cannot be run: {error}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
            return Err(Fault::new(Code::NotFound, format!("there is no container {container}")).detail(said));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text.lines();
        let on_host = lines.next() == Some("\"host\"");
        let mounts = serde_json::from_str(lines.next().unwrap_or_default()).unwrap_or_default();
        let networks = lines.map(|line| line.split(' ').map(|word| word.parse::<IpAddr>().ok()).collect::<Vec<_>>());
        let networks: Vec<_> = networks.collect();
        let gateways = networks.iter().filter_map(|words| *words.first()?);
        let addresses = gateways.chain(own_addresses()).collect();
        let own = networks.iter().find_map(|words| *words.get(1)?).filter(|_| !on_host);
        Ok(Surroundings { standpoint: Standpoint { on_host, addresses }, mounts, peer: own.unwrap_or(loopback) })
    }
}

/// Where nginx stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Surroundings {
    pub standpoint: Standpoint,
    /// What of the host it has mounted, where it is in a container.
    pub mounts: Vec<Mount>,
    /// The address that Teal sees it come from.
    pub peer: IpAddr,
}

/// What a container has of its host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mount {
    pub source: String,
    pub destination: String,
}

fn children(pid: u32) -> BTreeSet<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Addresses of this host beside loopback, as the kernel routes them.
fn own_addresses() -> Vec<IpAddr> {
    let text = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut all = BTreeSet::new();
    let mut last = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<IpAddr>().ok();
        } else if line == "/32 host LOCAL" {
            all.extend(last.filter(|ip| !ip.is_loopback()));
        }
    }
    let text = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    for line in text.lines() {
        let hex = line.split_whitespace().next().unwrap_or_default();
        let address = u128::from_str_radix(hex, 16).map(|bits| IpAddr::V6(bits.into()));
        all.extend(address.into_iter().filter(|ip| !ip.is_loopback()));
    }
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_container_is_that_which_is_mounted_there() {
        let mut nginx =
            Nginx { program: "nginx".into(), config: None, prefix: None, container: Some("front".to_owned()) };
        let mount = |source: &str, destination: &str| Mount { source: source.into(), destination: destination.into() };
        let mounts = [mount("/srv/conf", "/etc/nginx/conf.d"), mount("/srv/nginx.conf", "/etc/nginx/nginx.conf")];
        for (path, is) in [
            ("/etc/nginx/nginx.conf", Some("/srv/nginx.conf")),
            ("/etc/nginx/conf.d/app.conf", Some("/srv/conf/app.conf")),
            ("/etc/nginx/conf.d2/app.conf", None),
        ] {
            assert_eq!(nginx.on_host(path, &mounts), is.map(PathBuf::from), "{path}");
        }
        nginx.container = None;
        assert_eq!(nginx.on_host("/etc/nginx/conf.d2/app.conf", &mounts), Some("/etc/nginx/conf.d2/app.conf".into()));
    }

    #[test]
    fn a_program_that_is_not_there_is_said_so() {
        let nginx = Nginx { program: "/nowhere/nginx".into(), config: None, prefix: None, container: None };
        let fault = nginx.test().unwrap_err();
        assert!(fault.what.contains("/nowhere/nginx cannot be run") && fault.hint.contains("--program"), "{fault:?}");
    }
}
