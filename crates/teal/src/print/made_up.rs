//! Values that look like a real deployment, for the golden tests.

use std::net::SocketAddr;
use teal_model::api::{
    Detail, Hello, Notice, ProxyStatus, PublishedPort, ReplicaStatus, RetainedStatus, ServiceStatus, Status, Summary,
    Way, What,
};
use teal_model::config::Strategy;
use teal_model::deployment::{Published, State};
use teal_model::door::Door;
use teal_model::fault::{Code, Fault};
use teal_model::ids::{Color, ReleaseKey, ServiceKey, TableNumber};
use teal_model::plan::{LiveRelease, Member, Naming, Plan, PortPlan, Reach, Safety, Unchanged};
use teal_model::receipt::{
    Connections, Failures, Measured, Outcome, Quantiles, Receipt, ReleaseLine, StepTime, Traffic,
};
use teal_model::wire::{ListenerKey, Protocol, TcpCounters};

/// 2026-11-22 12:17:18 UTC.
pub const NOW_MS: u64 = 1_795_349_838_000;
const STARTED_MS: u64 = NOW_MS - 14_200;
const ID: &str = "sha256:4f1c2a9b0d3e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8";

pub fn release(service: &str, number: u64) -> ReleaseKey {
    ReleaseKey::new(ServiceKey::new("shop", service), number)
}

fn listener(addr: &str) -> ListenerKey {
    ListenerKey::host(addr.parse::<SocketAddr>().unwrap())
}

fn port(published: Option<u16>, target: u16, protocol: Option<Protocol>, why: &str) -> PortPlan {
    PortPlan { published, target, udp: false, protocol, why: why.to_owned() }
}

pub fn plan() -> Plan {
    let worker = Member {
        service: ServiceKey::new("shop", "worker"),
        strategy: Strategy::Recreate,
        why: "it publishes no port, and Compose's default order is stop-first".to_owned(),
        because: None,
        job: false,
        optional: false,
        joins: Vec::new(),
        flips_with: None,
        container_name: None,
        pinned: None,
        candidate: release("worker", 1),
        color: Color::Blue,
        image: "registry.example/shop/worker:1.4".to_owned(),
        image_id: None,
        repo_digests: Vec::new(),
        replicas: 1,
        batches: None,
        settings_hash: "aa".to_owned(),
        live: None,
        listeners: Vec::new(),
        nginx: None,
        naming: Naming::Containers {
            why: "x-teal.mode is direct: its containers own its name and its ports".to_owned(),
        },
        reach: Reach::Address,
        ports: Vec::new(),
        deadline_ms: 180_000,
        drain_ms: 30_000,
        bake_ms: 0,
        readiness: "the container runs".to_owned(),
        safety: Safety::default(),
    };
    let web = Member {
        service: ServiceKey::new("shop", "web"),
        strategy: Strategy::BlueGreen,
        why: "it publishes ports and writes to no volume".to_owned(),
        because: None,
        job: false,
        optional: false,
        joins: Vec::new(),
        flips_with: None,
        container_name: None,
        pinned: None,
        candidate: release("web", 4),
        color: Color::Green,
        image: "registry.example/shop/web:1.4".to_owned(),
        image_id: Some(ID.to_owned()),
        repo_digests: vec!["registry.example/shop/web@sha256:99aa".to_owned()],
        replicas: 2,
        batches: None,
        settings_hash: "bb".to_owned(),
        live: Some(LiveRelease {
            adopted: None,
            release: release("web", 3),
            color: Color::Blue,
            image: "registry.example/shop/web:1.3".to_owned(),
            image_id: "sha256:00".to_owned(),
            settings_hash: "cc".to_owned(),
            serves: true,
            job: false,
            doors: Vec::new(),
        }),
        listeners: vec![listener("0.0.0.0:80"), listener("[::]:80")],
        nginx: None,
        naming: Naming::Holder,
        reach: Reach::Address,
        ports: vec![
            port(Some(80), 8080, Some(Protocol::Http), "as release 3 does"),
            port(None, 9000, Some(Protocol::Tcp), "as the file says"),
            port(None, 9090, None, "its containers are asked"),
        ],
        deadline_ms: 180_000,
        drain_ms: 30_000,
        bake_ms: 0,
        readiness: "HTTP GET /up on port 8080, and its HEALTHCHECK".to_owned(),
        safety: Safety::default(),
    };
    Plan {
        project: "shop".to_owned(),
        members: vec![worker, web],
        orphans: Vec::new(),
        unchanged: vec![Unchanged { service: ServiceKey::new("shop", "db"), release: 1, adopted: false }],
        warnings: vec![
            "db may take 180 s to get ready, but its requests are held for 120 s only; then they get 503.".to_owned(),
        ],
        unresolved: vec!["worker".to_owned()],
        take: None,
        after: None,
    }
}

/// `since_ms`: since the deployment began.
pub fn notice(sequence: u64, since_ms: u64, what: What) -> Notice {
    Notice { deployment: 12, sequence, at_ms: STARTED_MS + since_ms, what }
}

fn entered(state: State, step: &str) -> What {
    What::Entered { state, step: step.to_owned() }
}

fn did(words: &str, ms: u64) -> What {
    What::Did { words: words.to_owned(), ms, published: None }
}

fn published(n: u64, us: u64) -> What {
    let published = Published { table: TableNumber { epoch: 3, n }, sent_us: 5_000, acknowledged_us: 5_000 + us };
    What::Did { words: "publish the route table".to_owned(), ms: 1, published: Some(published) }
}

pub fn notices() -> Vec<Notice> {
    let whats = [
        (0, entered(State::Planned, "plan")),
        (2, did("open the published ports", 2)),
        (3, entered(State::Pulling, "pull images")),
        (4, What::Doing { words: "pull registry.example/shop/worker:1.4".to_owned() }),
        (900, What::Progress { words: "12 MB of 40 MB".to_owned() }),
        (2_100, entered(State::Starting { member: 1, batch: 0 }, "start shop/web@4 (green, 2 replicas)")),
        (2_700, did("start shop/web@4", 590)),
        (2_700, entered(State::Warming { member: 1, batch: 0 }, "wait until shop/web@4 (green, 2 replicas) is ready")),
        (2_900, What::Warning { words: "the Docker daemon answered after 2 s".to_owned() }),
        (9_000, entered(State::Shifting { step: 0 }, "flip to shop/web@4")),
        (9_001, published(14, 412)),
        (9_002, entered(State::Baking, "bake")),
        (9_003, entered(State::Draining { closing: false }, "drain shop/web@3")),
        (11_000, entered(State::Retiring, "retire shop/web@3")),
        (11_001, published(15, 388)),
        (14_150, did("remove shop/web@3", 3_020)),
        (14_200, entered(State::Done, "done")),
        (14_200, What::Ended { receipt: Box::new(receipt()) }),
    ];
    whats.into_iter().enumerate().map(|(i, (since, what))| notice(i as u64, since, what)).collect()
}

pub fn receipt() -> Receipt {
    let step = |step: &str, ms, n: Option<u64>| StepTime {
        step: step.to_owned(),
        ms,
        table: n.map(|n| TableNumber { epoch: 3, n }),
        acknowledged_in_us: n.map(|n| 384 + n),
    };
    Receipt {
        deployment: 12,
        project: "shop".to_owned(),
        who: "ana@web1".to_owned(),
        started_ms: STARTED_MS,
        ended_ms: NOW_MS,
        outcome: Outcome::Done,
        notes: Vec::new(),
        releases: vec![
            ReleaseLine {
                service: "worker".to_owned(),
                from: None,
                to: 1,
                back: None,
                color: "blue".to_owned(),
                strategy: "recreate".to_owned(),
                image: "registry.example/shop/worker:1.4".to_owned(),
                image_id: ID.to_owned(),
                repo_digests: Vec::new(),
                replicas: 1,
            },
            ReleaseLine {
                service: "web".to_owned(),
                from: Some(3),
                to: 4,
                back: None,
                color: "green".to_owned(),
                strategy: "blue-green".to_owned(),
                image: "registry.example/shop/web:1.4".to_owned(),
                image_id: ID.to_owned(),
                repo_digests: vec!["registry.example/shop/web@sha256:99aa".to_owned()],
                replicas: 2,
            },
        ],
        steps: vec![
            step("pull images", 2_097, None),
            step("prepare networks and holders", 214, None),
            step("wait until shop/web@4 (green, 2 replicas) is ready", 6_300, None),
            step("flip to shop/web@4", 2, Some(14)),
            step("retire shop/web@3", 3_200, Some(15)),
        ],
        traffic: Traffic::Measured(Measured {
            served: 12_034,
            failed: Failures::default(),
            held: 0,
            retried: 2,
            client_aborts: 1,
            longest_stall_us: 12_000,
            before: Quantiles { requests: 51_200, p50_us: Some(1_151), p99_us: Some(7_935) },
            during: Quantiles { requests: 7_630, p50_us: Some(1_215), p99_us: Some(9_215) },
            after: Quantiles { requests: 4_404, p50_us: Some(1_151), p99_us: Some(8_191) },
            tcp: Connections::default(),
        }),
    }
}

pub fn summary() -> Summary {
    Summary {
        deployment: 12,
        project: "shop".to_owned(),
        services: vec!["worker".to_owned(), "web".to_owned()],
        who: "ana@web1".to_owned(),
        started_ms: STARTED_MS,
        ended_ms: Some(NOW_MS),
        state: State::Done,
        releases: vec!["worker 1".to_owned(), "web 3 -> 4".to_owned()],
    }
}

pub fn detail() -> Detail {
    Detail { summary: summary(), plan: plan(), receipt: Some(receipt()), notices: notices() }
}

pub fn reverted() -> Detail {
    let why = Fault::new(Code::ReplicaExited, "shop-web-green-1 exited with code 1 while warming")
        .detail(vec!["listen tcp :8080: bind: permission denied".to_owned()]);
    let mut detail = detail();
    detail.summary.state = State::Reverted { why: why.clone() };
    if let Some(receipt) = &mut detail.receipt {
        receipt.outcome = Outcome::Reverted { why: why.clone() };
    }
    detail.notices.truncate(8);
    detail.notices.push(notice(8, 3_000, What::Failed { fault: why.clone() }));
    detail.notices.push(notice(9, 3_400, entered(State::Reverted { why }, "reverted")));
    detail
}

pub fn history() -> Vec<Summary> {
    let aborted = Fault::new(Code::Aborted, "aborted by ana@web1");
    let running = Summary {
        deployment: 13,
        ended_ms: None,
        state: State::Warming { member: 1, batch: 0 },
        started_ms: NOW_MS - 5_000,
        ..summary()
    };
    let reverted = Summary {
        deployment: 11,
        state: State::Reverted { why: aborted },
        who: "bo (GitHub run 42)".to_owned(),
        ..summary()
    };
    let back = Summary {
        deployment: 10,
        services: vec!["web".to_owned()],
        releases: vec!["web 3 -> 2 (back)".to_owned()],
        ended_ms: Some(STARTED_MS + 210),
        ..summary()
    };
    vec![running, summary(), reverted, back]
}

pub fn hello() -> Hello {
    Hello {
        version: "0.1.0".to_owned(),
        api: 1,
        agent: "a1b2c3".to_owned(),
        pid: 700,
        state_dir: "/var/lib/teal".to_owned(),
    }
}

fn port_status(published: u16, target: u16, protocol: Option<Protocol>) -> PublishedPort {
    PublishedPort { host_ip: None, published, target, direct: false, udp: false, protocol }
}

pub fn status() -> Status {
    let replica = |i: u32| ReplicaStatus {
        container: "cc".to_owned(),
        name: format!("shop-web-green-{i}"),
        release: 4,
        health: "ready".to_owned(),
        address: Some(format!("172.18.0.{}", i + 2)),
        restarts: 0,
    };
    let web = ServiceStatus {
        behind: None,
        service: ServiceKey::new("shop", "web"),
        live: Some(release("web", 4)),
        color: Some("green".to_owned()),
        image: Some("registry.example/shop/web:1.4".to_owned()),
        image_id: Some(ID.to_owned()),
        since_ms: Some(NOW_MS - 200_000),
        retained: Some(RetainedStatus { release: 3, until_ms: Some(NOW_MS + 400_000), way: Way::Before }),
        trusted_proxies: Vec::new(),
        listeners: vec!["0.0.0.0:80".to_owned(), "[::]:80".to_owned()],
        adopted: false,
        holding: false,
        replicas: vec![replica(1), replica(2)],
        in_flight: Some(12),
        rate: Some(210.04),
        connection_rate: Some(0.0),
        requests: Some(1_204_551),
        failed: Some(0),
        published: vec![port_status(80, 8080, Some(Protocol::Http)), port_status(9000, 9000, Some(Protocol::Tcp))],
        by_name: Some(vec![
            Door { port: 8080, protocol: Protocol::Http },
            Door { port: 9000, protocol: Protocol::Tcp },
        ]),
        tcp: Some(TcpCounters { connections: 1_204, failed: 2, open: 8, closed: 0 }),
    };
    let db = ServiceStatus {
        behind: None,
        service: ServiceKey::new("shop", "db"),
        live: Some(release("db", 1)),
        color: Some("blue".to_owned()),
        image: Some("postgres:17".to_owned()),
        image_id: Some(ID.to_owned()),
        since_ms: Some(NOW_MS - 864_000_000),
        retained: None,
        listeners: Vec::new(),
        replicas: vec![ReplicaStatus {
            name: "shop-db-blue-1".to_owned(),
            release: 1,
            address: None,
            restarts: 3,
            ..replica(3)
        }],
        in_flight: None,
        rate: None,
        connection_rate: None,
        requests: None,
        failed: None,
        tcp: None,
        published: Vec::new(),
        by_name: Some(vec![Door { port: 5432, protocol: Protocol::Tcp }]),
        ..web.clone()
    };
    let dns = ServiceStatus {
        behind: None,
        service: ServiceKey::new("shop", "dns"),
        published: vec![
            PublishedPort { direct: true, udp: true, ..port_status(53, 53, None) },
            PublishedPort { host_ip: Some([127, 0, 0, 1].into()), ..port_status(8053, 80, None) },
        ],
        by_name: None,
        replicas: Vec::new(),
        ..db.clone()
    };
    let worker = ServiceStatus {
        behind: None,
        service: ServiceKey::new("shop", "worker"),
        by_name: Some(Vec::new()),
        in_flight: Some(0),
        rate: Some(0.0),
        connection_rate: Some(0.0),
        requests: Some(0),
        failed: Some(0),
        tcp: Some(TcpCounters::default()),
        replicas: Vec::new(),
        ..db.clone()
    };
    Status {
        agent: hello(),
        proxy: ProxyStatus {
            pid: Some(701),
            table: Some(TableNumber { epoch: 3, n: 15 }),
            connections: 1_300,
            parked: 1_210,
        },
        engine: Some("29.0.1 (API 1.52)".to_owned()),
        services: vec![web, db, dns, worker],
        running: vec![history().remove(0)],
        watched: Vec::new(),
        alerts: vec!["the proxy was started again 3 times within 10 s".to_owned()],
    }
}
