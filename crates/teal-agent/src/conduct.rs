//! The loop that carries a deployment out: look, decide, write down the intent, do it, write down what happened.
//!
//! A journal that cannot write stops the deployment and never the traffic: what may still be taken back is taken back
//! without asking the disk, and what may not waits until the disk can be written again.

use crate::agent::{Agent, Orders};
use crate::alerts::Subject;
use crate::clock::unix_ms;
use crate::journal::{Journal, JournalError, Kept};
use crate::jury::Jury;
use crate::meter::Window;
use crate::migrate::{self, MigrationEnd, migration_failed};
use crate::proof::Proving;
use crate::pulls::Pulls;
use crate::words::{release_lines, step_words, steps};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use teal_model::api::{Notice, What};
use teal_model::config::PullPolicy;
use teal_model::deployment::{
    Action, Deployment, Event, Growth, Health, Judged, Migration, Phase, Pull, Ruling, Seen, State, Step, decide,
};
use teal_model::fault::{Code, Fault};
use teal_model::ids::ReleaseKey;
use teal_model::plan::Member;
use teal_model::receipt::{Outcome, Receipt, Traffic};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::sleep;

/// How often an in-flight count that is waited for is asked for: often at first, so that a quick drain costs nothing.
const DRAIN_POLL: Duration = Duration::from_millis(5);
const DRAIN_POLL_MAX: Duration = Duration::from_millis(200);
/// A journal that cannot be written is tried again after this.
const JOURNAL_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked whether the deployment before has flipped.
const BEFORE_POLL: Duration = Duration::from_millis(20);
/// The same progress is not repeated, and different progress not more often than this.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

pub struct Conductor {
    agent: Arc<Agent>,
    kept: Kept,
    deployment: Deployment,
    window: Option<Window>,
    orders: watch::Sender<Orders>,
    ordered: watch::Receiver<Orders>,
    jury: Option<Jury>,
    /// What it says, for others.
    judged: watch::Sender<Judged>,
    proving: Option<Proving>,
    notices: broadcast::Sender<Notice>,
    sequence: u64,
    pulls: Arc<Pulls>,
    poll: Duration,
    progress: (std::time::Instant, String),
    /// The journal failed: the rest of the revert is done without it, and written down when it can be.
    unjournaled: Vec<(Event, What)>,
}

impl Conductor {
    pub fn new(
        agent: Arc<Agent>,
        kept: Kept,
        window: Option<Window>,
        orders: watch::Sender<Orders>,
        notices: broadcast::Sender<Notice>,
        judged: watch::Sender<Judged>,
    ) -> Self {
        Self {
            deployment: kept.deployment.clone(),
            agent,
            kept,
            window,
            ordered: orders.subscribe(),
            orders,
            jury: None,
            judged,
            proving: None,
            notices,
            sequence: 0,
            pulls: Arc::default(),
            poll: DRAIN_POLL,
            progress: (std::time::Instant::now(), String::new()),
            unjournaled: Vec::new(),
        }
    }

    /// Carries the deployment out to its end. `first`: what happened to it before this loop began, if it may still be taken
    /// back.
    pub async fn run(mut self, first: Option<Event>) {
        let first = match first {
            None if self.deployment.state == State::Planned => self.wait_for_the_one_before().await,
            first => first.filter(|_| self.deployment.state.may_revert()),
        };
        if let Some(event) = first {
            self.record(event).await;
        }
        loop {
            self.wait_for_engine().await;
            self.attend();
            let seen = self.observe().await;
            match decide(&self.deployment, &seen, unix_ms()) {
                Step::Finish => break,
                Step::Wait { until_ms } => self.wait(until_ms, &seen).await,
                Step::Enter(to) => self.record(Event::Entered { to }).await,
                Step::Fail(fault) => self.record(Event::Failed { action: None, fault }).await,
                Step::Promote(promote) => {
                    self.orders.send_modify(|orders| orders.promote = None);
                    // Whoever promotes over a pause knows better than what was seen so far: that is noted beside his name, and it is looked
                    // at anew. A step that nothing was said against keeps all that was seen.
                    self.jury = self.jury.take().filter(|jury| !matches!(jury.now().ruling, Ruling::Revert(_)));
                    self.record(Event::Promoted { full: promote.full, who: promote.who }).await;
                }
                Step::Freeze(why) => {
                    self.orders.send_modify(|orders| orders.freeze = None);
                    self.record(Event::Frozen { why }).await;
                }
                Step::Note(words) => self.record(Event::Noted { words }).await,
                Step::Resolve => self.resolve().await,
                Step::Do(action) => self.carry_out(action).await,
            }
        }
        self.finish().await;
    }

    /// An engine that has not answered since this agent began: nobody knows what runs, so nothing is decided.
    async fn wait_for_engine(&self) {
        let mut world = self.agent.watch.changes();
        // An error says that the watcher ended with the agent.
        let _ = world.wait_for(|world| world.known).await;
    }

    /// Until the deployment that comes first has flipped; an event where it never will.
    async fn wait_for_the_one_before(&mut self) -> Option<Event> {
        let before = self.deployment.plan.after?;
        loop {
            if let Some(why) = self.abandoned() {
                return Some(Event::Failed { action: None, fault: Fault::new(Code::Aborted, why) });
            }
            let flipped =
                |state: State| matches!(state, State::Baking | State::Draining { .. } | State::Retiring | State::Done);
            if self.state_of(before).is_some_and(flipped) {
                return None;
            }
            tokio::select! {
                // What was asked for is seen by whoever decides.
                _ = self.ordered.changed() => return None,
                () = sleep(BEFORE_POLL) => {}
            }
        }
    }

    /// None: the journal does not answer.
    fn state_of(&self, deployment: u64) -> Option<State> {
        let kept = self.agent.journal.deployment(deployment).ok()??;
        Some(kept.deployment.state)
    }

    /// Why there is nothing any more that this deployment would have to follow.
    fn abandoned(&self) -> Option<String> {
        let before = self.deployment.plan.after?;
        let gone =
            |state: &State| matches!(state, State::Reverting { .. } | State::Reverted { .. } | State::Stuck { .. });
        let state = self.state_of(before).filter(gone)?;
        Some(format!("deployment {before}, which comes first, is {}", state.name()))
    }

    /// Whoever watches the candidates in this state does, and nobody else.
    fn attend(&mut self) {
        match &self.deployment.state {
            State::Shifting { .. } | State::Stepping { .. } | State::Growing { .. } | State::Baking => {
                let jury = self.jury.get_or_insert_with(|| Jury::start(&self.agent, &self.deployment));
                jury.follow(&self.deployment);
            }
            _ => self.jury = None,
        }
        match &self.deployment.state {
            State::Proving { .. } | State::Growing { part: Growth::Proving, .. } if self.published() => {
                self.proving.get_or_insert_with(|| Proving::start(&self.agent, &self.deployment));
            }
            _ => self.proving = None,
        }
    }

    /// Everything of this state is done.
    fn published(&self) -> bool {
        self.deployment.script().iter().all(|action| self.deployment.done.contains(action))
    }

    async fn observe(&self) -> Seen {
        let world = self.agent.watch.now();
        let orders = self.orders.borrow().clone();
        let mut seen = Seen {
            abort: orders.abort.or_else(|| self.abandoned()),
            promote: orders.promote,
            freeze: orders.freeze,
            pulls: self.pulls.all(),
            proof: self.proving.as_ref().map(Proving::now),
            ..Seen::default()
        };
        if let Some(jury) = &self.jury {
            (seen.judged, seen.unready_from) = (jury.now(), jury.unready_from());
        }
        self.judged.send_replace(seen.judged.clone());
        if let State::Migrating { member, .. } = &self.deployment.state {
            let release = &self.deployment.plan.members[*member].candidate;
            if self.published() {
                seen.migrations.extend(self.look_at_migration(release).await.map(|seen| (release.clone(), seen)));
            }
        }
        let plan = &self.deployment.plan;
        let live = plan.members.iter().filter_map(|member| member.live.as_ref()).map(|live| &live.release);
        for release in plan.members.iter().map(|member| &member.candidate).chain(live) {
            let mut health: Vec<Health> = world.of(release).map(|replica| replica.health()).collect();
            if let Some(error) = world.engine_error.as_ref().filter(|_| !health.contains(&Health::Ready)) {
                health = vec![Health::Unknown { why: error.clone() }];
            }
            seen.replicas.insert(release.clone(), health);
        }
        if self.drains() {
            seen.in_flight = self.in_flight().await;
        }
        seen
    }

    /// None: nobody can say.
    async fn look_at_migration(&self, release: &ReleaseKey) -> Option<Migration> {
        let failed = |end, lines| migration_failed(release, end, lines);
        Some(match self.agent.migration(release).await.ok()? {
            migrate::Migration::Running => Migration::Running,
            migrate::Migration::Exited { code: 0, .. } => Migration::Succeeded,
            migrate::Migration::Exited { code, last_lines } => {
                Migration::Failed(failed(MigrationEnd::Exited { code }, last_lines))
            }
            // Not done twice, and not taken for done.
            migrate::Migration::Gone => {
                Migration::Lost(Fault { code: Code::Stuck, ..failed(MigrationEnd::Lost, Vec::new()) })
            }
        })
    }

    /// The states that wait for requests to end.
    fn drains(&self) -> bool {
        match &self.deployment.state {
            State::Holding { .. } | State::Draining { .. } => self.published(),
            State::Reverting { phase, .. } => matches!(phase, Phase::Hold { .. } | Phase::Drain),
            _ => false,
        }
    }

    /// Read after every worker has acknowledged the table in force. A release that the proxy does not name has nothing in flight.
    async fn in_flight(&self) -> BTreeMap<ReleaseKey, Option<u64>> {
        let wanted = self.agent.traffic.state().borrow().acknowledged;
        let statistics =
            self.agent.traffic.ask().await.filter(|statistics| wanted.is_some_and(|wanted| statistics.table >= wanted));
        let plan = &self.deployment.plan;
        let live = plan.members.iter().filter_map(|member| member.live.as_ref()).map(|live| &live.release);
        let releases = plan.members.iter().map(|member| &member.candidate).chain(live);
        let mut counts: BTreeMap<ReleaseKey, Option<u64>> = releases
            .map(|release| {
                let count = statistics.as_ref().map(|statistics| {
                    statistics.releases.iter().find(|one| &one.release == release).map_or(0, |one| one.in_flight)
                });
                let adopted = plan.members.iter().filter(|member| member.adopted().is_some());
                let adopted = adopted.filter_map(|member| member.live.as_ref()).any(|live| &live.release == release);
                let direct = if adopted { self.agent.direct_connections(release) } else { Some(0) };
                (release.clone(), count.zip(direct).map(|(count, direct)| count + direct))
            })
            .collect();
        for (release, count) in &mut counts {
            let through_nginx = self.agent.in_flight_of_nginx(release).await;
            *count = count.zip(through_nginx).map(|(count, more)| count + more);
        }
        counts
    }

    async fn wait(&mut self, until_ms: Option<u64>, seen: &Seen) {
        self.tell_progress(seen);
        let mut world = self.agent.watch.changes();
        world.mark_unchanged();
        if self.deployment.state == State::Pulling {
            self.ensure_pulls();
        }
        let now = unix_ms();
        let mut longest =
            until_ms.map_or(Duration::from_secs(60), |until| Duration::from_millis(until.saturating_sub(now).max(1)));
        if self.drains() {
            longest = longest.min(self.poll);
            self.poll = (self.poll * 2).min(DRAIN_POLL_MAX);
        }
        // What changed between looking and now is seen by the versions of the channels, or at the latest after a second.
        longest = longest.min(Duration::from_secs(1));
        tokio::select! {
            _ = world.changed() => {}
            _ = self.ordered.changed() => {}
            () = Jury::changed(&mut self.jury) => {}
            () = Proving::changed(&mut self.proving) => {}
            () = self.pulls.changed.notified() => {}
            () = sleep(longest) => {}
        }
    }

    fn tell_progress(&mut self, seen: &Seen) {
        let plan = &self.deployment.plan;
        let words = match &self.deployment.state {
            State::Pulling => self.pulls.words(),
            State::Warming { member, batch } => {
                let member = &plan.members[*member];
                readiness_words(seen, member, member.replicas_after(batch + 1))
            }
            State::Growing { step, part: Growth::Warming, .. } => {
                let flips = plan.members.iter().filter(|member| !member.takes_its_turn());
                flips
                    .map(|member| readiness_words(seen, member, member.replicas_in(*step)))
                    .collect::<Vec<_>>()
                    .join(", ")
            }
            State::Proving { .. } | State::Growing { part: Growth::Proving, .. } => {
                self.proving.as_ref().map(Proving::words).unwrap_or_default()
            }
            State::Stepping { .. } | State::Baking => self.jury.as_ref().map(Jury::words).unwrap_or_default(),
            _ if self.drains() => match seen.in_flight.values().copied().collect::<Option<Vec<u64>>>() {
                Some(counts) => format!("{} in flight", counts.iter().sum::<u64>()),
                None => "in flight: unknown".to_owned(),
            },
            _ => return,
        };
        if words.is_empty() || words == self.progress.1 || self.progress.0.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.progress = (std::time::Instant::now(), words.clone());
        self.tell(Notice {
            deployment: self.deployment.number,
            sequence: self.sequence,
            at_ms: unix_ms(),
            what: What::Progress { words },
        });
    }

    fn tell(&self, notice: Notice) {
        // Nobody listens: the journal has it.
        let _ = self.notices.send(notice);
    }

    fn ensure_pulls(&self) {
        // What is warm runs already.
        for member in self.deployment.plan.members.iter().filter(|member| !member.is_warm()) {
            if self.pulls.all().contains_key(member.reference()) {
                continue;
            }
            self.pulls.set(member.reference(), Pull::Running);
            let written = self.agent.store.release(&member.candidate).map(|stored| stored.service.pull_policy);
            let policy = match member.pinned {
                Some(_) => PullPolicy::Missing,
                None => written.unwrap_or(PullPolicy::Default),
            };
            let (agent, pulls, image) = (self.agent.clone(), self.pulls.clone(), member.reference().to_owned());
            tokio::spawn(async move {
                let (progress, mut said) = mpsc::channel(8);
                let listener = pulls.clone();
                let name = image.clone();
                tokio::spawn(async move {
                    while let Some(progress) = said.recv().await {
                        listener.say(&name, &progress);
                    }
                });
                let pulled = match agent.ensure_image(&image, policy, progress).await {
                    Ok(()) => Pull::Here,
                    Err(fault) => Pull::Failed(fault),
                };
                pulls.set(&image, pulled);
            });
        }
    }

    /// Every image is here: the plan is made again, with their ids and their own volumes.
    async fn resolve(&mut self) {
        let event = match self.resolved_plan().await {
            Ok(plan) => Event::Resolved { plan: Box::new(plan) },
            Err(fault) => Event::Failed { action: None, fault },
        };
        self.record(event).await;
    }

    async fn resolved_plan(&self) -> Result<teal_model::plan::Plan, Fault> {
        let mut request = self.agent.store.request(self.deployment.number)?;
        // Only what this deployment has claimed; the others were live and unchanged when it began.
        request.choice.services =
            self.deployment.plan.members.iter().map(|member| member.service.service.clone()).collect();
        let mut images = BTreeMap::new();
        for member in &self.deployment.plan.members {
            let gone = || Fault::new(Code::ImageMissing, format!("the image {} went away again", member.image));
            let image = member.reference();
            images.insert(image.to_owned(), self.agent.facts(image).await?.ok_or_else(gone)?);
        }
        let mut plan = match request.choice.services.is_empty() {
            true => self.deployment.plan.clone(),
            false => self.agent.plan_with(&request, &images).await?,
        };
        // The numbers were reserved when the deployment began.
        for member in &mut plan.members {
            if let Some(planned) = self.deployment.plan.members.iter().find(|planned| planned.service == member.service)
            {
                member.candidate = planned.candidate.clone();
                member.color = planned.color;
            }
        }
        // Only what was claimed when it began.
        plan.orphans.retain(|orphan| self.deployment.plan.orphans.contains(orphan));
        let before = self.deployment.plan.unchanged.iter().filter(|one| !plan.unchanged.contains(one)).cloned();
        let before: Vec<_> = before.collect();
        plan.unchanged.extend(before);
        self.agent.refuse_just_reverted(&plan, &request.choice)?;
        self.agent.store_candidates(&plan, &request)?;
        // Their numbers are given back with the plan, and may be another deployment's a moment later.
        for planned in &self.deployment.plan.members {
            if !plan.members.iter().any(|member| member.service == planned.service) {
                self.agent.store.remove_release(&planned.candidate)?;
            }
        }
        Ok(plan)
    }

    async fn carry_out(&mut self, action: Action) {
        match self.written(|journal| journal.intend(&self.deployment, &action, unix_ms())) {
            Ok(notice) => self.heard(notice),
            Err(error) => {
                if self.give_up(&error).await {
                    return;
                }
                if self.deployment.state == State::Retiring {
                    // Nothing of this is urgent, and none of it may be done without being written down.
                    sleep(JOURNAL_PAUSE).await;
                    return;
                }
            }
        }
        let began = std::time::Instant::now();
        // Not interrupted by an abort: the engine goes on with what it was told anyway, and what follows must know how it ended.
        let done = self.agent.perform_patiently(&self.deployment, &action).await;
        if action == Action::Publish
            && matches!(self.deployment.state, State::Shifting { .. } | State::Releasing { .. })
            && done.is_ok()
            && let Some(window) = &mut self.window
        {
            window.flipped().await;
        }
        let words = action.words();
        match done {
            Ok(published) => {
                self.record_as(
                    Event::Did { action, published },
                    What::Did { words, ms: began.elapsed().as_millis() as u64, published },
                )
                .await
            }
            Err(fault) => self.record(Event::Failed { action: Some(action), fault }).await,
        }
    }

    /// Who goes back has the room that is kept for that.
    fn written<T>(&self, write: impl Fn(&Journal) -> Result<T, JournalError>) -> Result<T, JournalError> {
        let goes_back = self.deployment.plan.members.iter().any(|member| member.safety.back.is_some());
        match write(&self.agent.journal) {
            Err(_) if goes_back && self.agent.reserve.give_up() => write(&self.agent.journal),
            done => done,
        }
    }

    /// The journal cannot be written. True: the deployment is taken back because of it.
    async fn give_up(&mut self, error: &JournalError) -> bool {
        let fault = Fault::from(JournalError::Io {
            path: self.agent.state_dir.join("journal.sqlite3"),
            why: error.to_string(),
        });
        self.agent.alert("journal", fault.to_string());
        if !self.deployment.state.may_revert() {
            return false;
        }
        let event = Event::Failed { action: None, fault: fault.clone() };
        self.forget_what_is_cold();
        if self.deployment.apply(&event, unix_ms()).is_ok() {
            self.unjournaled.push((event, What::Failed { fault }));
        }
        true
    }

    /// What was kept warm may have been ended by an action whose outcome nobody could write down.
    fn forget_what_is_cold(&mut self) {
        let Ok(warm) = self.agent.journal.retained() else { return };
        let meant = self.deployment.plan.members.iter().filter_map(|member| member.safety.retained.clone());
        let cold: Vec<ReleaseKey> = meant.filter(|meant| !warm.iter().any(|one| one.release == *meant)).collect();
        cold.iter().for_each(|release| self.deployment.is_cold(release));
    }

    async fn record(&mut self, mut event: Event) {
        if matches!(event, Event::Entered { .. }) {
            // They were about the state before.
            self.orders.send_if_modified(|orders| {
                let some = orders.promote.is_some() || orders.freeze.is_some();
                (orders.promote, orders.freeze) = (None, None);
                some
            });
        }
        if matches!(event, Event::Failed { .. } | Event::TakenBack { .. }) {
            self.forget_what_is_cold();
        }
        if let Event::Failed { fault, .. } = &mut event
            && self.deployment.plan.members.iter().all(|member| member.live.is_none())
        {
            *fault = fault.clone().of_a_first();
        }
        let what = match &event {
            Event::Entered { to } => What::Entered { state: to.clone(), step: step_words(&self.deployment, to) },
            Event::Failed { fault, .. } | Event::TakenBack { fault } => What::Failed { fault: fault.clone() },
            Event::Resolved { plan } => What::Planned { plan: plan.clone(), step: self.first_step(&event) },
            Event::Promoted { who, .. } => What::Warning { words: self.deployment.promoted_by(who) },
            Event::Frozen { why: words } | Event::Noted { words } => What::Warning { words: words.clone() },
            Event::Did { action, published } => What::Did { words: action.words(), ms: 0, published: *published },
        };
        self.record_as(event, what).await;
    }

    /// What begins as soon as the images are here; nothing where nothing has changed.
    fn first_step(&self, resolved: &Event) -> String {
        let mut next = self.deployment.clone();
        match next.apply(resolved, unix_ms()) {
            Ok(()) if !next.state.has_ended() => step_words(&next, &next.state),
            _ => String::new(),
        }
    }

    async fn record_as(&mut self, event: Event, what: What) {
        self.poll = DRAIN_POLL;
        let before = self.deployment.clone();
        let of_verdict = matches!(&event, Event::Did { action: Action::Cap { .. }, .. });
        if let Err(illegal) = self.deployment.apply(&event, unix_ms()) {
            let error = Fault::new(Code::Internal, illegal.to_string());
            self.agent.alert("conductor", format!("deployment {}: {error}", self.deployment.number));
            self.deployment.state = State::Stuck { step: before.state.name().to_owned(), error };
            return;
        }
        if before.cap.is_some() && self.deployment.cap.is_none() && !of_verdict {
            // Somebody knows better than what was seen so far: it is looked at anew.
            self.jury = None;
        }
        match self.written(|journal| journal.happened(&self.deployment, &event, what.clone(), unix_ms())) {
            Ok(notice) => self.heard(notice),
            // A state that was not written down was not entered: what may be taken back is, from where the journal is.
            Err(error) if before.state.may_revert() => {
                self.deployment = before;
                let failed = matches!(event, Event::Failed { .. } | Event::TakenBack { .. });
                if failed {
                    let applied = self.deployment.apply(&event, unix_ms());
                    debug_assert!(applied.is_ok(), "it was applied a moment ago");
                    self.unjournaled.push((event, what));
                    self.agent.alert("journal", error.to_string());
                } else {
                    self.give_up(&error).await;
                }
            }
            Err(error) => {
                self.agent.alert("journal", error.to_string());
                self.unjournaled.push((event, what));
            }
        }
    }

    fn heard(&mut self, notice: Notice) {
        self.sequence = notice.sequence;
        self.tell(notice);
    }

    async fn finish(mut self) {
        let (receipt, now) = (self.receipt().await, unix_ms());
        for (event, what) in std::mem::take(&mut self.unjournaled) {
            while let Err(error) =
                self.written(|journal| journal.happened(&self.deployment, &event, what.clone(), unix_ms()))
            {
                self.agent.alert("journal", error.to_string());
                sleep(JOURNAL_PAUSE).await;
            }
        }
        let last = loop {
            match self.written(|journal| journal.end(&self.deployment, &receipt, now)) {
                Ok(notice) => break notice,
                Err(error) => self.agent.alert("journal", error.to_string()),
            }
            sleep(JOURNAL_PAUSE).await;
        };
        self.agent.clear_alert("journal");
        if let Err(fault) = self.agent.know_adopted() {
            self.agent.alert("journal", fault.to_string());
        }
        self.tell_of_stuck();
        self.agent.try_to_forget_settings().await;
        tracing::info!(deployment = self.deployment.number, state = self.deployment.state.name(), "ended");
        self.heard(last);
    }

    /// A revert that failed is said until a deployment of the service has ended well.
    fn tell_of_stuck(&self) {
        for member in &self.deployment.plan.members {
            self.agent.clear_alert(Subject::Service(member.service.clone(), "start"));
            let subject = Subject::Service(member.service.clone(), "deployment");
            match &self.deployment.state {
                State::Stuck { step, error } => {
                    let words = format!(
                        "{}: deployment {} is stuck at `{step}`: {error}",
                        member.service, self.deployment.number
                    );
                    self.agent.alert(subject, words);
                }
                _ => self.agent.clear_alert(subject),
            }
            // What it said was of the release before.
            if let Some(before) = member.live.as_ref().filter(|_| self.deployment.state == State::Done) {
                self.agent.clear_alert(crate::whole::subject(&before.release));
            }
        }
    }

    async fn receipt(&mut self) -> Receipt {
        let traffic = match (self.window.take(), self.deployment.plan.members.iter().any(|member| member.serves())) {
            (Some(window), _) => window.close().await,
            (None, false) => Traffic::None,
            (None, true) => Traffic::Unknown { why: "the agent was restarted meanwhile".to_owned() },
        };
        let outcome = match &self.deployment.state {
            State::Reverted { why } => Outcome::Reverted { why: why.clone() },
            State::Stuck { step, error } => Outcome::Stuck { step: step.clone(), error: error.clone() },
            _ if self.deployment.plan.is_empty() => Outcome::Unchanged,
            _ => Outcome::Done,
        };
        let ended_ms = unix_ms();
        let notices = self.agent.journal.notices(self.deployment.number, 0).unwrap_or_default();
        Receipt {
            deployment: self.deployment.number,
            project: self.kept.project.clone(),
            who: self.kept.who.clone(),
            started_ms: self.kept.started_ms,
            ended_ms,
            outcome,
            releases: release_lines(&self.deployment),
            steps: steps(&notices, self.kept.started_ms, ended_ms),
            traffic,
            notes: self.deployment.notes.clone(),
        }
    }
}

/// `1 of 2 ready; connection refused`
fn readiness_words(seen: &Seen, member: &Member, wanted: u32) -> String {
    let replicas = seen.replicas.get(&member.candidate).map(Vec::as_slice).unwrap_or_default();
    let ready = replicas.iter().filter(|health| **health == Health::Ready).count();
    let last = replicas.iter().find_map(|health| match health {
        Health::Warming { last } => Some(format!("; {last}")),
        Health::Unknown { why } => Some(format!("; unknown: {why}")),
        _ => None,
    });
    format!("{ready} of {wanted} ready{}", last.unwrap_or_default())
}
