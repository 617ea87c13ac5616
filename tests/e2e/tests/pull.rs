//! Images from a registry: a tag is pulled at every deployment, and a tag that has not moved changes nothing.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, Stdio};
use std::time::Duration;
use teal_e2e::scenario::{IMAGE, web};
use teal_e2e::stage::{Stage, docker};
use teal_model::receipt::Outcome;

/// Debian's registry, on loopback and open to all.
struct Registry {
    server: Child,
    reference: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start(stage: &Stage) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}}}\nhttp: {{addr: \"{at}\"}}\n",
            folder.path().display()
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut server = Command::new("docker-registry");
        server.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let server = server.spawn().expect("Debian's docker-registry is installed (scripts/setup.sh)");
        stage.until("the registry listens", Duration::from_secs(10), || std::net::TcpStream::connect(at).is_ok());
        Self { server, reference: format!("{at}/app:latest"), _folder: folder }
    }

    /// The tag names an image with this label from now on, there and not here.
    fn push(&self, label: &str) {
        let context = tempfile::tempdir().unwrap();
        std::fs::write(context.path().join("Dockerfile"), format!("FROM {IMAGE}\nLABEL build={label}\n")).unwrap();
        let path = context.path().to_str().unwrap().to_owned();
        let built = Command::new("docker")
            .env("DOCKER_BUILDKIT", "0")
            .args(["build", "--quiet", "--tag", &self.reference, &path])
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        docker(&["push", &self.reference]);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        teal_e2e::stage::kill(self.server.id(), rustix::process::Signal::KILL);
        // It was killed a moment ago.
        let _ = self.server.wait();
        for label in ["one", "two"] {
            for id in docker(&["images", "--quiet", "--filter", &format!("label=build={label}")]).lines() {
                docker(&["rmi", "--force", id]);
            }
        }
    }
}

#[test]
fn a_tag_that_moved_is_deployed_and_one_that_did_not_changes_nothing() {
    let stage = Stage::new("pull");
    let registry = Registry::start(&stage);
    registry.push("one");
    docker(&["rmi", &registry.reference]);
    stage.compose(&web(1, "", "").replace(IMAGE, &registry.reference)).up();
    let first = stage.must_deploy("1");
    let release = &first.receipt().unwrap().releases[0];
    assert!(release.repo_digests.iter().any(|digest| digest.contains("@sha256:")), "{release:?}");
    let containers = stage.containers();
    let again = stage.deploy("1", &[]);
    assert_eq!(again.receipt().map(|receipt| &receipt.outcome), Some(&Outcome::Unchanged), "{again:#?}");
    assert_eq!(stage.containers(), containers);
    let one = docker(&["images", "--quiet", "--no-trunc", &registry.reference]).trim().to_owned();
    registry.push("two");
    // As on a host that has not heard of the push.
    docker(&["tag", &one, &registry.reference]);
    let moved = stage.must_deploy("1");
    assert_ne!(moved.receipt().unwrap().releases[0].image_id, one);
    assert_ne!(stage.containers(), containers);
    // Images go only when no container needs them.
    stage.must(&["remove", "--yes"]);
}
