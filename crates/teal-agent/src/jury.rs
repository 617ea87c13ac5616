//! Watches the candidates of one deployment while requests are shared: counts every tenth of a second, checks now and then, and
//! whoever else was asked.
//!
//! ```text
//! statistics ─▶ verdict::Watch, one a service ─┐
//! judges (commands, queries) ──────────────────┼─▶ Judged ─▶ decide()
//! the same checks of both releases ────────────┴─▶ unready from
//! ```

use crate::agent::Agent;
use crate::alerts::Subject;
use crate::clock::{steady_ms, unix_ms};
use crate::host_command::Surroundings;
use crate::judges::{Judges, Opinion, Said};
use crate::runtime::Rhythm;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use teal_model::deployment::{Deployment, End, Judged, LOST_AFTER_MS, Ruling, State};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{Color, ReleaseKey, ServiceKey};
use teal_model::plan::{ALL, Member, Span};
use teal_model::verdict::{self, Lines, Slowness, Tick, Warning, Watch, counts, thousands};
use teal_model::wire::{ReleaseStatistics, Sample, Statistics};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The share up to which one that was turned down is let again.
const HALF: u32 = 5_000;
/// Last log lines that are waited for before a bad release is taken back.
const LINES_WITHIN: Duration = Duration::from_millis(100);
const LINES: u32 = 10;
/// Failing requests that are told.
const SAMPLES: usize = 5;
/// Words of one service in one deployment.
const TOLD: usize = 20;
/// What is told of a share that is turned down begins so.
const DOWN: &str = "turned down on first evidence: ";
/// Without statistics for so long, the time alone is looked at.
const SILENCE: Duration = Duration::from_secs(1);

/// How far the deployment is.
#[derive(Debug, Clone, Default, PartialEq)]
struct Course {
    /// What candidates have now.
    shares: BTreeMap<ServiceKey, u32>,
    /// How many of their replicas have it.
    fit: BTreeMap<ServiceKey, u32>,
    /// These shares are in force.
    watched: bool,
    baking_since_ms: Option<u64>,
}

pub struct Jury {
    judged: watch::Receiver<Judged>,
    unready: watch::Receiver<BTreeMap<ReleaseKey, u64>>,
    course: watch::Sender<Course>,
    /// They end with it.
    _tasks: JoinSet<()>,
}

impl Jury {
    pub fn start(agent: &Arc<Agent>, deployment: &Deployment) -> Self {
        let members: Vec<Member> = deployment.plan.members.iter().filter(|member| is_judged(member)).cloned().collect();
        let (judged_to, judged) = watch::channel(Judged::default());
        let (unready_to, unready) = watch::channel(BTreeMap::new());
        let (course, course_here) = watch::channel(Course::default());
        let mut tasks = JoinSet::new();
        if !members.is_empty() {
            let session = Session::open(agent.clone(), deployment, &members, course_here, judged_to);
            session.before();
            tasks.spawn(session.run());
        }
        for member in members.into_iter().filter(is_compared) {
            tasks.spawn(check(agent.clone(), member, course.subscribe(), unready_to.clone()));
        }
        Self { judged, unready, course, _tasks: tasks }
    }

    pub fn follow(&self, deployment: &Deployment) {
        let members = &deployment.plan.members;
        let shares = members.iter().map(|member| (member.service.clone(), deployment.share(member)));
        let fit = members.iter().map(|member| (member.service.clone(), deployment.fit(member)));
        let baking_since_ms = (deployment.state == State::Baking).then_some(deployment.entered_ms);
        let watched = deployment.state.is_watched();
        let course = Course { shares: shares.collect(), fit: fit.collect(), watched, baking_since_ms };
        self.course.send_if_modified(|now| std::mem::replace(now, course.clone()) != course);
    }

    pub fn now(&self) -> Judged {
        self.judged.borrow().clone()
    }

    pub fn unready_from(&self) -> BTreeMap<ReleaseKey, u64> {
        self.unready.borrow().clone()
    }

    /// For people, while it lasts.
    pub fn words(&self) -> String {
        self.judged.borrow().progress.clone()
    }

    /// Something new is to be decided.
    pub async fn changed(jury: &mut Option<Jury>) {
        match jury {
            Some(jury) => {
                // Both end only with the tasks, which end with it.
                let changed = tokio::select! {
                    changed = jury.judged.changed() => changed,
                    changed = jury.unready.changed() => changed,
                };
                // Nobody is left who could say anything.
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            None => std::future::pending().await,
        }
    }
}

/// Its requests say something of it, or somebody else does, and there is time to listen.
fn is_judged(member: &Member) -> bool {
    let rules = &member.safety.rollback;
    let says = is_compared(member) || rules.on.history || !rules.judges.is_empty();
    let listens = member.bake_ms > 0 || !member.safety.steps.is_empty();
    says && listens && !member.job && member.live.is_some() && member.serves()
}

/// Its live release answers beside it.
fn is_compared(member: &Member) -> bool {
    !member.takes_its_turn()
}

/// The statistics of one source, as they were last.
struct Source {
    statistics: broadcast::Receiver<Arc<Statistics>>,
    last: Option<Arc<Statistics>>,
}

struct Session {
    agent: Arc<Agent>,
    sources: Vec<Source>,
    benches: Vec<Bench>,
    course: watch::Receiver<Course>,
    judged: watch::Sender<Judged>,
}

/// One service under watch.
struct Bench {
    member: Member,
    live: ReleaseKey,
    watch: Watch,
    /// Of candidate and live release, by source.
    slow: Vec<(Slowness, Slowness)>,
    judges: Option<Judges>,
    /// Those of them that were bad before.
    excused: BTreeSet<String>,
    ruling: Ruling,
    began_ms: u64,
    /// When its bake is over, if nothing makes it longer.
    over_ms: u64,
    /// Why it is, as far as that is known.
    contained: Option<String>,
    samples: Vec<Sample>,
    words: Vec<String>,
    seen: (verdict::Counts, verdict::Counts),
    /// The candidate had a request, whatever became of it.
    was_asked: bool,
}

impl Session {
    fn open(
        agent: Arc<Agent>,
        deployment: &Deployment,
        members: &[Member],
        course: watch::Receiver<Course>,
        judged: watch::Sender<Judged>,
    ) -> Self {
        let sources = agent.meter.sources().into_iter();
        let sources: Vec<Source> =
            sources.map(|counts| Source { statistics: counts.statistics(), last: None }).collect();
        let histories = agent.histories.now();
        let count = sources.len();
        let benches = members.iter().filter_map(|member| {
            let live = member.live.as_ref()?.release.clone();
            let history = histories.get(&member.service).and_then(verdict::History::rate);
            let lines = agent.meter.latency_of(&live).as_ref().and_then(Lines::of);
            let rules = &member.safety.rollback;
            let watched_ms = member.bake_ms + steps_ms(member);
            let began_ms = unix_ms();
            let mut watch = Watch::new(rules, watched_ms, history, lines, steady_ms());
            watch.bakes_since(began_ms);
            if deployment.state != (State::Shifting { step: 0 }) {
                watch = watch.resume(deployment.cap.map(|_| ALL));
            }
            let excused = excused(deployment, member);
            let counts = is_compared(member) && deployment.state.is_watched() && deployment.share(member) > 0;
            let judges = judges_of(&agent, member, counts, &excused);
            let down = deployment.notes.iter().rev().find_map(|words| words.strip_prefix(DOWN));
            Some(Bench {
                live,
                slow: lines
                    .map_or_else(Vec::new, |lines| vec![(Slowness::candidate(&lines), Slowness::live(&lines)); count]),
                contained: watch.contained().map(|_| down.unwrap_or("as the agent before found it").to_owned()),
                watch,
                judges,
                excused,
                began_ms,
                over_ms: began_ms + watched_ms,
                ruling: deployment.cap.map_or(Ruling::Keep, |cap| Ruling::Cap(Some(cap))),
                samples: Vec::new(),
                words: Vec::new(),
                seen: Default::default(),
                was_asked: false,
                member: member.clone(),
            })
        });
        Self { sources, benches: benches.collect(), agent, course, judged }
    }

    /// Before the first statistics: a step or a bake whose time is over says nothing by itself.
    fn before(&self) {
        let now_ms = unix_ms();
        self.judged.send_modify(|judged| {
            judged.watched_from_ms = self.watched_from_ms();
            judged.contained = self.benches.iter().any(|bench| bench.contained.is_some());
            judged.end = self.benches.iter().fold(End::Promote, |end, bench| later(end, bench.end(now_ms)));
        });
    }

    async fn run(mut self) {
        loop {
            let mut heard = false;
            let [proxy, nginx] = &mut self.sources[..] else { return };
            let (source, newest) = tokio::select! {
                newest = proxy.statistics.recv() => (0, newest),
                newest = nginx.statistics.recv() => (1, newest),
                // Nobody counts: time passes all the same, and a bake ends as one that has said nothing.
                () = sleep(SILENCE) => {
                    self.say().await;
                    continue;
                }
            };
            match newest {
                Ok(newest) => {
                    self.take(source, newest);
                    heard = true;
                }
                // The next one says it all: counters are cumulative.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
            if heard {
                self.say().await;
            }
        }
    }

    fn take(&mut self, source: usize, newest: Arc<Statistics>) {
        let now_ms = steady_ms();
        let last = self.sources[source].last.replace(newest.clone());
        // Of another instance: all of it is new to nobody.
        let Some(last) = last.filter(|last| last.instance == newest.instance) else {
            for bench in &mut self.benches {
                bench.slowness(source, &newest);
            }
            return;
        };
        let shares = self.course.borrow().shares.clone();
        for bench in &mut self.benches {
            let share = shares.get(&bench.member.service).copied().unwrap_or(ALL);
            bench.take(source, (&newest, &last), share, now_ms);
        }
    }

    fn watched_from_ms(&self) -> u64 {
        self.benches.iter().map(|bench| bench.began_ms).max().unwrap_or(0)
    }

    async fn say(&mut self) {
        let now_ms = unix_ms();
        let mut judged = Judged { watched_from_ms: self.watched_from_ms(), ..Judged::default() };
        let (mut caps, mut progress) = (Vec::new(), Vec::new());
        let Course { shares, watched, baking_since_ms, .. } = self.course.borrow().clone();
        for bench in &mut self.benches {
            // Steps take as long as they take: the bake is over when its own time is.
            if let Some(since_ms) = baking_since_ms {
                bench.over_ms = since_ms + bench.member.bake_ms;
                bench.watch.bakes_since(since_ms.saturating_sub(steps_ms(&bench.member)));
            }
            if watched && shares.get(&bench.member.service).is_some_and(|share| *share > 0) {
                bench.may_judge();
            }
            bench.hear_judges();
            match &bench.ruling {
                Ruling::Keep => {}
                Ruling::Cap(cap) => caps.extend(cap),
                Ruling::Revert(fault) => {
                    judged.ruling = Ruling::Revert(fault.clone());
                    judged.accused.get_or_insert_with(|| bench.member.service.clone());
                }
            }
            let mut warnings = bench.watch.warnings(steady_ms());
            // Where it is recreated, that goes without saying.
            warnings.retain(|warning| *warning != Warning::LiveGone { why: None });
            let both_fail = warnings.iter().find(|warning| matches!(warning, Warning::BothFail { .. }));
            judged.both_fail |= both_fail.is_some();
            judged.contained |= bench.contained.is_some();
            let (candidate, live) = bench.names();
            judged.held = judged.held.or_else(|| bench.held(both_fail.map(|warning| warning.words(&candidate, &live))));
            let subject = Subject::Service(bench.member.service.clone(), "verdict");
            match warnings.first() {
                Some(warning) => self
                    .agent
                    .alert_once(subject, format!("{}: {}", bench.member.service, warning.words(&candidate, &live))),
                None => self.agent.clear_alert(subject),
            }
            judged.words.extend(bench.words.iter().cloned());
            judged.end = later(judged.end, bench.end(now_ms));
            progress.push(bench.progress());
        }
        judged.progress = progress.join("; ");
        if judged.ruling == Ruling::Keep && !caps.is_empty() {
            judged.ruling = Ruling::Cap(caps.into_iter().min());
        }
        let before = self.judged.borrow().ruling.clone();
        match (&mut judged.ruling, before) {
            // Said once, with what was known then.
            (now @ Ruling::Revert(_), before @ Ruling::Revert(_)) => *now = before,
            (Ruling::Revert(fault), _) => fault.detail.extend(self.last_lines().await),
            _ => {}
        }
        self.judged.send_if_modified(|before| {
            let news = (&before.ruling, &before.words, before.both_fail, before.contained, before.end)
                != (&judged.ruling, &judged.words, judged.both_fail, judged.contained, judged.end);
            *before = judged;
            news
        });
    }

    /// What the replicas that are to be taken back wrote last.
    async fn last_lines(&self) -> Vec<String> {
        let world = self.agent.watch.now();
        let mut lines = Vec::new();
        for bench in self.benches.iter().filter(|bench| matches!(bench.ruling, Ruling::Revert(_))) {
            for replica in world.of(&bench.member.candidate).take(2) {
                let tail = timeout(LINES_WITHIN, self.agent.runtime.tail(&replica.container.id, LINES)).await;
                let Ok(Ok(tail)) = tail else { continue };
                let head = format!("{} wrote last:", replica.container.name);
                lines.extend((!tail.is_empty()).then_some(head));
                lines.extend(tail.into_iter().map(|line| line.text));
            }
        }
        lines
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for bench in &self.benches {
            self.agent.clear_alert(Subject::Service(bench.member.service.clone(), "verdict"));
        }
    }
}

impl Bench {
    fn names(&self) -> (String, String) {
        let name = |color: Color, of: &ReleaseKey| format!("{color} ({} {})", of.service.service, of.number);
        let live = self.member.live.as_ref().map(|live| name(live.color, &live.release)).unwrap_or_default();
        (name(self.member.color, &self.member.candidate), live)
    }

    fn slowness(&mut self, source: usize, newest: &Statistics) -> Option<(verdict::Slow, verdict::Slow)> {
        let of = |release: &ReleaseKey| newest.releases.iter().find(|one| &one.release == release);
        let (candidate, live) = self.slow.get_mut(source)?;
        let ours = of(&self.member.candidate).map(|now| candidate.take(now));
        let theirs = of(&self.live).map(|now| live.take(now));
        Some((ours.unwrap_or_default(), theirs.unwrap_or_default()))
    }

    fn take(&mut self, source: usize, (newest, last): (&Statistics, &Statistics), share: u32, now_ms: u64) {
        fn of<'a>(statistics: &'a Statistics, release: &ReleaseKey) -> Option<&'a ReleaseStatistics> {
            statistics.releases.iter().find(|one| &one.release == release)
        }
        let newly = |release: &ReleaseKey| {
            of(newest, release).map_or_else(Default::default, |now| counts(now, of(last, release)))
        };
        let (candidate, live) = (newly(&self.member.candidate), newly(&self.live));
        self.seen.0.n += candidate.n;
        self.seen.0.bad += candidate.bad;
        self.seen.1.n += live.n;
        self.seen.1.bad += live.bad;
        if let Some(now) = of(newest, &self.member.candidate) {
            let asked = |one: &ReleaseStatistics| one.counters.requests;
            self.was_asked |= asked(now) > of(last, &self.member.candidate).map_or(0, asked);
            self.samples.extend(now.samples.iter().cloned());
            let more = self.samples.len().saturating_sub(SAMPLES);
            self.samples.drain(..more);
        }
        let slow = self.slowness(source, newest);
        let gone = !is_compared(&self.member);
        let tick = Tick { candidate, live: (!gone).then_some(live), slow, share };
        let (ours, theirs) = self.names();
        match self.watch.tick(now_ms, &tick) {
            verdict::Ruling::Keep => {}
            verdict::Ruling::Contain { share, why } => {
                let why = why.counted(&ours, &theirs);
                self.ruling = Ruling::Cap(Some(share));
                self.tell(format!("{DOWN}{why}"));
                self.contained = Some(why);
            }
            verdict::Ruling::Release { .. } => {
                self.contained = None;
                self.ruling = Ruling::Cap(Some(HALF));
                self.tell(format!("let again: {ours} has done well for a while"));
            }
            verdict::Ruling::Revert { why } => {
                if !matches!(self.ruling, Ruling::Revert(_)) {
                    let fault = Fault::new(Code::Worse, why.words(&ours, &theirs)).detail(self.sampled());
                    self.ruling = Ruling::Revert(fault);
                }
            }
        }
    }

    fn sampled(&self) -> Vec<String> {
        let line = |sample: &Sample| {
            let status = sample.status.map_or_else(|| "no whole answer".to_owned(), |status| status.to_string());
            format!("{} {} -> {status}", sample.method, sample.path)
        };
        self.samples.iter().map(line).collect()
    }

    /// Why no step forward is taken because of it.
    fn held(&self, both_fail: Option<String>) -> Option<String> {
        let name = &self.member.service.service;
        match (both_fail, &self.contained) {
            (Some(why), _) => Some(format!("{name} and its live release fail alike ({why})")),
            (None, Some(why)) => {
                Some(format!("the share of {name} is turned down until it does well for a while ({why})"))
            }
            (None, None) => None,
        }
    }

    /// The candidate has requests: from now on they are what its judges speak of. Where it is recreated it has had them before anybody
    /// was asked, and the first answers may be of the time before.
    fn may_judge(&self) {
        let Some(judges) = &self.judges else { return };
        if is_compared(&self.member) || judges.now().iter().all(|opinion| opinion.last != Said::NotAsked) {
            judges.count();
        }
    }

    /// Others who were asked.
    fn hear_judges(&mut self) {
        let opinions = self.judges.as_ref().map(Judges::now).unwrap_or_default();
        for opinion in opinions {
            self.hear(&opinion);
        }
    }

    fn hear(&mut self, Opinion { name, bad_in_a_row, bad_before, last }: &Opinion) {
        if *bad_before && self.excused.insert(name.clone()) {
            let candidate = &self.member.candidate;
            let before = bad_before_of(name);
            self.tell(format!("{before}{candidate} was watched, and has no say until it is good"));
        }
        if !bad_before && self.excused.remove(name) {
            self.tell(good_now(name));
        }
        let asked = &self.member.safety.rollback.judges;
        let enough = asked.iter().find(|judge| judge.name == *name).map_or(1, |judge| judge.failures);
        match last {
            Said::Bad { words } if *bad_in_a_row >= enough => {
                let what = format!("the judge {name} finds {} bad: {words}", self.member.candidate);
                self.ruling = Ruling::Revert(Fault::new(Code::Worse, what));
            }
            Said::Unknown { why } => {
                let said = format!("the judge {name} does not know: {why}");
                if !self.words.contains(&said) {
                    self.tell(said);
                }
            }
            Said::NotAsked | Said::Good | Said::Bad { .. } => {}
        }
    }

    /// Whether its requests have said enough, now that the bake is over.
    fn end(&self, now_ms: u64) -> verdict::End {
        let (candidate, live) = self.seen;
        match self.watch.at_end(now_ms) {
            _ if !is_compared(&self.member) && !self.member.safety.rollback.on.history => verdict::End::Promote,
            // Nobody has called it in all the time of a bake: there is nothing to wait for.
            verdict::End::Extend { .. }
                if now_ms >= self.over_ms.max(self.began_ms + self.member.bake_ms)
                    && candidate.n + live.n == 0
                    && !self.was_asked =>
            {
                verdict::End::Inconclusive { requests: 0, contained: false }
            }
            // An agent that has just begun has not seen enough to give up.
            verdict::End::Inconclusive { .. } if now_ms < self.began_ms + self.member.bake_ms => {
                verdict::End::Extend { until_ms: self.began_ms + self.member.bake_ms }
            }
            end => end,
        }
    }

    /// What is told of it, each once; a long canary tells no more than so much.
    fn tell(&mut self, words: String) {
        if self.words.len() < TOLD {
            self.words.push(words);
        }
    }

    fn progress(&self) -> String {
        let (ours, theirs) = self.names();
        let of = |seen: verdict::Counts| format!("{} of {}", thousands(seen.bad), thousands(seen.n));
        let (candidate, live) = self.seen;
        match is_compared(&self.member) {
            true => format!("{ours} failed {}, {theirs} {}", of(candidate), of(live)),
            false => format!("{ours} failed {}", of(candidate)),
        }
    }
}

fn bad_before_of(judge: &str) -> String {
    format!("the judge {judge} was bad before ")
}

fn good_now(judge: &str) -> String {
    format!("the judge {judge} is good now, and has a say")
}

/// Judges that were bad before the candidate had requests, and have not been good since: as it was told last.
fn excused(deployment: &Deployment, member: &Member) -> BTreeSet<String> {
    let told = |name: &str| {
        let (before, now) = (bad_before_of(name), good_now(name));
        let mut notes = deployment.notes.iter().rev();
        notes.find(|words| **words == now || words.starts_with(&before)).is_some_and(|words| *words != now)
    };
    let judges = member.safety.rollback.judges.iter().map(|judge| judge.name.clone());
    judges.filter(|name| told(name)).collect()
}

/// They know whom they judge.
fn judges_of(agent: &Agent, member: &Member, counts: bool, excused: &BTreeSet<String>) -> Option<Judges> {
    let judges = member.safety.rollback.judges.clone();
    let directory = agent.store.release(&member.candidate).map(|stored| stored.directory).unwrap_or_default();
    let ServiceKey { project, service } = &member.service;
    let variables = [
        ("TEAL_PROJECT", project.clone()),
        ("TEAL_SERVICE", service.clone()),
        ("TEAL_RELEASE", member.candidate.number.to_string()),
        ("TEAL_COLOR", member.color.to_string()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
    let surroundings = Surroundings { directory: directory.into(), variables };
    (!judges.is_empty()).then(|| Judges::start(judges, &surroundings, counts, excused))
}

fn steps_ms(member: &Member) -> u64 {
    let paces = member.safety.steps.iter().map(|step| match step.pace {
        teal_model::config::Pace::For { ms } => ms,
        teal_model::config::Pace::Manual => 0,
    });
    paces.sum()
}

/// Of a group: that of the member who needs most.
fn later(end: End, other: verdict::End) -> End {
    match (end, other) {
        (End::Extend { until_ms }, verdict::End::Extend { until_ms: other }) => {
            End::Extend { until_ms: until_ms.max(other) }
        }
        (End::Extend { until_ms }, _) | (_, verdict::End::Extend { until_ms }) => End::Extend { until_ms },
        (End::Inconclusive, _) | (_, verdict::End::Inconclusive { .. }) => End::Inconclusive,
        (End::Promote, verdict::End::Promote) => End::Promote,
    }
}

/// Whether a candidate that was ready still is, by the check that made it so. Its live release is asked in the same moment: a fault is
/// the candidate's own only as long as that one passes, and else that of something that both need.
async fn check(
    agent: Arc<Agent>,
    member: Member,
    course: watch::Receiver<Course>,
    unready: watch::Sender<BTreeMap<ReleaseKey, u64>>,
) {
    let (candidate, Some(live)) = (&member.candidate, member.live.as_ref().map(|live| &live.release)) else { return };
    let own = match agent.store.release(candidate).map(|stored| stored.service.teal.health) {
        Ok(health) => Rhythm {
            every: Duration::from_millis(health.interval_ms.max(1_000)),
            within: Duration::from_millis(health.timeout_ms),
        },
        Err(fault) => {
            tracing::warn!(release = %candidate, %fault, "it is not checked again");
            return;
        }
    };
    loop {
        sleep(own.every).await;
        // Further replicas on their way are not ready yet, and have no requests.
        let fit = course.borrow().fit.get(&member.service).copied().unwrap_or(member.replicas);
        let ours = agent.are_ready_now(candidate, Span { first: 1, last: fit });
        let (ours, theirs) = tokio::join!(ours, agent.is_ready_now(live));
        let alone = (ours, theirs) == (Some(false), Some(true));
        let from_ms = unix_ms() + patience_ms(&agent, own, [candidate, live]);
        unready.send_if_modified(|unready| match alone {
            true if unready.contains_key(candidate) => false,
            true => unready.insert(candidate.clone(), from_ms).is_none(),
            false => unready.remove(candidate).is_some(),
        });
    }
}

/// For so long a candidate may fail beside a live release that passes. Engines look at each container in turns of its own, so what both
/// need may be seen to fail, or to be well again, at one of them first.
fn patience_ms(agent: &Agent, own: Rhythm, releases: [&ReleaseKey; 2]) -> u64 {
    let world = agent.watch.now();
    let replicas = releases.into_iter().flat_map(|release| world.of(release));
    let rhythms = replicas.filter_map(|replica| replica.container.rhythm).chain([own]);
    let longest = rhythms.map(Rhythm::agrees_within).max().unwrap_or_default();
    u64::try_from(longest.as_millis()).unwrap_or(u64::MAX).max(LOST_AFTER_MS)
}
