//! Asks the agent: one HTTP request a connection, over its unix socket.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;
use teal_model::api::{self, Hello};
use teal_model::fault::{Code, Fault};
use tokio::net::UnixStream;

/// For an answer to begin; long work is followed by its events.
const PATIENCE: Duration = Duration::from_secs(60);
/// Removing waits for every container's own grace period.
pub const LONG_PATIENCE: Duration = Duration::from_secs(3600);
/// One line of a stream; a longer one is not the agent's.
const LONGEST_LINE: usize = 16 * 1024 * 1024;

#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    any_version: bool,
    patience: Duration,
}

impl Client {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, any_version: false, patience: PATIENCE }
    }

    /// For `down`: an agent of another version can still be told to end, which is the way out of the mismatch.
    /// A request that names no version is refused for none.
    pub fn any_version(mut self) -> Self {
        self.any_version = true;
        self
    }

    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub async fn hello(&self) -> Result<Hello, Fault> {
        self.get("/v1/hello").await
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Fault> {
        value(self.ask(Method::GET, path, None, false).await?).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Fault> {
        value(self.ask(Method::POST, path, Some(json(body)?), false).await?).await
    }

    /// An answer of one JSON value a line, for as long as the agent sends.
    pub async fn lines(&self, path: &str) -> Result<Lines, Fault> {
        let body = self.ask(Method::GET, path, None, false).await?.into_body();
        Ok(Lines { body, buffer: Vec::new() })
    }

    /// A connection of its own for both directions.
    pub async fn upgrade(&self, path: &str, body: &impl Serialize) -> Result<TokioIo<hyper::upgrade::Upgraded>, Fault> {
        let response = self.ask(Method::POST, path, Some(json(body)?), true).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Fault::new(
                Code::Internal,
                format!("the agent answered {} where 101 was expected", response.status()),
            ));
        }
        hyper::upgrade::on(response).await.map(TokioIo::new).map_err(|error| went_away(&error))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        upgrade: bool,
    ) -> Result<Response<Incoming>, Fault> {
        let response = match tokio::time::timeout(self.patience, self.send(method, path, body, upgrade)).await {
            Ok(response) => response?,
            Err(_) => {
                let what = format!(
                    "the agent at {} gave no answer within {} s",
                    self.socket.display(),
                    self.patience.as_secs()
                );
                return Err(Fault::new(Code::NoAgent, what).hint("see `agent.log` in its state directory"));
            }
        };
        if !self.any_version {
            self.check_version(&response, path).await?;
        }
        if response.status().is_client_error() || response.status().is_server_error() {
            return Err(fault(response).await);
        }
        Ok(response)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        upgrade: bool,
    ) -> Result<Response<Incoming>, Fault> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| went_away(&error))?;
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "teal")
            .header(header::CONTENT_TYPE, "application/json");
        if !self.any_version {
            request = request.header(api::VERSION_HEADER, api::VERSION);
        }
        if upgrade {
            request = request.header(header::CONNECTION, "upgrade").header(header::UPGRADE, "teal-exec");
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| Fault::new(Code::Internal, format!("a request could not be built: {error}")))?;
        sender.send_request(request).await.map_err(|error| went_away(&error))
    }

    async fn check_version(&self, response: &Response<Incoming>, path: &str) -> Result<(), Fault> {
        let theirs = response.headers().get(api::VERSION_HEADER).and_then(|value| value.to_str().ok());
        if theirs.and_then(|text| text.parse().ok()) == Some(api::VERSION) {
            return Ok(());
        }
        let version = if path == "/v1/hello" { None } else { self.version_of_agent().await };
        Err(Fault::new(
            Code::AgentVersion,
            format!(
                "the agent{} speaks API {}, this command (teal {}) speaks API {}",
                version.map(|version| format!(" (teal {version})")).unwrap_or_default(),
                theirs.unwrap_or("of an unknown version"),
                env!("CARGO_PKG_VERSION"),
                api::VERSION
            ),
        ))
    }

    /// Read as loosely as can be, since another version may have changed everything else.
    async fn version_of_agent(&self) -> Option<String> {
        let response = tokio::time::timeout(Duration::from_secs(5), self.send(Method::GET, "/v1/hello", None, false))
            .await
            .ok()?
            .ok()?;
        let body = response.into_body().collect().await.ok()?.to_bytes();
        let hello: serde_json::Value = serde_json::from_slice(&body).ok()?;
        Some(hello.get("version")?.as_str()?.to_owned())
    }

    fn unreachable(&self, error: &std::io::Error) -> Fault {
        let socket = self.socket.display();
        match error.kind() {
            ErrorKind::NotFound => Fault::new(Code::NoAgent, format!("no agent runs here: there is no {socket}")),
            ErrorKind::ConnectionRefused => {
                Fault::new(Code::NoAgent, format!("no agent runs here: nobody answers at {socket}"))
            }
            ErrorKind::PermissionDenied => Fault::new(Code::NoAgent, format!("this user may not use {socket}"))
                .hint("run the command as the agent's user (`sudo teal ...`)"),
            _ => Fault::new(Code::NoAgent, format!("cannot reach the agent at {socket}: {error}")),
        }
    }
}

/// A stream of JSON values, one a line.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    /// None: the agent has said all. Safe to cancel: what was read stays in the buffer.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Fault> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return serde_json::from_slice(&line).map(Some).map_err(|error| unreadable(&error));
            }
            if self.buffer.len() > LONGEST_LINE {
                return Err(Fault::new(Code::Internal, "the agent sent a line without an end"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(went_away(&error)),
                Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..])),
            }
        }
    }
}

/// `a b/c` as a part of a query.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn json(body: &impl Serialize) -> Result<Vec<u8>, Fault> {
    // Serde's message, not the value: a request may hold secrets.
    serde_json::to_vec(body)
        .map_err(|error| Fault::new(Code::Internal, format!("a request could not be written: {error}")))
}

async fn value<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, Fault> {
    let body = response.into_body().collect().await.map_err(|error| went_away(&error))?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| unreadable(&error))
}

async fn fault(response: Response<Incoming>) -> Fault {
    let status = response.status();
    let body = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return went_away(&error),
    };
    serde_json::from_slice(&body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&body);
        Fault::new(Code::Internal, format!("the agent answered {status}"))
            .detail(text.lines().take(10).map(str::to_owned).collect())
    })
}

fn unreadable(error: &serde_json::Error) -> Fault {
    Fault::new(Code::Internal, format!("the agent's answer cannot be read: {error}"))
}

fn went_away(error: &hyper::Error) -> Fault {
    Fault::new(Code::NoAgent, format!("the connection to the agent broke: {error}"))
        .hint("see `teal status`; what was asked for goes on in the agent if it had arrived there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_holds_any_name() {
        assert_eq!(encode("shop-1_a"), "shop-1_a");
        assert_eq!(encode("a b&c=d/ä"), "a%20b%26c%3Dd%2F%C3%A4");
    }
}
