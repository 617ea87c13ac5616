//! Judges: others who may say that a release is bad, asked again and again while it is watched.

mod prometheus;

use crate::host_command::{self, Ended, Surroundings};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use teal_model::config::{Judge, JudgeAsks};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Exit codes by which a shell says that it could not run the command.
const NOT_RUN: [i32; 2] = [126, 127];

/// What a judge thinks now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    pub name: String,
    /// Answers that were no answers neither add to it nor end it.
    pub bad_in_a_row: u32,
    /// It was bad while the candidate had no request, and has not been good since: of that one it says nothing.
    pub bad_before: bool,
    pub last: Said,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Nothing yet.
    NotAsked,
    Good,
    Bad {
        words: String,
    },
    /// It could not be asked, or not understood: neither good nor bad.
    Unknown {
        why: String,
    },
}

impl Opinion {
    fn hear(&mut self, said: Said, counts: bool) {
        match &said {
            Said::Good => (self.bad_in_a_row, self.bad_before) = (0, false),
            Said::Bad { .. } if !counts => self.bad_before = true,
            Said::Bad { .. } if !self.bad_before => self.bad_in_a_row += 1,
            Said::Bad { .. } | Said::Unknown { .. } | Said::NotAsked => {}
        }
        self.last = said;
    }
}

/// They are asked as long as this is kept.
pub struct Judges {
    opinions: watch::Receiver<Vec<Opinion>>,
    counts: Arc<AtomicBool>,
    _asking: JoinSet<()>,
}

impl Judges {
    /// Each is asked at once, and then as often as it says. Commands run in these surroundings. `counts`: the candidate has requests
    /// already; `bad_before`: as [`Opinion::bad_before`], by name.
    pub fn start(judges: Vec<Judge>, surroundings: &Surroundings, counts: bool, bad_before: &BTreeSet<String>) -> Self {
        let unasked = |judge: &Judge| Opinion {
            name: judge.name.clone(),
            bad_in_a_row: 0,
            bad_before: bad_before.contains(&judge.name),
            last: Said::NotAsked,
        };
        let counts = Arc::new(AtomicBool::new(counts));
        let (said, opinions) = watch::channel(judges.iter().map(unasked).collect());
        let mut asking = JoinSet::new();
        for (index, judge) in judges.into_iter().enumerate() {
            asking.spawn(keep_asking(judge, index, surroundings.clone(), counts.clone(), said.clone()));
        }
        Self { opinions, counts, _asking: asking }
    }

    /// The candidate has requests: what is asked from now on is asked about it.
    pub fn count(&self) {
        self.counts.store(true, Ordering::Relaxed);
    }

    /// In the order of the file.
    pub fn now(&self) -> Vec<Opinion> {
        self.opinions.borrow().clone()
    }

    /// Marked as changed with every answer.
    pub fn changes(&self) -> watch::Receiver<Vec<Opinion>> {
        self.opinions.clone()
    }
}

async fn keep_asking(
    judge: Judge,
    index: usize,
    surroundings: Surroundings,
    counts: Arc<AtomicBool>,
    to: watch::Sender<Vec<Opinion>>,
) {
    let mut turn = interval(Duration::from_millis(judge.every_ms.max(1)));
    // One that takes longer than its turn is not asked twice at once.
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        // As it is when it is asked: the answer may take its time.
        let counts = counts.load(Ordering::Relaxed);
        let said = ask(&judge, &surroundings).await;
        to.send_modify(|opinions| opinions[index].hear(said, counts));
    }
}

async fn ask(judge: &Judge, surroundings: &Surroundings) -> Said {
    let within = Duration::from_millis(judge.timeout_ms);
    match &judge.asks {
        JudgeAsks::Command { command } => {
            of_command(command, host_command::run(command, surroundings, within).await, within)
        }
        JudgeAsks::Prometheus { url, query } => {
            let late = || Said::Unknown { why: format!("it did not answer within {} ms", within.as_millis()) };
            timeout(within, prometheus::ask(url, query)).await.unwrap_or_else(|_| late())
        }
    }
}

fn of_command(command: &[String], ran: Result<host_command::Ran, String>, within: Duration) -> Said {
    let ran = match ran {
        Ok(ran) => ran,
        Err(why) => return Said::Unknown { why },
    };
    let command = command.join(" ");
    let with_last = |how: String| match ran.last_lines.last() {
        Some(line) => format!("`{command}` {how}: {line}"),
        None => format!("`{command}` {how}"),
    };
    match ran.ended {
        Ended::Exited(0) => Said::Good,
        Ended::Exited(code) if NOT_RUN.contains(&code) => {
            Said::Unknown { why: with_last(format!("exited with code {code}")) }
        }
        Ended::Exited(code) => Said::Bad { words: with_last(format!("exited with code {code}")) },
        // Whoever killed it, it has not said what it thinks.
        Ended::Signalled(signal) => Said::Unknown { why: with_last(format!("was killed by signal {signal}")) },
        Ended::TimedOut => {
            Said::Unknown { why: format!("`{command}` had not ended after {} ms, and was killed", within.as_millis()) }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::get::tests::{answer, server};
    use std::path::Path;

    fn command(script: &str) -> Judge {
        let asks = JudgeAsks::Command { command: ["sh", "-c", script].map(str::to_owned).to_vec() };
        Judge { name: "orders".to_owned(), asks, every_ms: 20, timeout_ms: 2_000, failures: 2 }
    }

    fn here(directory: &Path) -> Surroundings {
        Surroundings { directory: directory.to_owned(), ..Surroundings::default() }
    }

    async fn said(judge: &Judge) -> Said {
        ask(judge, &here(Path::new("/"))).await
    }

    #[tokio::test]
    async fn a_command_says_good_bad_or_nothing() {
        assert_eq!(said(&command("exit 0")).await, Said::Good);
        let Said::Bad { words } = said(&command("echo 12 orders lost; exit 1")).await else { panic!() };
        assert!(words.ends_with("` exited with code 1: 12 orders lost"), "{words}");
        for script in ["exit 127", "exit 126", "no-such-program", "kill -9 $$"] {
            assert!(matches!(said(&command(script)).await, Said::Unknown { .. }), "{script}");
        }
        let late = Judge { timeout_ms: 100, ..command("sleep 60") };
        assert!(matches!(said(&late).await, Said::Unknown { why } if why.ends_with("after 100 ms, and was killed")));
        let asks = JudgeAsks::Command { command: vec!["no-such-program".to_owned()] };
        let missing = Judge { asks, ..command("") };
        assert!(matches!(said(&missing).await, Said::Unknown { why } if why.ends_with("there is no no-such-program")));
    }

    #[tokio::test]
    async fn bad_answers_are_counted_in_a_row_and_unknown_ones_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let verdict = dir.path().join("verdict");
        let judges = Judges::start(vec![command("exit $(cat verdict)")], &here(dir.path()), true, &BTreeSet::new());
        assert_eq!(judges.now()[0].last, Said::NotAsked);
        let mut changes = judges.changes();
        let mut until = async |code: &str, wanted: fn(&Opinion) -> bool| {
            // Whole at once: a judge that reads an empty file would say something else.
            std::fs::write(dir.path().join("next"), code).unwrap();
            std::fs::rename(dir.path().join("next"), &verdict).unwrap();
            let met = changes.wait_for(|opinions| wanted(&opinions[0]));
            tokio::time::timeout(Duration::from_secs(10), met).await.unwrap().unwrap()[0].clone()
        };
        until("0", |opinion| opinion.last == Said::Good).await;
        let bad = until("1", |opinion| opinion.bad_in_a_row >= 2).await;
        let unknown = until("127", |opinion| matches!(opinion.last, Said::Unknown { .. })).await;
        assert!(unknown.bad_in_a_row >= bad.bad_in_a_row);
        let worse = until("1", |opinion| matches!(opinion.last, Said::Bad { .. })).await;
        assert!(worse.bad_in_a_row > unknown.bad_in_a_row);
        assert_eq!(until("0", |opinion| opinion.last == Said::Good).await.bad_in_a_row, 0);
    }

    #[tokio::test]
    async fn what_was_bad_before_the_candidate_had_requests_has_no_say_until_it_is_good() {
        let dir = tempfile::tempdir().unwrap();
        let bad = dir.path().join("bad");
        std::fs::write(&bad, "").unwrap();
        let judge = command("echo x >> asked; test ! -e bad");
        let judges = Judges::start(vec![judge], &here(dir.path()), false, &BTreeSet::new());
        let mut changes = judges.changes();
        let mut until = async |wanted: fn(&Opinion) -> bool| {
            let met = changes.wait_for(|opinions| wanted(&opinions[0]));
            tokio::time::timeout(Duration::from_secs(10), met).await.unwrap().unwrap()[0].clone()
        };
        until(|opinion| opinion.bad_before).await;
        judges.count();
        let asked = || std::fs::read(dir.path().join("asked")).unwrap().len();
        let before = asked();
        while asked() < before + 3 * "x\n".len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(judges.now()[0].bad_in_a_row, 0, "it is bad still, and was so before");
        std::fs::remove_file(&bad).unwrap();
        assert!(!until(|opinion| opinion.last == Said::Good).await.bad_before);
        std::fs::write(&bad, "").unwrap();
        assert!(!until(|opinion| opinion.bad_in_a_row >= 2).await.bad_before);
    }

    #[tokio::test]
    async fn nobody_is_asked_any_more_when_they_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let sleeps = command("echo x >> asked; exec sleep 60");
        let judges = Judges::start(vec![sleeps], &here(dir.path()), true, &BTreeSet::new());
        let asked = dir.path().join("asked");
        while !asked.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut changes = judges.changes();
        drop(judges);
        let ended = tokio::time::timeout(Duration::from_secs(10), async { while changes.changed().await.is_ok() {} });
        ended.await.unwrap();
        assert_eq!(std::fs::read_to_string(&asked).unwrap(), "x\n");
    }

    #[tokio::test]
    async fn prometheus_and_a_command_are_judges_side_by_side() {
        let empty = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        let at = server(move |_| answer("200 OK", empty)).await;
        let asks = JudgeAsks::Prometheus { url: format!("http://{at}"), query: "up == 0".to_owned() };
        let prometheus = Judge { name: "up".to_owned(), asks, ..command("") };
        let both = vec![command("exit 1"), prometheus];
        let judges = Judges::start(both, &here(Path::new("/")), true, &BTreeSet::new());
        let mut changes = judges.changes();
        let both = changes.wait_for(|all| all[1].last == Said::Good && all[0].bad_in_a_row > 0);
        tokio::time::timeout(Duration::from_secs(10), both).await.unwrap().unwrap();
        let names: Vec<String> = judges.now().into_iter().map(|opinion| opinion.name).collect();
        assert_eq!(names, ["orders", "up"]);
    }
}
