//! `sample-app healthcheck`: a container's HEALTHCHECK where the image holds nothing but this binary.

use crate::log;
use crate::settings::Settings;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

/// `GET /health` on the management port, or else the app's own; succeeds on 200 alone.
pub fn run(settings: &Settings) -> ExitCode {
    let port = settings.management_port.unwrap_or(settings.port);
    match ask(port) {
        Ok(status) if status.starts_with("HTTP/1.1 200 ") => ExitCode::SUCCESS,
        Ok(status) => {
            log::line(status.lines().next().unwrap_or("an empty answer"));
            ExitCode::FAILURE
        }
        Err(error) => {
            log::line(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn ask(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
