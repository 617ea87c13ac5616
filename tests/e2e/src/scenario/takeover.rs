//! The port of an nginx on this host comes to Teal under load: nginx serves, both do, Teal does.

use super::nginx::MAIN;
use super::web;
use crate::nginx::Nginx;
use crate::prober::{Clients, Config, Handle, Pace, Prober, Report};
use crate::stage::{Stage, free_port};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

pub struct Takeover {
    pub stage: Stage,
    pub nginx: Nginx,
    /// Where nginx listens.
    pub address: SocketAddr,
    /// Where it listens besides.
    pub other: SocketAddr,
}

/// What the clients of the port saw.
pub struct Seen {
    /// A connection for each request, one in five of them slow.
    pub new: Report,
    pub kept: Report,
    /// What `teal takeover` said, and whether it ended well.
    pub said: String,
    pub well: bool,
    /// Answers by nginx and by Teal while both listened.
    pub both: (u64, u64),
}

/// The version that nginx gives to every answer, so that it is told from Teal's own.
pub const BY_NGINX: &str = "nginx";

impl Takeover {
    /// Teal behind nginx, and a compose file that publishes nginx's port as well.
    pub fn start(name: &str, listen: &str) -> io::Result<Self> {
        let stage = Stage::new(name);
        stage.compose(&web(1, "", "")).up();
        stage.must_deploy("0");
        let [address, other] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let http = http(&stage, &[&format!("{address} {listen}"), &other.to_string()]);
        let nginx = Nginx::start(MAIN, &http, &[], address)?;
        let text = web(1, "", "").replace("\"PORT:8080\"", &format!("\"PORT:8080\", \"{address}:8080\""));
        stage.compose(&text);
        Ok(Self { stage, nginx, address, other })
    }

    /// nginx answers by itself, and the app is not deployed yet: its first release boots for three seconds.
    pub fn first(name: &str) -> io::Result<Self> {
        let stage = Stage::new(name);
        let [address, other] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let http = format!(
            "  server {{ listen {address}; listen {other}; location / {{ add_header X-Version {BY_NGINX}; return 200 \"here\\n\"; }} }}"
        );
        let nginx = Nginx::start(MAIN, &http, &[], address)?;
        let text = web(1, "", "      BOOT_MS: 3000\n      HEALTH: \"${HEALTH:-ok}\"")
            .replace("\"PORT:8080\"", &format!("\"{address}:8080\""))
            .replace("interval: 50ms", "interval: 50ms, deadline: 5s");
        stage.compose(&text).up();
        Ok(Self { stage, nginx, address, other })
    }

    /// What the file was before: nginx has its port alone.
    pub fn forget_port(&self) {
        self.stage.compose(&web(1, "", ""));
    }

    /// nginx goes on with its other port alone.
    pub fn give_up(&self) -> io::Result<()> {
        self.nginx.configure(MAIN, &http(&self.stage, &[&self.other.to_string()]))?;
        self.nginx.signal("reload")
    }

    /// `stop`: what the operator does once Teal serves as well.
    pub fn run(&self, stop: impl FnOnce(&Self) -> io::Result<()>) -> io::Result<Seen> {
        let new = Prober::start(self.load(true))?;
        let kept = Prober::start(self.load(false))?;
        std::thread::sleep(Duration::from_millis(500));
        let mut takeover = self
            .stage
            .command(&["takeover", &self.address.port().to_string(), "--yes"])
            .env("VERSION", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = takeover.stderr.take().ok_or_else(|| io::Error::other("no pipe from teal"))?;
        let (mut said, mut stop, mut both) = (String::new(), Some(stop), (0, 0));
        for line in BufReader::new(output).lines() {
            let line = line?;
            if line.contains("is served by Teal, and by nginx")
                && let Some(stop) = stop.take()
            {
                both = self.while_both(&new);
                stop(self)?;
            }
            said.push_str(&line);
            said.push('\n');
        }
        let well = takeover.wait()?.success();
        // Alone for a while.
        std::thread::sleep(Duration::from_secs(1));
        Ok(Seen { new: new.stop()?, kept: kept.stop()?, said, well, both })
    }

    /// Answers of the one and of the other within two seconds.
    fn while_both(&self, prober: &Handle) -> (u64, u64) {
        let answers = |version: &str| {
            let snapshot = prober.snapshot();
            snapshot.by_version.iter().filter(|(known, _)| known == version).map(|(_, count)| *count).sum::<u64>()
        };
        let before = (answers(BY_NGINX), answers("1"));
        std::thread::sleep(Duration::from_secs(2));
        (answers(BY_NGINX) - before.0, answers("1") - before.1)
    }

    pub fn load(&self, closes: bool) -> Config {
        let clients = Clients { post_share: 0.3, slow_share: if closes { 0.2 } else { 0.0 }, ..Clients::mixed(32) };
        let clients = Clients { slow_max: Duration::from_secs(1), ..clients };
        let mut config = Config::new(self.address).with(clients.pace(Pace::per_second(20.0)));
        if closes {
            config.headers.push(("Connection".to_owned(), "close".to_owned()));
        }
        config
    }
}

fn http(stage: &Stage, listen: &[&str]) -> String {
    let servers = listen.iter().map(|listen| {
        format!(
            "  server {{
    listen {listen};
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $http_host;
      proxy_hide_header X-Version; add_header X-Version {BY_NGINX} always;
    }}
  }}\n"
        )
    });
    format!("  upstream app {{ server {}; keepalive 64; }}\n{}", stage.address(), servers.collect::<String>())
}
