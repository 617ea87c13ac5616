//! A project of three services, an engine and a proxy that outlive the agent, and what must be true at every moment.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use teal_agent::agent::Agent;
use teal_agent::journal::Journal;
use teal_agent::runtime::fake::{App, FakeRuntime, Moment};
use teal_agent::runtime::{Status, label};
use teal_agent::traffic::fake::FakeTraffic;
use teal_model::api::DeployRequest;
use teal_model::config::{
    Attachment, ContainerSettings, DEFAULT_NETWORK, Health, Mode, Network, Port, Probe, Project, PullPolicy, Restart,
    Retain, Service, ServiceSettings, Strategy,
};
use teal_model::deployment::State;
use teal_model::ids::ServiceKey;
use teal_model::plan::Choice;
use teal_model::wire::RouteTable;

/// Not watched once it has its requests, and nothing of it is kept warm: tests that are about that say so.
pub fn service(name: &str, image: &str, strategy: Strategy, port: u16) -> Service {
    Service {
        name: name.to_owned(),
        container: ContainerSettings {
            image: image.to_owned(),
            environment: BTreeMap::from([("PASSWORD".to_owned(), "hunter2-in-the-clear".to_owned())]),
            restart: Restart::Always,
            ..Default::default()
        },
        pull_policy: PullPolicy::Never,
        ports: vec![Port {
            host_ip: Some("127.0.0.1".parse().unwrap()),
            published: port,
            target: 8080,
            ..Default::default()
        }],
        networks: BTreeMap::from([(DEFAULT_NETWORK.to_owned(), Attachment::default())]),
        replicas: 2,
        teal: ServiceSettings {
            mode: Mode::Http,
            strategy: Some(strategy),
            health: Health { probe: Probe::None, deadline_ms: 5_000, ..Health::default() },
            bake_ms: 0,
            retain: Retain::For { ms: 0 },
            ..ServiceSettings::default()
        },
        ..Default::default()
    }
}

/// `db` is recreated, `web` and `api` are blue-green: one deployment goes through every state there is.
pub fn request(version: &str) -> DeployRequest {
    let image = format!("app:{version}");
    let web = format!("web:{version}");
    let services = [
        service("api", &image, Strategy::BlueGreen, 8001),
        service("db", &image, Strategy::Recreate, 8002),
        service("web", &web, Strategy::BlueGreen, 8003),
    ];
    DeployRequest {
        project: Project {
            name: "shop".to_owned(),
            directory: "/srv/shop".to_owned(),
            networks: BTreeMap::from([(
                DEFAULT_NETWORK.to_owned(),
                Network { name: "shop_default".to_owned(), ..Default::default() },
            )]),
            services: services.into_iter().map(|service| (service.name.clone(), service)).collect(),
            ..Default::default()
        },
        choice: Choice::default(),
        who: "test".to_owned(),
    }
}

pub async fn start(dir: &Path, engine: &FakeRuntime, traffic: &FakeTraffic) -> Arc<Agent> {
    let journal = Arc::new(Journal::open(dir).unwrap());
    let serving = traffic.table().map(|table| (*table).clone());
    Agent::start(dir.to_owned(), journal, Arc::new(engine.clone()), Arc::new(traffic.clone()), serving).await.unwrap()
}

/// One life of an agent: everything it spawned dies with the runtime, as with `kill -9`.
pub fn life<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let value = runtime.block_on(async {
        // An end that never comes is a failure, not a hang.
        tokio::time::timeout(Duration::from_secs(3600), body).await.expect("it ends within an hour of paused time")
    });
    runtime.shutdown_background();
    value
}

pub async fn until_ended(agent: &Agent, deployment: u64) -> State {
    while agent.handle(deployment).is_some() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    agent.journal.deployment(deployment).unwrap().unwrap().deployment.state
}

/// Invariant 1, as far as tables tell: every service that was live has a backend in every table, or holds its requests.
pub fn every_table_serves_or_holds(traffic: &FakeTraffic, from: usize) {
    for table in &traffic.proxy().tables[from..] {
        for name in ["api", "db", "web"] {
            let key = ServiceKey::new("shop", name);
            let entry = table.services.get(&key).unwrap_or_else(|| panic!("{key} is in table {}", table.number));
            let backends = entry
                .releases
                .iter()
                .filter(|release| entry.split.iter().any(|share| share.release == release.release))
                .map(|release| release.backends.len())
                .sum::<usize>();
            assert!(entry.holding || backends > 0, "{key} has no backend in table {}: {entry:#?}", table.number);
            assert!(name == "db" || !entry.holding, "{key} is blue-green and never holds");
        }
    }
}

pub fn only_live_is_left(engine: &FakeRuntime, table: &RouteTable, image: &str) {
    let (holders, replicas): (Vec<_>, Vec<_>) =
        engine.containers().into_iter().partition(|container| container.labels.contains_key(label::HOLDER));
    let mut there: Vec<String> = replicas.iter().map(|container| container.name.clone()).collect();
    there.sort();
    assert_eq!(there.len(), 6, "two replicas of three services are left, not {there:?}");
    for service in ["api", "db", "web"] {
        let holder = holders.iter().find(|holder| holder.labels[label::SERVICE] == service).unwrap();
        assert_eq!(holder.status, Status::Running, "{} runs", holder.name);
        let address = IpAddr::V4(holder.networks["shop_default"].ipv4.unwrap());
        assert_eq!(engine.resolve("shop_default", service), [address], "the name is the holder's alone");
    }
    assert_eq!(holders.len(), 3);
    for container in replicas {
        assert!(container.labels[label::SERVICE] == "web" || container.image_id == image, "{} is live", container.name);
        assert_eq!(engine.restart_policy(&container.id), Some(Restart::Always), "{} is live", container.name);
        let key = ServiceKey::new("shop", &container.labels[label::SERVICE]);
        let entry = &table.services[&key];
        let backends: Vec<&str> =
            entry.releases.iter().flat_map(|release| &release.backends).map(|backend| backend.id.0.as_str()).collect();
        assert!(backends.iter().any(|backend| backend.starts_with(&container.id)), "{} serves", container.name);
        assert_eq!(backends.len(), 2);
        assert!(!entry.holding);
    }
    assert_eq!(engine.networks(), ["shop_default"]);
}

/// A container that is being stopped must not be in the table (invariant 3).
pub fn stops_only_what_is_out_of_the_table(engine: &FakeRuntime, traffic: &FakeTraffic) {
    let (world, proxy) = (engine.clone(), traffic.clone());
    engine.hook(move |effect, moment| {
        use teal_agent::runtime::fake::{Fault, Op};
        if moment == Moment::Before && matches!(effect.op, Op::Stop | Op::Remove) {
            let container = world
                .containers()
                .into_iter()
                .find(|container| container.name == effect.on || container.id == effect.on);
            if let (Some(table), Some(id)) = (proxy.table(), container.map(|container| container.id)) {
                let listed = table
                    .services
                    .values()
                    .flat_map(|service| &service.releases)
                    .flat_map(|release| &release.backends)
                    .any(|backend| backend.id.0.starts_with(&id));
                assert!(!listed, "{effect:?} of a container that table {} still names", table.number);
            }
        }
        Fault::None
    });
}

pub enum Died {
    Engine,
    Proxy,
    Not(State),
}

pub fn deploy_and_die(dir: &Path, engine: &FakeRuntime, traffic: &FakeTraffic, version: &str) -> Died {
    life(async {
        let deploy = async {
            let agent = start(dir, engine, traffic).await;
            let accepted = agent.deploy(request(version)).await.unwrap();
            until_ended(&agent, accepted.deployment).await
        };
        tokio::select! {
            biased;
            () = engine.crashed() => Died::Engine,
            () = traffic.crashed() => Died::Proxy,
            state = deploy => Died::Not(state),
        }
    })
}

pub struct Stage {
    pub dir: tempfile::TempDir,
    pub engine: FakeRuntime,
    pub traffic: FakeTraffic,
    /// Ids of v1 and v2.
    pub images: [String; 2],
}

/// v1 is live, v2 behaves as told.
pub fn stage(app: App) -> Stage {
    let (dir, engine, traffic) = (tempfile::tempdir().unwrap(), FakeRuntime::new(), FakeTraffic::default());
    let images = [engine.add_image("app:v1", good()).id, engine.add_image("app:v2", good()).id];
    // The last member in flip order, so that a revert has all the others to take back.
    let web = engine.add_image("web:v2", app);
    engine.add_image("web:v1", good());
    engine.change_image(&web.id, |image| image.has_healthcheck = true);
    assert!(matches!(deploy_and_die(dir.path(), &engine, &traffic, "v1"), Died::Not(State::Done)));
    Stage { dir, engine, traffic, images }
}

/// Deploys v2 with a death planned, lets a second agent end it, and returns how it ended; None: there was no such point.
pub fn die_once(app: App, plan: impl FnOnce(&FakeRuntime, &FakeTraffic)) -> Option<State> {
    let Stage { dir, engine, traffic, images } = &stage(app);
    let engine = &engine.restarted();
    let before = traffic.proxy().tables.len() - 1;
    stops_only_what_is_out_of_the_table(engine, traffic);
    plan(engine, traffic);
    if let Died::Not(_) = deploy_and_die(dir.path(), engine, traffic, "v2") {
        return None;
    }
    traffic.proxy().crash = None;
    let engine = &engine.restarted();
    let state = life(async {
        let agent = start(dir.path(), engine, traffic).await;
        // It may have died before it had begun anything: then this agent begins.
        if agent.journal.deployment(2).unwrap().is_none() {
            agent.deploy(request("v2")).await.unwrap();
        }
        let state = until_ended(&agent, 2).await;
        // The reconciler has its turn, too.
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(agent.alerts(), Vec::<String>::new());
        state
    });
    every_table_serves_or_holds(traffic, before);
    let live = &images[usize::from(matches!(state, State::Done))];
    only_live_is_left(engine, &traffic.table().unwrap(), live);
    no_secret_in(&dir.path().join("journal.sqlite3"));
    no_secret_in(&dir.path().join("journal.sqlite3-wal"));
    Some(state)
}

fn no_secret_in(path: &Path) {
    if let Ok(bytes) = std::fs::read(path) {
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{} holds a secret", path.display());
    }
}

pub fn effects_of(app: &App) -> (usize, usize, usize, usize) {
    let Stage { dir, engine, traffic, .. } = &stage(app.clone());
    let engine = &engine.restarted();
    let (effects, tables) = (engine.journal().len(), traffic.proxy().tables.len());
    assert!(matches!(deploy_and_die(dir.path(), engine, traffic, "v2"), Died::Not(_)));
    (effects, engine.journal().len(), tables, traffic.proxy().tables.len())
}

pub fn good() -> App {
    App { boots_in: Duration::from_millis(300), stops_in: Duration::from_millis(100), ..App::default() }
}

pub fn exits() -> App {
    App {
        boots_in: Duration::from_secs(1),
        exits: Some((Duration::from_millis(200), 3)),
        says: vec!["no database".to_owned()],
        ..App::default()
    }
}
