//! An nginx of the host whose one site is edited, as `teal adopt nginx` does it.

use crate::stage::{Stage, free_port};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// Dropped, it ends.
pub struct Site {
    folder: PathBuf,
    port: u16,
}

const MAIN: &str = "pid nginx.pid;
error_log error.log notice;
worker_processes 2;
worker_shutdown_timeout 10s;
events { worker_connections 1024; }
http {
    access_log off;
    include conf.d/*.conf;
}
";

impl Site {
    /// `conf.d/app.conf`; `FRONT` stands for the address that it listens on.
    pub fn start(stage: &Stage, app: &str) -> Self {
        let folder = stage.root().join("nginx");
        let nginx = Self { port: free_port(), folder };
        let written = std::fs::create_dir_all(nginx.folder.join("conf.d"))
            .and_then(|()| std::fs::write(nginx.folder.join("nginx.conf"), MAIN))
            .and_then(|()| std::fs::write(nginx.app(), app.replace("FRONT", &nginx.address().to_string())));
        written.unwrap_or_else(|error| panic!("{}: {error}", nginx.folder.display()));
        let output = nginx.run(&[]);
        assert!(output.status.success(), "nginx: {}", String::from_utf8_lossy(&output.stderr));
        stage.until("nginx listens", Duration::from_secs(5), || std::net::TcpStream::connect(nginx.address()).is_ok());
        nginx
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn app(&self) -> PathBuf {
        self.folder.join("conf.d/app.conf")
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How Teal is told to call it.
    pub fn arguments(&self) -> Vec<String> {
        let folder = self.folder.display();
        vec![format!("--prefix={folder}"), format!("--config={folder}/nginx.conf")]
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("error.log")).unwrap_or_default()
    }

    fn run(&self, more: &[&str]) -> Output {
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&self.folder).arg("-c").arg(self.folder.join("nginx.conf")).args(more);
        command.output().unwrap_or_else(|error| panic!("nginx cannot be run: {error}"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.run(&["-s", "stop"]);
    }
}
