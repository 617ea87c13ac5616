//! A place of its own in the real Docker for each test, swept when the test ends, however it ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use teal_agent::agent::Agent;
use teal_agent::journal::Journal;
use teal_agent::runtime::docker::DockerRuntime;
use teal_agent::runtime::{self, Container, ContainerSpec, NetworkSpec, Runtime, label};
use teal_agent::traffic::fake::FakeTraffic;
use teal_model::config::{ContainerSettings, Restart};
use tempfile::TempDir;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `docker`; panics with what it said when it fails.
pub fn docker(args: &[&str]) -> String {
    let done = Command::new("docker")
        .args(args)
        .output()
        .expect("these tests need the docker client and a daemon: run scripts/docker.sh");
    let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    assert!(
        done.status.success(),
        "docker {args:?} failed: {}{text}\nThese tests need a Docker daemon: run scripts/docker.sh as root",
        String::from_utf8_lossy(&done.stderr)
    );
    text
}

/// A static app in an image FROM scratch, shared by the tests that run at the same time.
pub struct AppImage {
    pub name: String,
    pub id: String,
    folder: TempDir,
}

impl AppImage {
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<AppImage>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let image = Arc::new(Self::build());
            *shared = Arc::downgrade(&image);
            image
        })
    }

    fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker_runtime/app.c");
        let compiled = Command::new("gcc")
            .args(["-static", "-O1", "-o"])
            .arg(folder.path().join("app"))
            .arg(source)
            .status()
            .expect("these tests need gcc");
        assert!(compiled.success());
        let mut image = Self { name: format!("teal-test-{}:1", unique()), id: String::new(), folder };
        image.id = image.variant(&image.name, "");
        image
    }

    /// The same app with more lines in its Dockerfile; returns the id.
    pub fn variant(&self, name: &str, lines: &str) -> String {
        let folder = self.folder.path().join(name.replace([':', '/'], "-"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(self.folder.path().join("app"), folder.join("app")).unwrap();
        // A layer of its own for each build, so that no build shares an id with another's.
        std::fs::write(folder.join("mark"), unique()).unwrap();
        std::fs::write(
            folder.join("Dockerfile"),
            format!("FROM scratch\nCOPY app mark /\nENTRYPOINT [\"/app\"]\nCMD [\"serve\"]\nEXPOSE 8080\n{lines}\n"),
        )
        .unwrap();
        let built = Command::new("docker")
            .env("DOCKER_BUILDKIT", "0")
            .args(["build", "-q", "-t", name])
            .arg(&folder)
            .output()
            .expect("docker");
        assert!(
            built.status.success(),
            "{}\nThese tests need a Docker daemon: run scripts/docker.sh as root",
            String::from_utf8_lossy(&built.stderr)
        );
        docker(&["image", "inspect", "-f", "{{.Id}}", name])
    }
}

impl Drop for AppImage {
    fn drop(&mut self) {
        sweep(&["rmi", "-f", &self.name]);
    }
}

/// Containers, networks, volumes and image names of one test, told by its own value of `teal.agent`.
pub struct Place {
    pub id: String,
    pub runtime: Arc<DockerRuntime>,
    pub image: Arc<AppImage>,
    pub network: String,
}

impl Place {
    pub async fn new() -> Self {
        let image = AppImage::shared();
        let id = unique();
        let runtime = Arc::new(DockerRuntime::from_env().unwrap());
        let place = Self { network: format!("{id}_net"), id, runtime, image };
        place.runtime.ensure_network(&place.network_spec(&place.network)).await.unwrap();
        place
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(label::AGENT.to_owned(), self.id.clone()), (label::SERVICE.to_owned(), "web".to_owned())])
    }

    pub fn network_spec(&self, name: &str) -> NetworkSpec {
        NetworkSpec { name: name.to_owned(), labels: self.labels(), ..Default::default() }
    }

    /// The first three numbers of a /24 that no network here has.
    pub fn free_subnet(&self) -> String {
        let own = docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", &self.network]);
        // Teal chooses from 172.20 on upwards, so far up nothing is.
        let third = own.split('.').nth(2).unwrap();
        format!("10.199.{third}")
    }

    pub fn at(&self, network: &str, aliases: &[&str]) -> runtime::Place {
        let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        runtime::Place { network: network.to_owned(), aliases, ..Default::default() }
    }

    pub fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.id)
    }

    /// A container of this test that runs the app with these words.
    pub fn spec(&self, what: &str, words: &[&str]) -> ContainerSpec {
        let settings = ContainerSettings {
            image: self.image.name.clone(),
            command: Some(words.iter().map(|w| (*w).to_owned()).collect()),
            restart: Restart::Always,
            ..ContainerSettings::default()
        };
        ContainerSpec {
            name: self.name(what),
            image_id: self.image.id.clone(),
            labels: self.labels(),
            settings,
            networks: vec![self.at(&self.network, &[what])],
            ..Default::default()
        }
    }

    pub async fn run(&self, spec: &ContainerSpec) -> Container {
        let made = self.runtime.ensure_container(spec).await.unwrap();
        self.runtime.start(&made.id).await.unwrap();
        self.seen(&made.id).await
    }

    pub async fn seen(&self, id: &str) -> Container {
        self.runtime.inspect(id).await.unwrap().expect("the container is there")
    }

    /// Looks until it is as wanted.
    pub async fn until(&self, id: &str, wanted: impl Fn(&Container) -> bool) -> Container {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.seen(id).await;
            if wanted(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "still {seen:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All that the app printed before it ended.
    pub async fn output(&self, spec: &ContainerSpec) -> String {
        let made = self.run(spec).await;
        self.until(&made.id, |c| matches!(c.status, teal_agent::runtime::Status::Exited { .. })).await;
        let lines = self.runtime.tail(&made.id, 1000).await.unwrap();
        lines.into_iter().map(|l| l.text).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let filter = format!("label={}={}", label::AGENT, self.id);
        let list = |args: &[&str]| sweep(&[args, &["-q", "--filter", &filter]].concat());
        for container in list(&["ps", "-a"]).lines() {
            sweep(&["rm", "-f", "-v", container]);
        }
        for network in list(&["network", "ls"]).lines() {
            sweep(&["network", "rm", network]);
        }
        for volume in list(&["volume", "ls"]).lines() {
            sweep(&["volume", "rm", volume]);
        }
    }
}

/// An agent on the real Docker, whose proxy is in memory; what it has made is swept with it.
pub struct Home {
    pub agent: Arc<Agent>,
    _dir: TempDir,
    _swept: Place,
}

impl Home {
    pub async fn new(place: &Place) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = Arc::new(Journal::open(dir.path()).unwrap());
        let (runtime, traffic) = (place.runtime.clone(), Arc::new(FakeTraffic::default()));
        let agent = Agent::start(dir.path().to_owned(), journal, runtime, traffic, None).await.unwrap();
        let (runtime, image) = (place.runtime.clone(), place.image.clone());
        let swept = Place { id: agent.id.clone(), runtime, image, network: place.network.clone() };
        Self { agent, _dir: dir, _swept: swept }
    }
}

/// In a destructor: a failure must not hide the test's own.
pub fn sweep(args: &[&str]) -> String {
    let done = Command::new("docker").args(args).stderr(Stdio::null()).output();
    done.map(|d| String::from_utf8_lossy(&d.stdout).trim().to_owned()).unwrap_or_default()
}

pub fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("tealtest{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Debian's registry on loopback, with one user.
pub struct Registry {
    pub at: String,
    folder: TempDir,
    server: Child,
    images: Vec<String>,
}

impl Registry {
    pub const USER: &str = "ann";
    /// Every alignment of the characters whose base64 differs between the two alphabets, and a colon.
    pub const PASSWORD: &str = ">>>???~~~:x";
    /// bcrypt of it.
    const HTPASSWD: &str = "ann:$2y$05$5rRwRPXigR.f1chOBZsI5O/v8KrCrz.M3y7YlWHEQdpeBNy60PDz.\n";

    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = format!("127.0.0.1:{port}");
        let dir = folder.path().display();
        std::fs::write(folder.path().join("htpasswd"), Self::HTPASSWD).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {dir}/data}}}}\nhttp: {{addr: \"{at}\"}}\nauth: {{htpasswd: {{realm: test, path: {dir}/htpasswd}}}}\n"
        );
        std::fs::write(folder.path().join("config.yml"), config).unwrap();
        let server = Command::new("docker-registry")
            .arg("serve")
            .arg(folder.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs Debian's docker-registry: apt-get install docker-registry");
        let registry = Self { at, folder, server, images: Vec::new() };
        let deadline = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(&registry.at).await.is_err() {
            assert!(Instant::now() < deadline, "the registry does not listen at {}", registry.at);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        registry
    }

    /// A folder for Docker's config.json with this text.
    pub fn config_dir(&self, name: &str, text: &str) -> PathBuf {
        let dir = self.folder.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("config.json"), text).unwrap();
        dir
    }

    pub fn auths(&self, user_and_password: &str) -> String {
        use base64::Engine as _;
        let auth = base64::engine::general_purpose::STANDARD.encode(user_and_password);
        format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, self.at)
    }

    /// The folder with credentials that the registry takes.
    pub fn good_config(&self) -> PathBuf {
        self.config_dir("good", &self.auths(&format!("{}:{}", Self::USER, Self::PASSWORD)))
    }

    /// Puts the image there and takes it away here; returns its reference.
    pub fn push(&mut self, image: &AppImage, name: &str) -> String {
        let reference = format!("{}/{name}", self.at);
        image.variant(&reference, "VOLUME /data");
        self.images.push(reference.clone());
        docker(&["--config", &self.good_config().display().to_string(), "push", &reference]);
        docker(&["rmi", &reference]);
        reference
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        for image in sweep(&["images", "-q", "--filter", &format!("reference={}/*/*", self.at)]).lines() {
            sweep(&["rmi", "-f", image]);
        }
        for image in &self.images {
            sweep(&["rmi", "-f", image]);
        }
    }
}
