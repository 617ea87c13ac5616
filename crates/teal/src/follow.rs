//! Follows a deployment to its end, through a restart of the agent; the deployment itself goes on without us.

use crate::client::{Client, Lines};
use crate::print::live::{Live, REDRAW};
use crate::print::steps::Steps;
use crate::print::{Out, receipt};
use crate::terminal::{self, Answer};
use crate::who::who;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use teal_model::api::{AbortRequest, Notice, Summary, What};
use teal_model::fault::{Code, Fault};
use teal_model::plan::Plan;
use teal_model::receipt::{Outcome, Receipt};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// An agent is started again within a second or two; after this many tries it is gone for longer.
const TRIES: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub enum Ending {
    Ended(Box<Receipt>),
    /// The exit code that says by which signal we left.
    Detached(u8),
}

#[derive(Debug)]
pub struct Follow<'a> {
    client: &'a Client,
    out: &'a Out,
    deployment: u64,
    steps: Steps,
    live: Option<Live>,
    /// The first notice that was not seen. Progress is in no journal, so it does not count.
    from: u64,
}

impl<'a> Follow<'a> {
    pub fn new(client: &'a Client, out: &'a Out, deployment: u64, plan: Plan) -> Self {
        let live = out.is_live();
        let steps = Steps::new(Some(plan), out.paint(), live);
        Self { client, out, deployment, steps, live: live.then(Live::default), from: 0 }
    }

    /// Leaves out what was there before.
    pub fn after(mut self, notices: &[Notice]) -> Self {
        for notice in notices {
            self.steps.lines(notice);
            self.from = self.from.max(notice.sequence + 1);
        }
        self
    }

    pub async fn until_the_end(mut self) -> Result<Ending, Fault> {
        let mut signals = Signals::new()?;
        let mut tries = 0;
        loop {
            let broke = match self.open().await {
                Ok(mut lines) => match self.read(&mut lines, &mut signals, &mut tries).await? {
                    Reading::Ended(receipt) => return Ok(Ending::Ended(receipt)),
                    Reading::Detached(code) => return Ok(Ending::Detached(code)),
                    Reading::Broke(why) => why,
                },
                Err(fault) if fault.code == Code::NoAgent => fault,
                Err(fault) => return Err(fault),
            };
            self.clear();
            tries += 1;
            if tries > TRIES {
                return Err(Fault::new(
                    Code::NoAgent,
                    format!("lost the agent while deployment {} ran: {}", self.deployment, broke.what),
                )
                .hint(format!(
                    "the deployment goes on when the agent is back: `teal up --detach`, then `teal show {}`",
                    self.deployment
                )));
            }
            if tries == 1 {
                self.out.note("the connection to the agent broke; connecting again (the deployment goes on)");
            }
            let pause = LONGEST_PAUSE.min(FIRST_PAUSE * 2u32.pow(tries.min(8) - 1));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                signal = signals.next() => return Ok(Ending::Detached(self.detach(signal))),
            }
        }
    }

    async fn open(&self) -> Result<Lines, Fault> {
        self.client.lines(&format!("/v1/deployments/{}/events?from={}", self.deployment, self.from)).await
    }

    async fn read(&mut self, lines: &mut Lines, signals: &mut Signals, tries: &mut u32) -> Result<Reading, Fault> {
        let mut redraw = tokio::time::interval(REDRAW);
        loop {
            tokio::select! {
                notice = lines.next::<Notice>() => match notice {
                    Ok(Some(notice)) => {
                        *tries = 0;
                        if let Some(receipt) = self.take(notice) {
                            return Ok(Reading::Ended(receipt));
                        }
                    }
                    Ok(None) => return Ok(Reading::Broke(Fault::new(Code::NoAgent, "the agent closed the stream"))),
                    Err(fault) if fault.code == Code::NoAgent => return Ok(Reading::Broke(fault)),
                    Err(fault) => return Err(fault),
                },
                _ = redraw.tick(), if self.live.is_some() => self.draw(),
                signal = signals.next() => match self.interrupted(signal, signals).await {
                    Choice::GoOn => {}
                    Choice::Detach => {
                        self.clear();
                        return Ok(Reading::Detached(self.detach(signal)));
                    }
                },
            }
        }
    }

    fn take(&mut self, notice: Notice) -> Option<Box<Receipt>> {
        let kept = !matches!(notice.what, What::Progress { .. });
        if kept && notice.sequence < self.from {
            return None;
        }
        if self.out.is_json() {
            self.out.json(&notice);
        } else {
            let lines = self.steps.lines(&notice);
            if !lines.is_empty() {
                self.clear();
            }
            lines.iter().for_each(|line| self.out.text(line));
        }
        if kept {
            self.from = notice.sequence + 1;
        }
        match notice.what {
            What::Ended { receipt } => {
                self.clear();
                Some(receipt)
            }
            _ => None,
        }
    }

    /// Ctrl-C of a person is a question; what a script gets is the end of watching, never of the deployment.
    async fn interrupted(&mut self, signal: Interrupt, signals: &mut Signals) -> Choice {
        if signal != Interrupt::Keyboard || !self.out.is_interactive() {
            return Choice::Detach;
        }
        self.clear();
        self.out.note("");
        loop {
            self.out.ask(&format!(
                "Deployment {} goes on meanwhile. [a]bort it, [d]etach, [g]o on watching?",
                self.deployment
            ));
            let answer = tokio::select! {
                answer = terminal::answer() => answer,
                _ = signals.next() => Answer::Gone,
            };
            match answer {
                Answer::Line(line) => match line.trim().to_lowercase().as_str() {
                    "a" | "abort" => {
                        self.abort().await;
                        return Choice::GoOn;
                    }
                    "d" | "detach" => return Choice::Detach,
                    "g" | "go on" => return Choice::GoOn,
                    _ => {}
                },
                Answer::Gone => {
                    self.out.note("");
                    return Choice::Detach;
                }
            }
        }
    }

    async fn abort(&self) {
        let asked = self
            .client
            .post::<Summary>(&format!("/v1/deployments/{}/abort", self.deployment), &AbortRequest { who: who() })
            .await;
        match asked {
            Ok(_) => self.out.note("aborting; requests go back to the live release"),
            // A deployment that has just ended cannot be aborted; its end arrives by the stream.
            Err(fault) => self.out.fault(&fault),
        }
    }

    fn detach(&self, signal: Interrupt) -> u8 {
        let n = self.deployment;
        self.out.note(&format!(
            "deployment {n} goes on in the agent; `teal status` shows it, `teal abort {n}` takes it back"
        ));
        signal.exit()
    }

    fn draw(&mut self) {
        let started = self
            .steps
            .started_ms()
            .map_or(Duration::ZERO, |started| now().saturating_sub(Duration::from_millis(started)));
        if let Some(live) = &mut self.live {
            live.draw(self.steps.now(), started);
        }
    }

    fn clear(&mut self) {
        if let Some(live) = &mut self.live {
            live.clear();
        }
    }
}

/// Says how it ended; the exit code tells scripts.
pub fn conclude(out: &Out, receipt: &Receipt) -> u8 {
    if !out.is_json() {
        out.text(&format!("\n{}", receipt::text(receipt, out.paint())));
    }
    match &receipt.outcome {
        Outcome::Done | Outcome::Unchanged => 0,
        Outcome::Reverted { why } => {
            // Its detail was shown when it failed.
            if !out.is_json() {
                out.fault(&why.clone().detail(Vec::new()));
            }
            why.code.exit()
        }
        Outcome::Stuck { error, .. } => {
            if !out.is_json() {
                out.fault(error);
            }
            Code::Stuck.exit()
        }
    }
}

pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

enum Reading {
    Ended(Box<Receipt>),
    Detached(u8),
    Broke(Fault),
}

enum Choice {
    GoOn,
    Detach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    Keyboard,
    Terminate,
    /// The terminal was closed.
    Hangup,
}

impl Interrupt {
    /// As a shell reports a command that a signal ended.
    pub fn exit(self) -> u8 {
        128 + match self {
            Interrupt::Keyboard => 2,
            Interrupt::Terminate => 15,
            Interrupt::Hangup => 1,
        }
    }
}

#[derive(Debug)]
pub struct Signals {
    keyboard: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub fn new() -> Result<Self, Fault> {
        let listen = |kind| {
            signal(kind).map_err(|error| Fault::new(Code::Internal, format!("signals cannot be listened for: {error}")))
        };
        Ok(Self {
            keyboard: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    pub async fn next(&mut self) -> Interrupt {
        tokio::select! {
            _ = self.keyboard.recv() => Interrupt::Keyboard,
            _ = self.terminate.recv() => Interrupt::Terminate,
            _ = self.hangup.recv() => Interrupt::Hangup,
        }
    }
}
