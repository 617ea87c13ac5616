//! What a plan chooses, and why: one service at a time, and those that belong together.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use teal_model::config::{
    Attachment, CanaryStep, Condition, DependsOn, ExposedPort, Mode, Mount, MountKind, Namespace, NetworkMode, Pace,
    Port, Preview, Project, Protocol, Restart, Service, Strategy, UpdateConfig, UpdateOrder,
};
use teal_model::door::Door;
use teal_model::ids::{Color, ReleaseKey, ServiceKey};
use teal_model::plan::{Choice, ImageFacts, LiveRelease, Member, Plan, Running, plan};
use teal_model::wire;

fn service(name: &str) -> Service {
    let mut service = Service { name: name.to_owned(), ..Service::default() };
    service.container.image = "app:2".to_owned();
    service.networks.insert("default".to_owned(), Attachment::default());
    service
}

fn web(name: &str) -> Service {
    Service { ports: vec![Port { published: 80, target: 8080, ..Port::default() }], ..service(name) }
}

fn after(service: Service, on: &str, depends: DependsOn) -> Service {
    Service { depends_on: BTreeMap::from([(on.to_owned(), depends)]), ..service }
}

/// All of them are live, as the file says now, but for `changed`.
fn planned(services: &[Service], changed: &[&str], choice: &Choice) -> Plan {
    planned_over(&[], services, changed, choice)
}

fn planned_over(doors: &[Door], services: &[Service], changed: &[&str], choice: &Choice) -> Plan {
    planned_behind(Vec::new(), doors, services, changed, choice)
}

/// Behind trusted proxies, with what the live releases were seen to speak.
fn planned_behind(
    trusted_proxies: Vec<String>,
    doors: &[Door],
    services: &[Service],
    changed: &[&str],
    choice: &Choice,
) -> Plan {
    let services: BTreeMap<String, Service> =
        services.iter().map(|service| (service.name.clone(), service.clone())).collect();
    let live = |name: &String| LiveRelease {
        release: ReleaseKey::new(ServiceKey::new("shop", name), 1),
        color: Color::Blue,
        image: "app:2".to_owned(),
        image_id: "sha256:2".to_owned(),
        settings_hash: if changed.contains(&name.as_str()) { "before" } else { "now" }.to_owned(),
        serves: true,
        job: services[name].is_job,
        adopted: None,
        doors: doors.to_vec(),
    };
    let running = Running {
        live: services.keys().map(|name| (name.clone(), live(name))).collect(),
        next: services.keys().map(|name| (name.clone(), 2)).collect(),
        ..Running::default()
    };
    let facts = ImageFacts {
        id: "sha256:2".to_owned(),
        repo_digests: Vec::new(),
        volumes: Vec::new(),
        exposed: Vec::new(),
        has_healthcheck: false,
        may_change: false,
    };
    let project = Project { name: "shop".to_owned(), services, trusted_proxies, ..Project::default() };
    let images = BTreeMap::from([("app:2".to_owned(), facts)]);
    plan(&project, choice, &running, &images, &|_| "now".to_owned()).unwrap()
}

fn alone(service: Service) -> Member {
    let name = service.name.clone();
    planned(&[service], &[&name], &Choice::default()).members.remove(0)
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.members.iter().map(|member| member.service.service.as_str()).collect()
}

fn member<'a>(plan: &'a Plan, name: &str) -> &'a Member {
    plan.members.iter().find(|member| member.service.service == name).unwrap()
}

#[test]
fn what_can_be_there_only_once_is_recreated() {
    let address = |at: Attachment| {
        let mut service = web("web");
        service.networks.insert("default".to_owned(), at);
        service
    };
    let mut direct = web("web");
    direct.teal.mode = Mode::Direct;
    let udp = vec![Port { published: 53, target: 53, protocol: Protocol::Udp, ..Port::default() }];
    for (service, why) in [
        (Service { container_name: Some("the-web".into()), ..web("web") }, "always called the-web"),
        (direct, "x-teal.mode is direct"),
        (Service { network_mode: Some(NetworkMode::Host), ..service("web") }, "no network of its own"),
        (Service { mac_address: Some("02:42:ac:11:00:02".into()), ..web("web") }, "its address is written down"),
        (
            address(Attachment { ipv4_address: Some("10.9.0.7".parse().unwrap()), ..Attachment::default() }),
            "its address is written down",
        ),
        (
            address(Attachment { ipv6_address: Some("fd00::7".parse().unwrap()), ..Attachment::default() }),
            "its address is written down",
        ),
        (Service { ports: udp, ..service("web") }, "publishes 53/udp"),
        (Service { order: Some(UpdateOrder::StopFirst), ..web("web") }, "order is stop-first"),
    ] {
        let member = alone(service);
        assert_eq!(member.strategy, Strategy::Recreate, "{why}");
        assert!(member.why.contains(why), "{} is not {why}", member.why);
    }
    assert_eq!(alone(web("web")).strategy, Strategy::BlueGreen);
    let mut written = web("web");
    written.teal.strategy = Some(Strategy::BlueGreen);
    assert_eq!(alone(written.clone()).why, "written in x-teal.strategy");
    written.teal.canary = CanaryStep::DEFAULT.to_vec();
    assert_eq!(alone(written).why, "in the steps of its canary");
}

#[test]
fn a_job_is_called_by_nobody_and_runs_in_its_turn() {
    let migrate = Service { is_job: true, ..web("migrate") };
    let plan = planned(&[web("web"), migrate.clone()], &["web", "migrate"], &Choice::default());
    assert_eq!(names(&plan), ["migrate", "web"]);
    let job = member(&plan, "migrate");
    assert!(job.job && job.listeners.is_empty() && !job.naming.is_holder());
    assert_eq!((job.strategy, job.readiness.as_str()), (Strategy::Recreate, "it has exited 0"));
    assert!(job.fallback().is_none(), "nobody runs the last one again");
    assert!(!job.optional, "nobody says that it may fail");

    let done = |required| DependsOn { condition: Condition::ServiceCompletedSuccessfully, required, restart: false };
    let optional = |required: [bool; 2]| {
        let two = [after(web("a"), "migrate", done(required[0])), after(service("b"), "migrate", done(required[1]))];
        let services = [two[0].clone(), two[1].clone(), migrate.clone()];
        member(&planned(&services, &["migrate", "a", "b"], &Choice::default()), "migrate").optional
    };
    assert!(optional([false, false]));
    assert!(!optional([false, true]), "one of them needs it");
}

#[test]
fn who_is_to_be_restarted_with_another_comes_along() {
    let again = DependsOn { restart: true, ..DependsOn::default() };
    let services = [
        after(web("api"), "db", again),
        service("db"),
        after(service("reads"), "db", DependsOn::default()),
        after(web("web"), "api", again),
        Service { is_job: true, ..after(service("seed"), "db", again) },
    ];
    let plan = planned(&services, &["db"], &Choice::default());
    assert_eq!(names(&plan), ["db", "api", "web"], "and who depends on those");
    assert_eq!(
        member(&plan, "api").because.as_deref(),
        Some("it depends on db with `restart: true`, which gets a new release")
    );
    assert_eq!(member(&plan, "db").because, None);
    let unchanged: Vec<&str> = plan.unchanged.iter().map(|one| one.service.service.as_str()).collect();
    assert_eq!(unchanged, ["reads", "seed"], "a job that has run is left alone");
    // Also when only the other one was asked for.
    let one = Choice { services: vec!["db".to_owned()], ..Choice::default() };
    assert_eq!(names(&planned(&services, &["db", "api"], &one)), ["db", "api", "web"]);
    assert!(planned(&services, &["db", "api"], &one).warnings.iter().any(|said| said.contains("api goes along")));
    assert!(planned(&services, &[], &one).members.is_empty());
}

#[test]
fn who_lives_in_anothers_namespace_flips_with_it_or_is_recreated_after_it() {
    let side = |mode: NetworkMode| Service {
        network_mode: Some(mode),
        networks: BTreeMap::new(),
        ..after(service("a-side"), "web", DependsOn::default())
    };
    let in_web = side(NetworkMode::Service("web".to_owned()));
    let beside = planned(&[in_web.clone(), web("web")], &["web"], &Choice::default());
    assert_eq!(names(&beside), ["web", "a-side"], "after it, whatever their names");
    let member_of = member(&beside, "a-side");
    assert_eq!((member_of.strategy, member_of.flips_with.as_deref()), (Strategy::BlueGreen, Some("web")));
    assert!(member_of.because.as_ref().unwrap().contains("lives in a namespace of web"));
    assert_eq!(member(&beside, "web").strategy, Strategy::BlueGreen);

    // Alone it would meet its own live release there.
    let alone = planned(&[in_web.clone(), web("web")], &["a-side"], &Choice::default());
    assert_eq!((names(&alone), member(&alone, "a-side").strategy), (vec!["a-side"], Strategy::Recreate));

    // One of the two cannot be there twice: then neither is.
    let named = Service { container_name: Some("side".to_owned()), ..in_web.clone() };
    let both = planned(&[named, web("web")], &["web"], &Choice::default());
    assert!(both.members.iter().all(Member::is_recreate), "{both:#?}");
    assert_eq!(
        (names(&both), member(&both, "web").why.as_str()),
        (vec!["web", "a-side"], "a-side lives in its namespace and is recreated")
    );
    let both = planned(
        &[in_web, Service { container_name: Some("web".to_owned()), ..web("web") }],
        &["web"],
        &Choice::default(),
    );
    assert!(both.members.iter().all(Member::is_recreate) && names(&both) == ["web", "a-side"], "{both:#?}");

    // Its memory alone: it has a name of its own.
    let mut memory = after(web("a-side"), "web", DependsOn::default());
    memory.container.isolation.ipc = Some(Namespace::Service("web".to_owned()));
    memory.ports[0].published = 81;
    let beside = planned(&[memory, web("web")], &["web"], &Choice::default());
    assert_eq!(names(&beside), ["web", "a-side"]);
    assert!(member(&beside, "a-side").naming.is_holder() && member(&beside, "a-side").flips_with.is_some());
}

#[test]
fn a_preview_for_neighbours_is_warned_of_while_no_proxy_is_named() {
    let said = |networks: &[&str], trusted: &[&str]| {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let mut web = web("web");
        web.teal.preview = Some(Preview { networks: texts(networks), token: None });
        let warnings = planned_behind(texts(trusted), &[], &[web], &["web"], &Choice::default()).warnings;
        warnings.join("\n")
    };
    let words = said(&["10.1.0.0/16", "192.0.2.0/24", "127.0.0.0/8"], &[]);
    assert!(words.contains("whoever calls from 10.1.0.0/16, 127.0.0.0/8 may ask for its candidate"), "{words}");
    assert!(words.contains("name it in `x-teal.trusted_proxies`"), "{words}");
    assert_eq!(said(&["10.1.0.0/16"], &["10.1.0.1/32"]), "");
    assert_eq!(said(&["192.0.2.0/24"], &[]), "", "nobody has a proxy in somebody else's network");
    assert_eq!(said(&[], &[]), "", "a token");
}

#[test]
fn what_is_written_and_does_not_hold_here_is_said() {
    let said = |service: Service| planned(&[service], &["web"], &Choice::default()).warnings.join("\n");
    let mut fixed = web("web");
    let at = Attachment { ipv4_address: Some("10.9.0.7".parse().unwrap()), ..Attachment::default() };
    fixed.networks.insert("default".to_owned(), at);
    assert!(said(fixed).contains("called at the address that is written down"));
    let named = Service { container_name: Some("the-web".into()), ..web("web") };
    assert!(said(named).contains("a call to `the-web` may reach web's container itself"));
    let mut job = Service { is_job: true, ..service("web") };
    job.container.restart = Restart::Always;
    assert!(said(job.clone()).contains("`restart` has no effect"));
    job.container.restart = Restart::OnFailure(3);
    assert_eq!(said(job), "", "that is honoured");
    let healthy = DependsOn { condition: Condition::ServiceHealthy, required: false, restart: false };
    let optional = planned(&[after(web("web"), "db", healthy), service("db")], &["web", "db"], &Choice::default());
    assert!(optional.warnings.join("\n").contains("web does not require db"), "{:?}", optional.warnings);
    let restart = DependsOn { restart: true, ..DependsOn::default() };
    let early = planned(&[after(service("worker"), "web", restart), web("web")], &["web"], &Choice::default());
    assert!(
        early.warnings.join("\n").contains("worker is started again before web takes over"),
        "{:?}",
        early.warnings
    );
}

#[test]
fn the_replicas_of_a_service_that_nobody_calls_change_in_batches() {
    let update = |parallelism, delay_ms| UpdateConfig { parallelism, delay_ms, ..UpdateConfig::default() };
    let of = |service: Service| {
        let plan = planned(&[service], &["one"], &Choice::default());
        (plan.members[0].batches.map(|one| (one.size.get(), one.delay_ms)), plan.warnings.join("\n"))
    };
    let worker = |update| Service { update, replicas: 4, ..service("one") };
    assert_eq!(of(worker(update(Some(2), Some(10_000)))), (Some((2, 10_000)), String::new()));
    assert_eq!(of(worker(update(Some(3), None))), (Some((3, 0)), String::new()));
    let first = Service { order: Some(UpdateOrder::StartFirst), ..worker(update(Some(1), None)) };
    assert_eq!(of(first), (Some((1, 0)), String::new()));
    // One batch is no batch.
    assert_eq!(of(worker(update(Some(4), None))), (None, String::new()));
    assert_eq!(of(worker(update(Some(0), None))), (None, String::new()));
    assert_eq!(of(worker(update(None, None))), (None, String::new()));

    let at_once = |service, why: &str| {
        let (batches, said) = of(service);
        assert_eq!(batches, None, "{why}");
        assert!(said.contains("the replicas of one change all at once") && said.contains(why), "{said} is not {why}");
    };
    at_once(worker(update(None, Some(1_000))), "`parallelism` of its update_config gives no number");
    let called = Service { update: update(Some(1), None), replicas: 4, ..web("one") };
    at_once(called, "its requests move in one flip");
    let exposed =
        Service { expose: vec![ExposedPort { port: 9100, protocol: Protocol::Tcp }], ..worker(update(Some(1), None)) };
    at_once(exposed, "calls on port 9100 move in one flip");
    let door = Door { port: 9200, protocol: wire::Protocol::Http };
    let over = planned_over(&[door], &[worker(update(Some(1), None))], &["one"], &Choice::default());
    assert!(over.members[0].batches.is_none(), "its live release takes connections");
    assert!(over.warnings.join("").contains("calls on port 9200 move in one flip"), "{:?}", over.warnings);
    let mount =
        Mount { kind: MountKind::Volume, source: Some("shop_data".into()), target: "/data".into(), ..Mount::default() };
    let with = |mount: Mount, strategy| {
        let mut writes = worker(update(Some(1), None));
        writes.container.mounts = vec![mount];
        writes.teal.strategy = strategy;
        writes
    };
    at_once(with(mount.clone(), None), "two releases would write to the volume at /data side by side");
    assert!(of(with(mount.clone(), Some(Strategy::BlueGreen))).0.is_some(), "asked for");
    assert!(of(with(Mount { read_only: true, ..mount.clone() }, None)).0.is_some());
    assert!(of(with(Mount { source: None, ..mount }, None)).0.is_some(), "each replica has its own");

    let update = update(Some(1), None);
    let mut beside = service("two");
    beside.container.isolation.ipc = Some(Namespace::Service("one".to_owned()));
    let beside = Service { depends_on: BTreeMap::from([("one".to_owned(), DependsOn::default())]), ..beside };
    let shares = planned(&[worker(update), beside], &["one"], &Choice::default());
    assert!(member(&shares, "one").batches.is_none());
    assert!(shares.warnings.join("\n").contains("it shares a namespace with two"), "{:?}", shares.warnings);
}

#[test]
fn a_step_whose_share_is_more_than_that_of_its_replicas_is_said() {
    let said = |steps: &[(u32, Option<u32>)]| {
        let mut web = Service { replicas: 4, ..web("web") };
        let step = |(share, replicas): &(u32, Option<u32>)| CanaryStep {
            share: *share,
            pace: Pace::Manual,
            replicas: *replicas,
        };
        web.teal.canary = steps.iter().map(step).collect();
        let plan = planned(&[web], &["web"], &Choice::default());
        let runs: Vec<u32> = (0..=steps.len()).map(|step| plan.members[0].replicas_in(step)).collect();
        (runs, plan.warnings)
    };
    assert_eq!(said(&[(500, Some(1)), (2_500, Some(1)), (7_500, Some(3))]), (vec![1, 1, 3, 4], Vec::new()));
    assert_eq!(said(&[(500, None), (9_900, None)]), (vec![4, 4, 4], Vec::new()));
    let (_, warnings) = said(&[(2_500, Some(1)), (5_000, Some(1))]);
    let crowded = "web: 50 % of the requests go to 1 of 4 replicas of the candidate in that step: each has more of them than when it is live";
    assert_eq!(warnings, [crowded]);
    let first = Service { replicas: 4, ..web("web") };
    assert_eq!(alone(first).replicas_in(0), 4);
}

#[test]
fn a_canary_that_names_its_replicas_goes_by_its_steps_and_not_in_batches() {
    let mut worker = Service { replicas: 4, ..service("worker") };
    worker.update = UpdateConfig { parallelism: Some(2), ..UpdateConfig::default() };
    worker.teal.strategy = Some(Strategy::BlueGreen);
    worker.teal.canary = vec![CanaryStep { share: 500, pace: Pace::Manual, replicas: Some(1) }];
    let plan = planned(&[worker], &["worker"], &Choice::default());
    assert_eq!((plan.members[0].batches, plan.members[0].replicas_in(0)), (None, 1));
    assert!(plan.warnings.join("\n").contains("the steps of its canary name its `replicas`"), "{:?}", plan.warnings);
}
