//! Deployments against a world that does anything at any time: seeded random walks through `decide` and `apply`.

#![allow(clippy::unwrap_used)]

#[path = "deployment/batches.rs"]
mod batches;
#[path = "deployment/growing.rs"]
mod growing;
#[path = "deployment/watched.rs"]
mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use teal_model::config::Strategy;
use teal_model::deployment::{
    Action, CLOSING_MS, Deployment, Event, Health, Phase, Promote, Pull, Seen, State, Step, decide,
};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{Color, ReleaseKey, ServiceKey};
use teal_model::plan::{Batches, LiveRelease, Member, Naming, Plan, Reach, Safety, Span, Unchanged};

/// xorshift64*: the walk is the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn member(name: &str, strategy: Strategy, live: bool) -> Member {
    let service = ServiceKey::new("shop", name);
    let old = ReleaseKey::new(service.clone(), 1);
    Member {
        candidate: ReleaseKey::new(service.clone(), 2),
        service,
        strategy,
        why: String::new(),
        because: None,
        job: false,
        optional: false,
        joins: Vec::new(),
        flips_with: None,
        container_name: None,
        pinned: None,
        nginx: None,
        color: Color::Green,
        image: "app:2".to_owned(),
        image_id: None,
        repo_digests: Vec::new(),
        replicas: 2,
        batches: None,
        settings_hash: String::new(),
        live: live.then(|| LiveRelease {
            adopted: None,
            release: old,
            color: Color::Blue,
            image: "app:1".to_owned(),
            image_id: "sha256:1".to_owned(),
            settings_hash: String::new(),
            serves: true,
            job: false,
            doors: Vec::new(),
        }),
        listeners: vec![teal_model::wire::ListenerKey::host(std::net::SocketAddr::from(([127, 0, 0, 1], 80)))],
        naming: Naming::Holder,
        reach: Reach::Address,
        ports: Vec::new(),
        deadline_ms: 5_000,
        drain_ms: 3_000,
        bake_ms: 1_000,
        readiness: String::new(),
        safety: Safety::default(),
    }
}

fn plan(random: &mut Random) -> Plan {
    let mut members: Vec<Member> = (0..1 + random.below(4))
        .map(|i| {
            let strategy = if random.one_in(2) { Strategy::Recreate } else { Strategy::BlueGreen };
            let live = !random.one_in(4);
            let mut member = member(&format!("s{i}"), strategy, live);
            if random.one_in(5) {
                member.strategy = Strategy::Recreate;
                member.job = true;
                member.optional = random.one_in(2);
            }
            if let Some(live) = member.live.as_mut().filter(|_| member.strategy == Strategy::Recreate) {
                live.job = random.one_in(if member.job { 2 } else { 8 });
            }
            if random.one_in(3) && !member.job && member.fallback().is_some() {
                member.replicas = 1 + random.below(5) as u32;
                let size = 1 + random.below(u64::from(member.replicas)) as u32;
                member.batches = (size < member.replicas)
                    .then(|| Batches { size: NonZeroU32::new(size).unwrap(), delay_ms: 1_000 * random.below(2) });
            }
            if member.batches.is_none() && random.one_in(2) {
                member.replicas = 1 + random.below(4) as u32;
            }
            if member.strategy == Strategy::Recreate && random.one_in(3) {
                member.container_name = Some(format!("the-{i}"));
            }
            member
        })
        .collect();
    members.sort_by_key(|member| !member.takes_its_turn());
    for at in 1..members.len() {
        let joined = random.below(at as u64) as usize;
        if random.one_in(3) && !members[joined].job {
            // As plan() leaves it: in turn together, or in the flip together.
            let (turn, name) = (members[joined].takes_its_turn(), members[joined].service.service.clone());
            if turn == members[at].takes_its_turn() {
                members[at].flips_with = (!turn).then(|| name.clone());
                members[at].joins = vec![name];
            }
        }
    }
    for member in &mut members {
        member.safety = watched::safety(random, member);
    }
    let orphan = Unchanged { service: ServiceKey::new("shop", "gone"), release: 4, adopted: false };
    let orphans = if random.one_in(4) { vec![orphan] } else { Vec::new() };
    let mut plan = Plan { project: "shop".to_owned(), members, orphans, ..Plan::default() };
    watched::go_back(random, &mut plan);
    plan
}

fn seen(random: &mut Random, deployment: &Deployment, world: &World) -> Seen {
    let fault = || Fault::new(Code::ReplicaExited, "exited");
    let mut seen = Seen::default();
    let mut replicas: BTreeMap<ReleaseKey, Vec<Health>> = BTreeMap::new();
    for member in &deployment.plan.members {
        let pull = if random.one_in(60) {
            Pull::Failed(fault())
        } else if random.one_in(3) {
            Pull::Running
        } else {
            Pull::Here
        };
        seen.pulls.insert(member.image.clone(), pull);
        for release in [Some(&member.candidate), member.live.as_ref().map(|live| &live.release)].into_iter().flatten() {
            let health = world.running[release].iter().map(|_| match random.below(40) {
                0 => Health::Failed { fault: fault() },
                1..4 => Health::Unknown { why: "?".to_owned() },
                4..12 => Health::Warming { last: "503".to_owned() },
                _ => Health::Ready,
            });
            replicas.insert(release.clone(), health.collect());
            let in_flight = if random.one_in(4) { None } else { Some(random.below(3)) };
            seen.in_flight.insert(release.clone(), in_flight);
        }
    }
    seen.replicas = replicas;
    watched::look(random, deployment, &mut seen);
    seen.abort = random.one_in(80).then(|| "someone".to_owned());
    seen
}

/// The live release may have been of more or of fewer.
fn live_replicas(member: &Member) -> u32 {
    if member.batches.is_some() { 5 - member.replicas % 3 } else { member.replicas }
}

/// Traffic as tables would have it: what was published last.
#[derive(Default)]
struct World {
    shares: BTreeMap<ServiceKey, Vec<ReleaseKey>>,
    listed: BTreeMap<ServiceKey, Vec<ReleaseKey>>,
    holding: BTreeMap<ServiceKey, bool>,
    ready_once: Vec<ReleaseKey>,
    retiring: bool,
    /// Live releases whose containers were told to stop.
    stopped: Vec<ReleaseKey>,
    removed: Vec<ReleaseKey>,
    /// Had been running, or run, when the revert began.
    again: Vec<ReleaseKey>,
    orphans_gone: bool,
    /// Kept warm: those of before, and those that this deployment replaced.
    warm: BTreeSet<ReleaseKey>,
    migrated: Vec<ReleaseKey>,
    /// Replicas that run, by their index.
    running: BTreeMap<ReleaseKey, BTreeSet<u32>>,
}

impl World {
    fn before(plan: &Plan) -> Self {
        let mut world = Self::default();
        for member in &plan.members {
            let live: Vec<ReleaseKey> = member.live.iter().map(|live| live.release.clone()).collect();
            let is_warm = member.safety.back.is_some_and(|back| back.retained);
            let warm = if is_warm { (1..=member.replicas).collect() } else { BTreeSet::new() };
            world.running.insert(member.candidate.clone(), warm);
            world.ready_once.extend(is_warm.then(|| member.candidate.clone()));
            world.warm.extend(member.warm().cloned());
            let replicas = live_replicas(member);
            world.running.extend(live.iter().map(|live| (live.clone(), (1..=replicas).collect())));
            world.shares.insert(member.service.clone(), live.clone());
            world.listed.insert(member.service.clone(), live.into_iter().chain(member.warm().cloned()).collect());
        }
        world
    }

    fn perform(&mut self, deployment: &Deployment, action: &Action) {
        match action {
            Action::Migrate { release } => {
                assert!(self.running[release].is_empty(), "before any container of the release starts");
                self.migrated.push(release.clone());
            }
            Action::Retain { release } => {
                assert!(self.retiring && !self.running[release].is_empty(), "{release} runs");
                self.warm.insert(release.clone());
            }
            Action::DropRetained { release } => {
                let member = deployment.plan.members.iter().find(|member| member.service == release.service).unwrap();
                assert!(self.running[&member.candidate].is_empty(), "its names are the candidate's");
                self.warm.remove(release);
                self.listed.get_mut(&release.service).unwrap().retain(|one| one != release);
            }
            Action::Cap { share } => {
                let capped = Deployment { cap: *share, ..deployment.clone() };
                for (service, routing) in capped.routing() {
                    let member = capped.plan.members.iter().find(|member| member.service == service).unwrap();
                    let routing = routing.unwrap();
                    watched::has_its_share(&capped, member, &routing.split);
                    watched::has_its_replicas(&capped, member, &routing, &self.running[&member.candidate]);
                }
            }
            Action::Publish => {
                for (service, routing) in deployment.routing() {
                    let member = deployment.plan.members.iter().find(|member| member.service == service).unwrap();
                    let Some(routing) = routing else {
                        assert!(member.live.is_none(), "a live service loses its routes");
                        self.shares.insert(service.clone(), Vec::new());
                        self.listed.insert(service.clone(), Vec::new());
                        continue;
                    };
                    let shares: Vec<ReleaseKey> = routing.split.iter().map(|(release, _)| release.clone()).collect();
                    watched::has_its_share(deployment, member, &routing.split);
                    watched::has_its_replicas(deployment, member, &routing, &self.running[&member.candidate]);
                    // Invariant 1: served, or held; blue-green with a live release never holds.
                    assert!(!shares.is_empty() || routing.holding);
                    assert!(
                        !routing.holding || member.is_recreate() || member.live.is_none(),
                        "{service} holds in {:?}",
                        deployment.state
                    );
                    // Invariant 2: a candidate has no share before its checks passed.
                    assert!(
                        !shares.contains(&member.candidate) || self.ready_once.contains(&member.candidate),
                        "{:?}",
                        deployment.state
                    );
                    assert!(shares.iter().all(|release| routing.listed.contains(release)));
                    watched::lists_what_is_warm(member, &routing, &self.warm);
                    self.shares.insert(service.clone(), shares);
                    self.listed.insert(service.clone(), routing.listed);
                    self.holding.insert(service, routing.holding);
                }
            }
            Action::StopRelease { release, .. } | Action::RemoveRelease { release } => {
                // Invariant 3: out of the acknowledged table first.
                assert!(!self.listed[&release.service].contains(release), "{action:?} in {:?}", deployment.state);
                let member = deployment.plan.members.iter().find(|member| member.service == release.service).unwrap();
                let is_live = member.live.as_ref().is_some_and(|live| &live.release == release);
                // Invariant 5.
                assert!(
                    !is_live
                        || self.retiring
                        || (member.is_recreate() && !matches!(action, Action::RemoveRelease { .. })),
                    "{action:?} in {:?}",
                    deployment.state
                );
                assert!(is_live || !self.retiring, "a candidate goes only in a revert");
                let span = if let Action::StopRelease { span, .. } = action { *span } else { Span::ALL };
                self.running.get_mut(release).unwrap().retain(|index| !span.contains(*index));
                if let State::Stopping { batch, .. } = deployment.state {
                    let last = member.replicas_after(batch + 1);
                    let wanted = if last == member.replicas { 0 } else { live_replicas(member).saturating_sub(last) };
                    assert_eq!(self.running[release].len() as u32, wanted, "the others of {release} go on: {action:?}");
                }
                self.stopped.push(release.clone());
                if matches!(action, Action::RemoveRelease { .. }) {
                    self.removed.push(release.clone());
                }
            }
            Action::StartRelease { release, span } => {
                let member = deployment.plan.members.iter().find(|member| member.service == release.service).unwrap();
                let is_candidate = &member.candidate == release;
                let replicas = if is_candidate { member.replicas } else { live_replicas(member) };
                self.running.get_mut(release).unwrap().extend((1..=replicas).filter(|index| span.contains(*index)));
                assert!(
                    !is_candidate || member.safety.retained.iter().all(|one| !self.warm.contains(one)),
                    "{release}"
                );
                assert!(!is_candidate || member.safety.migrate.is_none() || self.migrated.contains(release));
                let other =
                    if is_candidate { member.live.as_ref().map(|live| &live.release) } else { Some(&member.candidate) };
                let beside = other.is_some_and(|other| !self.running[other].is_disjoint(&self.running[release]));
                // A job that has ended was never stopped.
                assert!(
                    !beside || !member.is_recreate() || member.fallback().is_none(),
                    "{action:?} beside its other half"
                );
                if let State::Growing { step, .. } = deployment.state {
                    let so_far = (1..=member.replicas_in(step)).collect();
                    assert_eq!(self.running[release], so_far, "{action:?} in {:?}", deployment.state);
                }
                if let State::Starting { batch, .. } = deployment.state {
                    let so_far = self.running[release].len() as u32;
                    assert_eq!(so_far, member.replicas_after(batch + 1), "{action:?}");
                }
                if !is_candidate {
                    assert!(!member.live.as_ref().unwrap().job, "a job that has run is not run again");
                    // It lives in a namespace of another, which has to be there first.
                    for joined in
                        deployment.plan.members.iter().filter(|one| member.joins.contains(&one.service.service))
                    {
                        let live = joined.fallback().map(|live| &live.release);
                        let was_stopped = live.is_some_and(|live| self.stopped.contains(live));
                        assert!(
                            !was_stopped || self.again.contains(live.unwrap()),
                            "{release} before what it lives in"
                        );
                    }
                    self.again.push(release.clone());
                }
            }
            Action::NameRelease { release } => {
                let member = deployment.plan.members.iter().find(|member| member.service == release.service).unwrap();
                assert!(self.retiring && &member.candidate == release && member.container_name.is_some());
                let live = member.live.as_ref().map(|live| &live.release);
                assert!(live.is_none_or(|live| self.removed.contains(live)), "the name is another's still");
            }
            Action::RemoveOrphan { .. } => {
                assert!(self.retiring, "an orphan goes at the end, when nothing is taken back any more");
                self.orphans_gone = true;
            }
            _ => {}
        }
    }
}

/// Invariants 2, 3 and 5: a share for what is ready in this moment, nothing stopped that has requests and time left, and
/// nothing taken away from behind what does not serve.
fn keeps_its_promises(deployment: &Deployment, seen: &Seen, step: &Step, now_ms: u64) {
    watched::is_no_accident(deployment, seen, step, now_ms);
    let waited = now_ms - deployment.entered_ms;
    let none_in_flight = |release: &ReleaseKey| seen.in_flight.get(release) == Some(&Some(0));
    let ready =
        |member: &Member| seen.replicas[&member.candidate].iter().filter(|health| **health == Health::Ready).count();
    match (&deployment.state, step) {
        (State::Shifting { step }, Step::Do(Action::Publish)) => {
            assert!(
                deployment
                    .plan
                    .members
                    .iter()
                    .filter(|member| !member.takes_its_turn())
                    .all(|member| ready(member) >= if *step == 0 { member.replicas_in(0) as usize } else { 1 }),
                "all of them first, and later what the facts leave"
            );
        }
        (State::Releasing { member }, Step::Do(Action::Publish)) => {
            let member = &deployment.plan.members[*member];
            assert!(member.job || ready(member) == member.replicas as usize);
        }
        (State::Warming { member, batch }, Step::Enter(_)) => {
            let member = &deployment.plan.members[*member];
            let wanted = member.replicas_after(batch + 1) as usize;
            assert!(member.optional || ready(member) == wanted, "nobody goes on behind a job that has not exited 0");
        }
        (State::Delaying { member, .. }, Step::Enter(_)) => {
            let batches = deployment.plan.members[*member].batches.unwrap();
            assert!(waited >= batches.delay_ms);
        }
        (state, Step::Enter(State::Retiring)) => {
            // A job is no more than done.
            assert!(deployment.plan.members.iter().all(|member| member.job || ready(member) > 0));
            let retiring = deployment.plan.members.iter().filter(|member| !member.takes_its_turn());
            let idle = retiring.filter_map(|member| member.live.as_ref()).all(|live| none_in_flight(&live.release));
            // Unknown is not none.
            assert!(idle || (*state == State::Draining { closing: true } && waited >= CLOSING_MS));
        }
        (State::Holding { member }, Step::Enter(_)) => {
            let member = &deployment.plan.members[*member];
            let live = member.live.as_ref().unwrap();
            assert!(!live.job, "there is nothing to hold");
            assert!(none_in_flight(&live.release) || waited >= member.drain_ms);
        }
        (State::Draining { closing: false }, Step::Enter(State::Draining { closing: true })) => {
            assert!(waited >= deployment.plan.members.iter().map(|member| member.drain_ms).max().unwrap());
        }
        _ => {}
    }
}

fn walk(seed: u64) -> (State, usize) {
    let mut random = Random(seed * 2 + 1);
    let plan = plan(&mut random);
    let mut world = World::before(&plan);
    let mut deployment = Deployment::new(1, plan, 0);
    let mut now = 0;
    let mut steps = 0;
    loop {
        steps += 1;
        assert!(steps < 10_000, "seed {seed} does not end: {:?}", deployment.state);
        let seen = seen(&mut random, &deployment, &world);
        if let State::Warming { member, .. } = &deployment.state {
            let candidate = &deployment.plan.members[*member].candidate;
            // A job that failed and may serves nobody: its share is of nothing.
            let optional = deployment.plan.members[*member].optional;
            let all = seen.replicas[candidate].len() == deployment.plan.members[*member].replicas_in(0) as usize;
            if optional || all && seen.replicas[candidate].iter().all(|health| *health == Health::Ready) {
                world.ready_once.push(candidate.clone());
            }
        }
        let step = decide(&deployment, &seen, now);
        keeps_its_promises(&deployment, &seen, &step, now);
        let event = match step {
            Step::Finish => break,
            Step::Wait { until_ms } => {
                now += 200;
                assert!(until_ms.is_none_or(|until| until > now - 200));
                continue;
            }
            Step::Enter(to) => Event::Entered { to },
            Step::Fail(fault) => Event::Failed { action: None, fault },
            Step::Promote(Promote { full, who }) => Event::Promoted { full, who },
            Step::Freeze(why) => Event::Frozen { why },
            Step::Note(words) => Event::Noted { words },
            Step::Resolve => Event::Resolved { plan: Box::new(deployment.plan.clone()) },
            Step::Do(action) if random.one_in(60) => {
                Event::Failed { action: Some(action), fault: Fault::new(Code::DockerRefused, "no") }
            }
            Step::Do(action) => {
                world.perform(&deployment, &action);
                // A crash between effect and outcome: the same action comes again.
                if random.one_in(10) {
                    continue;
                }
                Event::Did { action, published: None }
            }
        };
        if matches!(event, Event::Failed { .. }) {
            // As whoever carries it out looks, since an action may have been done and not written down.
            let warm = deployment.plan.members.iter().filter_map(|member| member.safety.retained.clone());
            let cold: Vec<ReleaseKey> = warm.filter(|release| !world.warm.contains(release)).collect();
            cold.iter().for_each(|release| deployment.is_cold(release));
        }
        // What travels through the journal comes back the same.
        let text = serde_json::to_string(&event).unwrap();
        let event: Event = serde_json::from_str(&text).unwrap();
        deployment.apply(&event, now).unwrap();
        let text = serde_json::to_string(&deployment).unwrap();
        deployment = serde_json::from_str(&text).unwrap();
        world.retiring |= deployment.state == State::Retiring;
    }
    for member in &deployment.plan.members {
        let (shares, live) = (&world.shares[&member.service], member.live.as_ref().map(|live| &live.release));
        let whole = |release: &ReleaseKey, replicas| {
            assert_eq!(world.running[release], (1..=replicas).collect(), "seed {seed}: {release}");
        };
        match &deployment.state {
            State::Done => {
                assert_eq!(shares, std::slice::from_ref(&member.candidate), "seed {seed}");
                whole(&member.candidate, member.replicas);
                if let Some(live) = live {
                    let warm = member.retains();
                    assert_eq!(world.warm.contains(live), warm, "seed {seed}");
                    whole(live, if warm { live_replicas(member) } else { 0 });
                    assert_eq!(world.listed[&member.service].contains(live), warm, "seed {seed}");
                }
                assert!(member.safety.migrate.is_none() || world.migrated.contains(&member.candidate), "seed {seed}");
            }
            State::Reverted { .. } => {
                assert_eq!(shares.first(), live, "seed {seed}: {:?}", deployment.state);
                let fallback = member.fallback().map(|live| &live.release);
                let again = |live| !world.stopped.contains(live) || world.again.contains(live);
                assert!(fallback.is_none_or(again), "seed {seed}: {fallback:?} is started again");
                whole(&member.candidate, if member.safety.back.is_some() { member.replicas } else { 0 });
                fallback.iter().for_each(|live| whole(live, live_replicas(member)));
                let warm = world.warm.iter().filter(|release| release.service == member.service);
                warm.for_each(|warm| assert!(world.listed[&member.service].contains(warm), "seed {seed}: {warm}"));
            }
            _ => {}
        }
    }
    let orphans = !deployment.plan.orphans.is_empty();
    assert!(world.orphans_gone == orphans || deployment.state != State::Done, "seed {seed}");
    assert!(!world.orphans_gone || orphans, "seed {seed}");
    (deployment.state, steps)
}

#[test]
fn whatever_happens_the_promises_hold() {
    let (mut done, mut reverted, mut stuck) = (0, 0, 0);
    for seed in 1..=5_000 {
        match walk(seed).0 {
            State::Done => done += 1,
            State::Reverted { .. } => reverted += 1,
            State::Stuck { .. } => stuck += 1,
            other => panic!("seed {seed} ended in {other:?}"),
        }
    }
    // The walks must have been everywhere, or they show nothing.
    assert!(done > 300 && reverted > 1_000 && stuck > 100, "{done} done, {reverted} reverted, {stuck} stuck");
}

/// Which of the walks had what: a rule that no walk meets is not tested.
#[test]
fn the_walks_meet_jobs_namespaces_orphans_batches_and_candidates_that_grow() {
    let (mut jobs, mut joined, mut beside, mut orphans, mut again, mut batches) = (0, 0, 0, 0, 0, [0, 0]);
    let mut grows = 0;
    for seed in 1..=1_000u64 {
        let plan = plan(&mut Random(seed * 2 + 1));
        jobs += usize::from(plan.members.iter().any(|member| member.job));
        again += usize::from(plan.members.iter().any(|member| member.live.as_ref().is_some_and(|live| live.job)));
        joined +=
            usize::from(plan.members.iter().any(|member| !member.joins.is_empty() && member.fallback().is_some()));
        beside += usize::from(plan.members.iter().any(|member| member.flips_with.is_some()));
        orphans += usize::from(!plan.orphans.is_empty());
        let grown = |member: &Member| member.replicas_in(0) < member.replicas;
        grows += usize::from(plan.members.iter().any(grown));
        for member in plan.members.iter().filter(|member| member.batch_count() > 2) {
            batches[usize::from(member.is_recreate())] += 1;
        }
    }
    assert!(
        [jobs, joined, beside, orphans, again, grows].iter().chain(&batches).all(|n| *n > 30),
        "{jobs} {joined} {beside} {orphans} {again} {grows} {batches:?}"
    );
}

#[test]
fn an_event_that_a_state_cannot_have_is_refused_and_changes_nothing() {
    let all_live = |plan: &Plan| plan.members.iter().all(|member| member.live.is_some());
    let plan = (1..).map(|seed| plan(&mut Random(seed))).find(all_live).unwrap();
    let mut deployment = Deployment::new(1, plan, 0);
    let before = deployment.clone();
    for event in [
        Event::Entered { to: State::Retiring },
        Event::Entered { to: State::Done },
        Event::Did { action: Action::Publish, published: None },
        Event::Resolved { plan: Box::new(deployment.plan.clone()) },
    ] {
        assert!(deployment.apply(&event, 1).is_err(), "{event:?}");
        assert_eq!(deployment, before);
    }
}

#[test]
fn a_member_that_dies_while_others_are_watched_takes_the_group_back_and_a_job_that_ended_does_not() {
    let mut plan = Plan { project: "shop".to_owned(), ..Plan::default() };
    plan.members = vec![
        member("migrate", Strategy::Recreate, true),
        member("worker", Strategy::Recreate, true),
        member("web", Strategy::BlueGreen, true),
    ];
    plan.members[0].job = true;
    let watched = [
        State::Warming { member: 2, batch: 0 },
        State::Shifting { step: 0 },
        State::Baking,
        State::Draining { closing: false },
    ];
    for state in watched.into_iter().chain([State::Draining { closing: true }]) {
        let mut deployment = Deployment::new(1, plan.clone(), 0);
        deployment.state = state.clone();
        let ready = |member: &Member| (member.candidate.clone(), vec![Health::Ready; 2]);
        let mut seen = Seen { replicas: plan.members.iter().map(ready).collect(), ..Seen::default() };
        // Its containers were cleaned away.
        seen.replicas.insert(plan.members[0].candidate.clone(), Vec::new());
        assert!(!matches!(decide(&deployment, &seen, 1), Step::Fail(_)), "{state:?}");
        let fault = Fault::new(Code::ReplicaExited, "exited");
        seen.replicas.insert(plan.members[1].candidate.clone(), vec![Health::Ready, Health::Failed { fault }]);
        let step = decide(&deployment, &seen, 1);
        assert!(matches!(&step, Step::Fail(fault) if fault.code == Code::ReplicaExited), "{state:?}: {step:?}");
    }
}

#[test]
fn what_a_deployment_has_stopped_is_told_from_what_has_ended_by_itself() {
    let mut plan = Plan { project: "shop".to_owned(), ..Plan::default() };
    plan.members = vec![member("db", Strategy::Recreate, true), member("web", Strategy::BlueGreen, true)];
    let live = |at: usize| plan.members[at].live.clone().unwrap().release;
    let reverting = |phase| {
        let why = Fault::new(Code::Aborted, "aborted");
        State::Reverting { why, from: Box::new(State::Baking), phase }
    };
    for (state, db, web) in [
        (State::Holding { member: 0 }, false, false),
        (State::Stopping { member: 0, batch: 0 }, true, false),
        (State::Stepping { step: 0 }, true, false),
        (State::Retiring, true, true),
        (reverting(Phase::Hold { member: 0 }), true, false),
        (reverting(Phase::Clean), false, false),
    ] {
        let mut deployment = Deployment::new(1, plan.clone(), 0);
        deployment.state = state.clone();
        assert_eq!([0, 1].map(|at| deployment.has_stopped(&live(at), 1)), [db, web], "{state:?}");
        assert!(!deployment.has_stopped(&plan.members[0].candidate, 1), "{state:?}");
    }
}

#[test]
fn an_abort_is_taken_at_once_until_the_candidate_is_live() {
    let mut random = Random(11);
    let plan = plan(&mut random);
    for (state, aborts) in [
        (State::Warming { member: 0, batch: 0 }, true),
        (State::Baking, true),
        (State::Draining { closing: false }, true),
        (State::Retiring, false),
    ] {
        let mut deployment = Deployment::new(1, plan.clone(), 0);
        deployment.state = state.clone();
        let step = decide(&deployment, &Seen { abort: Some("me".to_owned()), ..Seen::default() }, 1);
        assert_eq!(matches!(step, Step::Fail(fault) if fault.code == Code::Aborted), aborts, "{state:?}");
    }
}
