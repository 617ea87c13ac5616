//! Credentials of a registry, from the places where `docker login` puts them.
//!
//! `credHelpers` (one registry) outranks `credsStore` (all), which outranks `auths` in the file itself.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A helper may ask a desktop's key ring; a server's answers at once.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);
const HELPER_OUTPUT: usize = 64 * 1024;
/// The user name that tells an identity token from a password.
const TOKEN_USER: &str = "<token>";

/// Never printed: `Debug` and errors leave the secrets out.
#[derive(Clone, Default, PartialEq)]
pub struct Credentials {
    user: String,
    password: String,
    identity_token: String,
    registry_token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    pub fn for_docker(&self, key: &str) -> DockerCredentials {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        DockerCredentials {
            username: some(&self.user),
            password: some(&self.password),
            serveraddress: Some(key.to_owned()),
            identitytoken: some(&self.identity_token),
            registrytoken: some(&self.registry_token),
            ..DockerCredentials::default()
        }
    }

    /// The text without these secrets.
    pub fn redact(&self, text: &str) -> String {
        let secrets = [&self.password, &self.identity_token, &self.registry_token];
        secrets
            .into_iter()
            .filter(|s| !s.is_empty())
            .fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ConfigFile {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// `$DOCKER_CONFIG`, else `~/.docker`; a service manager may start root without HOME.
pub fn config_dir() -> PathBuf {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("DOCKER_CONFIG").unwrap_or_else(|| var("HOME").unwrap_or_else(|| "/root".into()).join(".docker"))
}

/// Read anew for each pull, so that `docker login` counts at once. None: nothing is kept for that registry.
/// Err says what went wrong, without secrets; the pull may still succeed without credentials, as with Docker.
pub async fn find(dir: &Path, key: &str) -> Result<Option<Credentials>, String> {
    let path = dir.join("config.json");
    let text = match tokio::fs::read(&path).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
    };
    // The parser's own words may quote the file, so only the place is told.
    let config: ConfigFile = serde_json::from_slice(&text)
        .map_err(|e| format!("{} is not what Docker writes (line {})", path.display(), e.line()))?;
    let host = host_of(key);
    let helper = config.helpers.iter().find(|(k, _)| host_of(k) == host).map(|(_, helper)| helper);
    let kept = match helper.or(config.store.as_ref()).filter(|h| !h.is_empty()) {
        Some(helper) => ask_helper(helper, key).await?,
        None => None,
    };
    if kept.is_some() {
        return Ok(kept);
    }
    let entry =
        config.auths.get(key).or_else(|| config.auths.iter().find(|(k, _)| host_of(k) == host).map(|(_, entry)| entry));
    entry
        .map(|e| {
            from_entry(e).ok_or_else(|| {
                format!("{} holds an `auth` for {host} that is not base64 of USER:PASSWORD", path.display())
            })
        })
        .transpose()
        .map(|c| c.filter(|c| !c.is_empty()))
}

/// Old files keep `https://registry/v1/` where new ones keep `registry`.
fn host_of(key: &str) -> &str {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    match bare.split_once('/').map_or(bare, |(host, _)| host) {
        "docker.io" | "registry-1.docker.io" => "index.docker.io",
        host => host,
    }
}

fn from_entry(entry: &Entry) -> Option<Credentials> {
    let mut found = Credentials {
        user: entry.username.clone(),
        password: entry.password.clone(),
        identity_token: entry.identitytoken.clone(),
        registry_token: entry.registrytoken.clone(),
    };
    if !entry.auth.is_empty() {
        let bytes = STANDARD.decode(&entry.auth).or_else(|_| STANDARD_NO_PAD.decode(&entry.auth)).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (user, password) = text.split_once(':')?;
        found.user = user.to_owned();
        found.password = password.trim_end_matches('\0').to_owned();
    }
    Some(found)
}

/// The protocol of docker-credential-helpers: the registry on stdin, JSON on stdout. What a helper says when it
/// fails is kept out of errors: nobody knows what it prints.
async fn ask_helper(helper: &str, key: &str) -> Result<Option<Credentials>, String> {
    let program = format!("docker-credential-{helper}");
    if !helper.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err("the name of the credential helper in Docker's config.json is not a plain name".into());
    }
    let failed = |why: String| format!("the credential helper {program} {why}; try `echo {key} | {program} get`");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(format!("cannot be started: {e}")))?;
    let answer = tokio::time::timeout(HELPER_TIMEOUT, async {
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read its input may still answer.
            let _ = stdin.write_all(key.as_bytes()).await;
        }
        child.wait_with_output().await
    })
    .await
    .map_err(|_| failed(format!("did not answer within {} s", HELPER_TIMEOUT.as_secs())))?
    .map_err(|e| failed(format!("broke off: {e}")))?;
    if answer.stdout.len() > HELPER_OUTPUT {
        return Err(failed("answered with too much".into()));
    }
    if !answer.status.success() {
        // The only failure that means "there is none"; the words are fixed by the protocol.
        if String::from_utf8_lossy(&answer.stdout).contains("credentials not found in native keychain") {
            return Ok(None);
        }
        return Err(failed(format!("failed ({})", answer.status)));
    }
    let HelperAnswer { username, secret } =
        serde_json::from_slice(&answer.stdout).map_err(|_| failed("did not answer with JSON".into()))?;
    Ok(Some(if username == TOKEN_USER {
        Credentials { identity_token: secret, ..Credentials::default() }
    } else {
        Credentials { user: username, password: secret, ..Credentials::default() }
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn find_in(config: &str, key: &str) -> Result<Option<Credentials>, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        find(dir.path(), key).await
    }

    #[tokio::test]
    async fn auths_hold_user_and_password_in_base64() {
        let auth = STANDARD.encode("ann:p:a?>~");
        let found = find_in(&format!(r#"{{"auths":{{"registry:5000":{{"auth":"{auth}"}}}}}}"#), "registry:5000")
            .await
            .unwrap()
            .unwrap();
        assert_eq!((found.user.as_str(), found.password.as_str()), ("ann", "p:a?>~"));
        assert_eq!(found.redact("bad p:a?>~ here"), "bad *** here");
        assert!(!format!("{found:?}").contains("p:a"));
    }

    #[tokio::test]
    async fn keys_match_whatever_their_scheme_and_path() {
        let auth = STANDARD.encode("ann:x");
        for (kept, asked) in [
            ("https://index.docker.io/v1/", "https://index.docker.io/v1/"),
            ("docker.io", "https://index.docker.io/v1/"),
            ("https://reg.example/v2/", "reg.example"),
        ] {
            let found = find_in(&format!(r#"{{"auths":{{"{kept}":{{"auth":"{auth}"}}}}}}"#), asked).await.unwrap();
            assert!(found.is_some(), "{kept} {asked}");
        }
        assert_eq!(find_in(&format!(r#"{{"auths":{{"other":{{"auth":"{auth}"}}}}}}"#), "reg.example").await, Ok(None));
    }

    #[tokio::test]
    async fn an_identity_token_takes_the_place_of_a_password() {
        let found = find_in(r#"{"auths":{"r.example":{"identitytoken":"tok"}}}"#, "r.example").await.unwrap().unwrap();
        assert_eq!(found.for_docker("r.example").identitytoken.as_deref(), Some("tok"));
    }

    #[tokio::test]
    async fn a_marker_left_by_a_store_is_no_credential() {
        assert_eq!(find_in(r#"{"auths":{"r.example":{}}}"#, "r.example").await, Ok(None));
    }

    #[tokio::test]
    async fn a_broken_file_is_named_and_not_quoted() {
        let error = find_in(r#"{"auths":{"r.example":{"auth":"c2VjcmV0"#, "r.example").await.unwrap_err();
        assert!(error.contains("config.json") && !error.contains("c2VjcmV0"), "{error}");
        let error = find_in(r#"{"auths":{"r.example":{"auth":"c2VjcmV0"}}}"#, "r.example").await.unwrap_err();
        assert!(error.contains("USER:PASSWORD") && !error.contains("secret"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_helper_is_named() {
        let error = find_in(r#"{"credsStore":"teal-none"}"#, "r.example").await.unwrap_err();
        assert!(error.contains("docker-credential-teal-none"), "{error}");
        assert!(find_in(r#"{"credsStore":"../../bin/sh"}"#, "r.example").await.is_err());
    }
}
