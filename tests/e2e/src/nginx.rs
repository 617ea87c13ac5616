//! An nginx of the host, with a prefix, ports and processes of its own: never the one that the system runs.

use crate::stage::kill;
use rustix::process::Signal;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Dropped, its processes end and its folder goes.
pub struct Nginx {
    child: Child,
    prefix: tempfile::TempDir,
}

impl Nginx {
    /// Runs until dropped. `main` and `http` are what the configuration says outside and inside of its http block; `files`
    /// lie beside it, for `include`. Returns when `address` takes connections.
    pub fn start(main: &str, http: &str, files: &[(&str, &str)], address: SocketAddr) -> io::Result<Self> {
        let prefix = tempfile::Builder::new().prefix("teal-nginx-").tempdir()?;
        // The workers are another user, and put large bodies here.
        std::fs::set_permissions(prefix.path(), std::fs::Permissions::from_mode(0o755))?;
        for (name, text) in files {
            std::fs::write(prefix.path().join(name), text)?;
        }
        configure(prefix.path(), main, http)?;
        let mut command = of(prefix.path());
        command.args(["-g", "daemon off;"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut nginx = Self { child: command.spawn()?, prefix };
        let deadline = Instant::now() + Duration::from_secs(5);
        while std::net::TcpStream::connect(address).is_err() {
            if let Some(status) = nginx.child.try_wait()? {
                return Err(io::Error::other(format!("nginx: {status}\n{}", nginx.errors())));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("nginx does not listen on {address}\n{}", nginx.errors())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(nginx)
    }

    /// Another configuration; `signal("reload")` lets it be read.
    pub fn configure(&self, main: &str, http: &str) -> io::Result<()> {
        configure(self.prefix.path(), main, http)
    }

    /// `nginx -s NAME`, as its admin says it.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let output = of(self.prefix.path()).args(["-s", name]).output()?;
        well(&output)
            .then_some(())
            .ok_or_else(|| io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    pub fn prefix(&self) -> &Path {
        self.prefix.path()
    }

    pub fn master(&self) -> u32 {
        self.child.id()
    }

    pub fn workers(&self) -> Vec<u32> {
        let master = self.master();
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.prefix.path().join("error.log")).unwrap_or_default()
    }
}

/// `nginx/1.22.1`
pub fn version() -> io::Result<String> {
    let output = Command::new("nginx").arg("-v").output()?;
    Ok(String::from_utf8_lossy(&output.stderr).trim().replace("nginx version: ", ""))
}

fn of(prefix: &Path) -> Command {
    let mut command = Command::new("nginx");
    command.arg("-p").arg(prefix).arg("-c").arg(prefix.join("nginx.conf"));
    command
}

fn well(output: &Output) -> bool {
    output.status.success()
}

fn configure(prefix: &Path, main: &str, http: &str) -> io::Result<()> {
    let dir = prefix.display();
    let text = format!(
        "pid {dir}/nginx.pid; error_log {dir}/error.log;
{main}
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
{http}
}}
"
    );
    std::fs::write(prefix.join("nginx.conf"), text)
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers outlive a master that is killed, so it is told to end, and they with it.
        kill(self.child.id(), Signal::TERM);
        // It was just told to end; there is nobody left to tell if it cannot be waited for.
        let _ = self.child.wait();
    }
}
