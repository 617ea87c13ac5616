//! The way to the daemon: where it is, which API version both sides speak, and what its errors mean.

use super::super::{Result, RuntimeError};
use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};
use bytes::Bytes;
use hyper::Uri;
use hyper::header::HeaderValue;
use std::error::Error as _;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// Docker 20.10.
const OLDEST: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };
/// For calls that answer at once; a daemon that hangs must not hang a deployment.
pub const SHORT: Duration = Duration::from_secs(60);
/// The client's own limit on the time to a response head. Every short call is bounded by `SHORT` instead;
/// a pull or a stop answers when it is done.
const NEVER_SECONDS: u64 = 7 * 24 * 3600;

/// Connects on first use and again after every loss, and negotiates anew then: the daemon may have been upgraded.
pub struct Connection {
    at: String,
    negotiated: Mutex<Option<Docker>>,
}

impl Connection {
    pub fn from_env() -> Result<Self> {
        match std::env::var("DOCKER_HOST") {
            Ok(host) if !host.is_empty() => Self::at(&host),
            _ => Self::at(DEFAULT_HOST),
        }
    }

    pub fn at(host: &str) -> Result<Self> {
        if !host.starts_with("unix:///") {
            return Err(RuntimeError::Unreachable {
                at: host.to_owned(),
                why: "Teal runs on the Docker host itself and uses its Unix socket: set DOCKER_HOST to unix:///PATH, or unset it".into(),
            });
        }
        Ok(Self { at: host.to_owned(), negotiated: Mutex::new(None) })
    }

    pub async fn client(&self) -> Result<Docker> {
        if let Some(docker) = self.known().clone() {
            return Ok(docker);
        }
        let docker = self.negotiate().await?;
        *self.known() = Some(docker.clone());
        Ok(docker)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Docker>> {
        self.negotiated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn negotiate(&self) -> Result<Docker> {
        let connect = |version: &ClientVersion| Docker::connect_with_unix(&self.at, NEVER_SECONDS, version);
        let plain = connect(API_DEFAULT_VERSION).map_err(|e| self.fault("connecting", e))?;
        let theirs = bounded(plain.version()).await.map_err(|e| self.fault("asking for the version", e))?;
        let newest =
            theirs.api_version.as_deref().and_then(parse_version).ok_or_else(|| RuntimeError::Unreachable {
                at: self.at.clone(),
                why: "what answers there does not say which Docker API it speaks".into(),
            })?;
        if newest < OLDEST {
            return Err(RuntimeError::TooOld {
                at: self.at.clone(),
                theirs: newest.to_string(),
                ours: OLDEST.to_string(),
            });
        }
        let agreed = if newest < *API_DEFAULT_VERSION { newest } else { *API_DEFAULT_VERSION };
        let docker = connect(&agreed).map_err(|e| self.fault("connecting", e))?;
        Ok(docker.with_request_modifier(move |request| adjust(request, &agreed)))
    }

    /// Words an error of the client. After a lost connection the next call connects and negotiates again.
    pub fn fault(&self, what: impl Into<String>, error: Error) -> RuntimeError {
        let what = what.into();
        let why = match error {
            Error::DockerResponseServerError { status_code, message } => {
                if message.contains("client version") && message.contains("too new") {
                    *self.known() = None;
                }
                return answered(what, status_code, message);
            }
            Error::DockerStreamError { error } => return answered(what, 500, error),
            Error::RequestTimeoutError => format!("{what}: no answer within {} s", SHORT.as_secs()),
            Error::SocketNotFoundError(path) => match std::fs::metadata(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => "permission denied".into(),
                _ => "there is no such socket: the daemon is not running, or Docker is not installed".into(),
            },
            Error::HyperLegacyError { .. } | Error::HyperResponseError { .. } | Error::IOError { .. } => {
                root_cause(&error)
            }
            other => {
                return RuntimeError::Refused { what, why: other.to_string() };
            }
        };
        *self.known() = None;
        RuntimeError::Unreachable { at: self.at.clone(), why }
    }
}

/// Gives up after `SHORT`.
pub async fn bounded<T>(call: impl Future<Output = std::result::Result<T, Error>>) -> std::result::Result<T, Error> {
    tokio::time::timeout(SHORT, call).await.unwrap_or(Err(Error::RequestTimeoutError))
}

/// The HTTP status that the daemon answered with, when it answered.
pub fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn answered(what: String, status: u16, why: String) -> RuntimeError {
    let name = |prefix: &str| why.split_once(prefix).map(|(_, name)| name.trim().to_owned());
    let lower = why.to_lowercase();
    if lower.contains("no space left on device") || lower.contains("disk quota exceeded") {
        return RuntimeError::DiskFull { why };
    }
    if status == 404 {
        if let Some(name) = name("No such container:") {
            return RuntimeError::NotFound { kind: "container", name };
        }
        if let Some(name) = name("No such image:") {
            return RuntimeError::NotFound { kind: "image", name };
        }
        if let Some(name) = why.strip_prefix("network ").and_then(|rest| rest.strip_suffix(" not found")) {
            return RuntimeError::NotFound { kind: "network", name: name.to_owned() };
        }
    }
    RuntimeError::Refused { what, why }
}

/// Two things that the client leaves out: the negotiated version in the path (without it the daemon takes its own
/// newest), and the URL-safe base64 of credentials (the daemon takes others for no credentials at all).
fn adjust(mut request: BollardRequest, version: &ClientVersion) -> BollardRequest {
    let prefix = format!("/v{version}");
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    if !path.starts_with(&prefix) {
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = format!("{prefix}{path}").parse().ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    if let Some(auth) = request.headers_mut().get_mut("x-registry-auth")
        && let Ok(text) = auth.to_str()
        && let Ok(mut safe) = HeaderValue::from_str(&text.replace('+', "-").replace('/', "_"))
    {
        safe.set_sensitive(true);
        *auth = safe;
    }
    request
}

/// For one call that creates a container: its address goes to the top of the body, where API 1.43 and older look for it and
/// the client's types, those of a newer API, have no place.
pub fn with_mac(docker: Docker, body: &ContainerCreateBody, mac: &str) -> Docker {
    let version = docker.client_version();
    let mut body = serde_json::to_value(body).unwrap_or_default();
    body["MacAddress"] = mac.into();
    let bytes = Bytes::from(body.to_string());
    docker.with_request_modifier(move |request| {
        let mut request = adjust(request, &version);
        *request.body_mut() = bollard::body_full(bytes.clone());
        request
    })
}

pub fn parse_version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

/// `connection refused` says more than `error in the client: error trying to connect`.
fn root_cause(error: &Error) -> String {
    let mut deepest = error.source();
    let mut text = error.to_string();
    while let Some(cause) = deepest {
        text = cause.to_string();
        deepest = cause.source();
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_over_the_network_is_refused_by_name() {
        for host in ["tcp://10.0.0.1:2375", "ssh://host", "docker.sock", "unix://relative.sock"] {
            let error = Connection::at(host).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(host) && error.contains("unix:///PATH"), "{error}");
        }
    }

    #[tokio::test]
    async fn no_socket_is_unreachable_with_where() {
        let error = Connection::at("unix:///nowhere/docker.sock").unwrap().client().await.unwrap_err();
        assert!(
            matches!(&error, RuntimeError::Unreachable { at, .. } if at == "unix:///nowhere/docker.sock"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_unreachable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let error = Connection::at(&format!("unix://{}", path.display())).unwrap().client().await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
    }

    /// A daemon that answers `/version` like this, and everything else with `OK`; the paths that it was asked for.
    async fn daemon(dir: &std::path::Path, version: &'static str) -> (String, std::sync::Arc<Mutex<Vec<String>>>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let path = dir.join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let asked = std::sync::Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let n = socket.read(&mut head).await.unwrap();
                let target = String::from_utf8_lossy(&head[..n]).split(' ').nth(1).unwrap().to_owned();
                let body = if target.ends_with("/version") { version } else { "OK" };
                log.lock().unwrap().push(target);
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (format!("unix://{}", path.display()), asked)
    }

    #[tokio::test]
    async fn every_request_names_the_version_that_both_sides_speak() {
        for (theirs, agreed) in [
            (r#"{"ApiVersion":"1.41"}"#, "/v1.41/_ping"),
            (r#"{"ApiVersion":"1.99","MinAPIVersion":"1.44"}"#, "/v1.53/_ping"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (at, asked) = daemon(dir.path(), theirs).await;
            let connection = Connection::at(&at).unwrap();
            connection.client().await.unwrap().ping().await.unwrap();
            assert_eq!(asked.lock().unwrap().last().unwrap(), agreed);
        }
    }

    #[tokio::test]
    async fn a_daemon_before_20_10_is_too_old() {
        let dir = tempfile::tempdir().unwrap();
        let (at, _) = daemon(dir.path(), r#"{"ApiVersion":"1.40"}"#).await;
        let error = Connection::at(&at).unwrap().client().await.unwrap_err();
        assert!(matches!(&error, RuntimeError::TooOld { theirs, .. } if theirs == "1.40"), "{error}");
    }

    #[tokio::test]
    async fn the_version_is_negotiated_anew_after_the_daemon_went_away() {
        let dir = tempfile::tempdir().unwrap();
        let (at, asked) = daemon(dir.path(), r#"{"ApiVersion":"1.41"}"#).await;
        let connection = Connection::at(&at).unwrap();
        connection.client().await.unwrap();
        connection.client().await.unwrap();
        assert_eq!(asked.lock().unwrap().len(), 1);
        connection.fault("x", Error::IOError { err: std::io::Error::other("gone") });
        connection.client().await.unwrap();
        assert_eq!(asked.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_full_disk_is_told_from_other_refusals() {
        let full = answered("x".into(), 500, "write /var/lib/docker/tmp/a: no space left on device".into());
        assert!(matches!(full, RuntimeError::DiskFull { .. }));
        assert!(matches!(answered("x".into(), 500, "else".into()), RuntimeError::Refused { .. }));
        assert!(
            matches!(answered("x".into(), 404, "No such container: abc".into()), RuntimeError::NotFound { kind: "container", name } if name == "abc")
        );
        assert!(
            matches!(answered("x".into(), 404, "network n not found".into()), RuntimeError::NotFound { kind: "network", name } if name == "n")
        );
    }

    /// The client logs request bodies, environment and all, at debug level; such lines are compiled out.
    #[test]
    fn the_client_cannot_log_request_bodies() {
        const { assert!(log::STATIC_MAX_LEVEL as usize <= log::LevelFilter::Info as usize) }
    }
}
