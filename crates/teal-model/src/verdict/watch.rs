//! One candidate under watch, from its first share to the end of its bake.

use super::counts::Counts;
use super::expert::{Rule, usual};
use super::process::{Pace, Process};
use super::reason::{Part, Reason, Warning};
use super::recent::{Of, Recent, Seen};
use super::slow::{Line, Lines, Slow};
use super::test::{Comparison, Usual};
use crate::config::Rollback;

/// Where the service has no history.
const UNKNOWN_RATE: f64 = 0.001;
/// What the comparison has to say at least where a candidate is worse than usual.
const AGREES: f64 = 20.0;
/// Evidence that is as good as none.
const CALM: f64 = 10.0;
/// How long a contained candidate stays so.
const CONTAINED_MS: u64 = 10_000;
/// What a contained candidate gets: so many bad requests a second, in bounds of its share. More would be no more evidence.
const CONTAINED_BAD_RPS: f64 = 2.0;
const CONTAINED_LEAST: u32 = 500;
const CONTAINED_MOST: u32 = 5_000;
/// Caches are cold at first, so the latency of this time is not judged.
const COLD_MS: u64 = 10_000;
/// As [`Rule`], for requests above a line.
const SLOW_P95: Rule = Rule { ratio: 1.0, margin: 0.01 };
const SLOW_P99: Rule = Rule { ratio: 1.0, margin: 0.005 };

/// The highest share (hundredths of a percent) of a candidate under watch. Without a history only the live release tells what is
/// normal, so it keeps some requests.
pub fn most_share(history: Option<f64>) -> u32 {
    if history.is_some() { 10_000 } else { 9_500 }
}

/// What came since the tick before.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tick {
    pub candidate: Counts,
    /// None: the live release is gone.
    pub live: Option<Counts>,
    /// Of candidate and live release; None where latency is not known.
    pub slow: Option<(Slow, Slow)>,
    /// That the candidate has now: hundredths of a percent.
    pub share: u32,
}

/// What to do now. Shares are the candidate's, in hundredths of a percent.
#[derive(Debug, Clone, PartialEq)]
pub enum Ruling {
    Keep,
    /// Turn its share down to this before it is sure, and go no further. The live release has to carry the rest.
    Contain {
        share: u32,
        why: Reason,
    },
    /// It was contained and is well.
    Release {
        share: u32,
    },
    Revert {
        why: Reason,
    },
}

/// Of a bake whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Promote,
    /// Too little is known: go on, and ask again, until this at the latest.
    Extend {
        until_ms: u64,
    },
    /// Too few requests, or contained to the end.
    Inconclusive {
        requests: u64,
        contained: bool,
    },
}

#[derive(Debug, Clone)]
pub struct Watch {
    rules: Rollback,
    bake_ms: u64,
    bake_from_ms: u64,
    pace: Pace,
    /// On the clock of ticks, as is all that follows.
    from_ms: u64,
    /// Of the last tick.
    second: u64,
    /// The part of a candidate's requests that may fail where the live release is as usual.
    allowed: f64,
    errors: Comparison,
    /// Candidate and live release beside the rate that is usual.
    usual: (Usual, Usual),
    slow: Option<Slows>,
    recent: Recent,
    /// Requests of the candidate.
    requests: u64,
    contained: Option<Contained>,
    live_gone: bool,
}

#[derive(Debug, Clone)]
struct Contained {
    since_ms: u64,
    /// The share that it had.
    from: u32,
    /// The live release fails as well.
    both_fail: bool,
    /// It is slow.
    slow: Option<Reason>,
}

#[derive(Debug, Clone)]
struct Slows {
    lines: Lines,
    p95: Comparison,
    p99: Comparison,
}

impl Watch {
    /// `bake_ms`: all the time that will be watched, canary steps too. `history`: [`super::History::rate`] of the live release.
    /// `now_ms`: of the clock of ticks, which must not jump.
    pub fn new(rules: &Rollback, bake_ms: u64, history: Option<f64>, lines: Option<Lines>, now_ms: u64) -> Self {
        let rule = Rule { ratio: rules.ratio, margin: rules.margin };
        let slows = |lines: Lines| Slows {
            lines,
            p95: Comparison::new(SLOW_P95, lines.p95.above, now_ms),
            p99: Comparison::new(SLOW_P99, lines.p99.above, now_ms),
        };
        let rate = history.unwrap_or(UNKNOWN_RATE);
        Self {
            rules: rules.clone(),
            bake_ms,
            bake_from_ms: now_ms,
            pace: Pace::of(bake_ms),
            from_ms: now_ms,
            second: now_ms / 1000,
            allowed: rule.allows(usual(rate)),
            errors: Comparison::new(rule, rate, now_ms),
            usual: (Usual::new(rule, history, now_ms), Usual::new(rule, history, now_ms)),
            slow: lines.map(slows),
            recent: Recent::default(),
            requests: 0,
            contained: None,
            live_gone: false,
        }
    }

    /// Of an agent that has started again in a bake: it has seen nothing, so nothing is promoted before there were enough requests, and
    /// a contained candidate stays so at first. `contained`: what [`Watch::contained`] said.
    pub fn resume(mut self, contained: Option<u32>) -> Self {
        self.contained = contained.map(|from| Contained { since_ms: self.from_ms, from, both_fail: false, slow: None });
        self
    }

    /// When all that is watched has begun, on the clock of [`Watch::at_end`]: steps may have taken less time than they were given, or
    /// more.
    pub fn bakes_since(&mut self, bake_from_ms: u64) {
        self.bake_from_ms = bake_from_ms;
    }

    /// The share that the candidate had before it was contained; None: it is not.
    pub fn contained(&self) -> Option<u32> {
        self.contained.as_ref().map(|contained| contained.from)
    }

    pub fn tick(&mut self, now_ms: u64, tick: &Tick) -> Ruling {
        self.end_second(now_ms);
        self.add(now_ms, tick);
        self.live_gone = tick.live.is_none();
        if let Some(why) = self.sure(now_ms) {
            return Ruling::Revert { why };
        }
        if self.live_gone {
            return Ruling::Keep;
        }
        self.look_at_live();
        let early = self.early(now_ms);
        match &mut self.contained {
            None => early.map_or(Ruling::Keep, |why| self.contain(now_ms, tick.share, why)),
            Some(contained) => {
                if let Some(why) = early.filter(|why| matches!(why.part, Part::Slow { .. })) {
                    contained.slow = Some(why);
                }
                if self.is_well(now_ms) { self.release() } else { Ruling::Keep }
            }
        }
    }

    /// After the bake's time is over; by a clock of its own, which may be the wall's.
    pub fn at_end(&self, now_ms: u64) -> End {
        let over_ms = self.bake_from_ms + self.bake_ms;
        let until_ms = over_ms.max(self.bake_from_ms + self.rules.extend_ms);
        if now_ms < over_ms {
            End::Extend { until_ms: over_ms }
        } else if self.contained.is_none() && self.requests >= self.rules.min_requests {
            End::Promote
        } else if now_ms < until_ms {
            End::Extend { until_ms }
        } else {
            End::Inconclusive { requests: self.requests, contained: self.contained.is_some() }
        }
    }

    /// What holds now.
    pub fn warnings(&self, now_ms: u64) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if self.live_gone {
            let evidence = self.usual.0.process.early();
            let why = (evidence >= self.rules.contain_at).then(|| self.history_reason(evidence, now_ms));
            warnings.push(Warning::LiveGone { why });
        }
        let Some(contained) = &self.contained else { return warnings };
        if contained.both_fail {
            let of = |which| self.recent.of(which, self.second, None).unwrap_or_default().requests;
            warnings.push(Warning::BothFail { candidate: of(Of::Candidate), live: of(Of::Live) });
        }
        warnings.extend(contained.slow.clone().map(|why| Warning::Slow { why }));
        warnings
    }

    fn end_second(&mut self, now_ms: u64) {
        let second = now_ms / 1000;
        if second != self.second {
            self.second = second;
            let pace = self.pace;
            self.processes().for_each(|process| process.end_second(pace));
        }
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        let usual = [&mut self.usual.0.process, &mut self.usual.1.process];
        let slow = self.slow.iter_mut().flat_map(|slow| [&mut slow.p95.process, &mut slow.p99.process]);
        std::iter::once(&mut self.errors.process).chain(usual).chain(slow)
    }

    fn add(&mut self, now_ms: u64, tick: &Tick) {
        let live = tick.live.unwrap_or_default();
        self.requests += tick.candidate.n;
        self.errors.add(tick.candidate, live, now_ms);
        self.usual.0.add(tick.candidate, now_ms);
        self.usual.1.add(live, now_ms);
        let (ours, theirs) = tick.slow.unwrap_or_default();
        if let Some(slow) = self.slow.as_mut().filter(|_| now_ms >= self.from_ms + COLD_MS) {
            slow.p95.add(ours.p95, theirs.p95, now_ms);
            slow.p99.add(ours.p99, theirs.p99, now_ms);
        }
        let seen = |requests, slow| Seen { requests, slow };
        self.recent.add(self.second, seen(tick.candidate, ours), seen(live, theirs));
    }

    /// Why it has to be taken back.
    fn sure(&self, now_ms: u64) -> Option<Reason> {
        let (on, enough) = (self.rules.on, self.rules.revert_at);
        let compared = self.errors.process.sure();
        if on.errors && compared >= enough {
            return Some(self.errors_reason(compared, now_ms));
        }
        if on.errors && self.usual.0.is_known() {
            let evidence = self.usual.0.process.sure();
            let both_fail = self.contained.as_ref().is_some_and(|contained| contained.both_fail);
            let agreed = if self.live_gone { on.history } else { compared >= AGREES && !both_fail };
            if evidence >= enough && agreed {
                return Some(self.history_reason(evidence, now_ms));
            }
        }
        let slow = self.slow.as_ref().filter(|_| on.latency && !self.live_gone)?;
        slow.reason(Process::sure, enough, now_ms)
    }

    /// Why its share has to go down.
    fn early(&self, now_ms: u64) -> Option<Reason> {
        let enough = self.rules.contain_at;
        if self.rules.on.errors {
            let compared = self.errors.process.early();
            if compared >= enough {
                return Some(self.errors_reason(compared, now_ms));
            }
            let evidence = self.usual.0.process.early();
            if evidence >= enough {
                return Some(self.history_reason(evidence, now_ms));
            }
        }
        self.slow.as_ref()?.reason(Process::early, enough, now_ms)
    }

    fn errors_reason(&self, evidence: f64, now_ms: u64) -> Reason {
        reason(Part::Errors, &self.errors.process, evidence, now_ms)
    }

    fn history_reason(&self, evidence: f64, now_ms: u64) -> Reason {
        let (candidate, _) = &self.usual;
        reason(candidate.part(), &candidate.process, evidence, now_ms)
    }

    /// Whether a contained candidate is in trouble together with the live release.
    fn look_at_live(&mut self) {
        let (Some(contained), (_, live)) = (&mut self.contained, &self.usual) else { return };
        let now = self.recent.of(Of::Live, self.second, None);
        let fails = now.is_some_and(|seen| !within(seen.requests, live.allowed));
        contained.both_fail |= fails && live.process.early() >= self.rules.contain_at;
    }

    fn contain(&mut self, now_ms: u64, share: u32, why: Reason) -> Ruling {
        let rps = self.recent.rate(self.from_ms, now_ms).max(f64::MIN_POSITIVE);
        let some =
            (10_000.0 * CONTAINED_BAD_RPS / (rps * why.candidate.rate().max(f64::MIN_POSITIVE))).min(10_000.0) as u32;
        let slow = matches!(why.part, Part::Slow { .. }).then(|| why.clone());
        self.contained = Some(Contained { since_ms: now_ms, from: share, both_fail: false, slow });
        Ruling::Contain { share: share.min(some.clamp(CONTAINED_LEAST, CONTAINED_MOST)), why }
    }

    /// Whether a contained candidate has been well for long enough, and where both had failed, the live release too.
    fn is_well(&self, now_ms: u64) -> bool {
        let Some(contained) = &self.contained else { return false };
        let seen = |which| self.recent.of(which, self.second, Some(contained.since_ms / 1000));
        let Some(candidate) = seen(Of::Candidate) else { return false };
        let fails = |seen: Seen, allowed: f64| !within(seen.requests, allowed);
        let errors = self.rules.on.errors && (fails(candidate, self.allowed) || self.errors.process.sure() >= CALM);
        let both = contained.both_fail && seen(Of::Live).is_none_or(|live| fails(live, self.usual.1.allowed));
        let slow = self.slow.as_ref().is_some_and(|slow| slow.is_slow(candidate.slow, self.rules.on.latency));
        now_ms >= contained.since_ms + CONTAINED_MS && !errors && !both && !slow
    }

    fn release(&mut self) -> Ruling {
        let from = self.contained.take().map_or(CONTAINED_MOST, |contained| contained.from);
        self.processes().for_each(Process::calm);
        Ruling::Release { share: from.min(CONTAINED_MOST) }
    }
}

impl Slows {
    /// Either line may show it, so the evidence is the mean of both.
    fn evidence(&self, of: fn(&Process) -> f64) -> f64 {
        (of(&self.p95.process) + of(&self.p99.process)) / 2.0
    }

    fn reason(&self, of: fn(&Process) -> f64, enough: f64, now_ms: u64) -> Option<Reason> {
        let evidence = self.evidence(of);
        if evidence < enough {
            return None;
        }
        let at =
            |percentile, line: Line| Part::Slow { percentile, candidate_us: line.candidate_us(), live_us: line.us };
        let (p95, p99) = (&self.p95.process, &self.p99.process);
        Some(if of(p95) >= of(p99) {
            reason(at(95, self.lines.p95), p95, evidence, now_ms)
        } else {
            reason(at(99, self.lines.p99), p99, evidence, now_ms)
        })
    }

    /// `reverts`: the evidence counts too, not only what is seen now.
    fn is_slow(&self, seen: Slow, reverts: bool) -> bool {
        !within(seen.p95, SLOW_P95.allows(self.lines.p95.above))
            || !within(seen.p99, SLOW_P99.allows(self.lines.p99.above))
            || reverts && self.evidence(Process::sure) >= CALM
    }
}

fn reason(part: Part, process: &Process, evidence: f64, now_ms: u64) -> Reason {
    let onset = process.onset();
    let over_ms = now_ms.saturating_sub(onset.since_ms);
    Reason { part, candidate: onset.candidate, live: onset.live, over_ms, evidence }
}

fn within(counts: Counts, allowed: f64) -> bool {
    counts.bad as f64 <= allowed * counts.n as f64
}
