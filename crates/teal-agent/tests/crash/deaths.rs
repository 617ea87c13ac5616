//! One scenario over and over: the agent dies at another point each time, and the next one goes on.

use crate::shop::Shop;
use crate::stage::{start, until_ended};
use rusqlite::Connection;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use teal_agent::agent::Agent;
use teal_agent::clock::unix_ms;
use teal_agent::journal::Journal;
use teal_agent::runtime::fake::{Fault, Moment};
use teal_agent::runtime::{Status, label};
use teal_agent::traffic::fake::Crash;
use teal_model::api::{DeployRequest, RollbackRequest, RolledBack};
use teal_model::config::Restart;
use teal_model::deployment::{Promote, State};
use teal_model::ids::ServiceKey;
use teal_model::plan::ALL;

#[derive(Debug, Clone, Copy)]
pub enum Death {
    Effect(usize, Moment),
    Table(Crash),
    /// This line of the journal is written, and nothing after it has happened.
    Line(u64),
}

pub enum Act {
    Deploy(Box<DeployRequest>),
    /// And somebody wants all requests for it as soon as it has its first.
    Promote(Box<DeployRequest>),
    Back(RollbackRequest),
}

impl Act {
    /// The number of the deployment that it becomes.
    async fn begin(&self, agent: &Arc<Agent>) -> u64 {
        match self {
            Act::Deploy(request) | Act::Promote(request) => agent.deploy((**request).clone()).await.unwrap().deployment,
            Act::Back(request) => match agent.rollback(request.clone()).await.unwrap() {
                RolledBack::Deploys(accepted) => accepted.deployment,
                other => panic!("{other:?}"),
            },
        }
    }
}

/// Whoever follows a deployment does, in each life of the agent.
fn attend(act: &Act, agent: &Arc<Agent>, deployment: u64) {
    let Act::Promote(_) = act else { return };
    let agent = agent.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(700)).await;
            let kept = agent.journal.deployment(deployment).unwrap();
            if kept.is_some_and(|kept| matches!(kept.deployment.state, State::Stepping { .. })) {
                // It may just have gone on by itself.
                let _ = agent.promote(deployment, Promote { full: true, who: "ana".to_owned() });
            }
        }
    });
}

/// A table, as far as it is about `web`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    pub at_ms: u64,
    /// What releases get, by their number.
    pub split: Vec<(u64, u32)>,
    /// How many backends each of them has.
    pub backends: Vec<(u64, usize)>,
}

impl Sent {
    pub fn share(&self, release: u64) -> u32 {
        self.split.iter().filter(|(number, _)| *number == release).map(|(_, share)| share).sum()
    }

    pub fn backends(&self, release: u64) -> usize {
        self.backends.iter().filter(|(number, _)| *number == release).map(|(_, count)| count).sum()
    }
}

pub struct Story {
    pub shop: Shop,
    /// For the words of a failure.
    pub when: String,
    pub state: State,
    pub deployment: u64,
    pub tables: Vec<Sent>,
    pub again: Option<Again>,
}

/// Where the second agent began.
pub struct Again {
    /// Its first table.
    pub table: usize,
    pub at_ms: u64,
    /// The state in which the first one left the deployment, if it had begun it.
    pub left: Option<State>,
}

pub fn web() -> ServiceKey {
    ServiceKey::new("shop", "web")
}

impl Story {
    pub fn journal(&self) -> Journal {
        Journal::open(self.shop.dir.path()).unwrap()
    }

    /// `live` has all requests, `warm` runs beside it, and nothing else is left.
    pub fn settled(&self, live: u64, warm: Option<u64>) {
        let when = &self.when;
        let (journal, table) = (self.journal(), self.shop.traffic.table().unwrap());
        assert!(journal.unfinished().unwrap().is_empty(), "{when}");
        let record = journal.services().unwrap().into_iter().find(|record| record.service == web()).unwrap();
        let replicas = record.live.as_ref().map_or(0, |live| live.replicas as usize);
        assert_eq!(record.live.map(|live| live.release.number), Some(live), "{when}");
        let retained: Vec<u64> = journal.retained().unwrap().iter().map(|one| one.release.number).collect();
        assert_eq!(retained, warm.into_iter().collect::<Vec<_>>(), "{when}");
        let mut there: Vec<(u64, Status, Option<Restart>)> = self
            .shop
            .of("web")
            .iter()
            .map(|one| {
                let number = one.labels.get(label::RELEASE).map_or(0, |number| number.parse().unwrap());
                (number, one.status.clone(), self.shop.engine.restart_policy(&one.id))
            })
            .collect();
        there.sort_by_key(|one| one.0);
        let mut wanted = vec![(live, Status::Running, Some(Restart::Always)); replicas];
        let kept = |warm| vec![(warm, Status::Running, Some(Restart::No)); replicas];
        wanted.extend(warm.map(kept).unwrap_or_default());
        wanted.sort_by_key(|one| one.0);
        assert_eq!(there, wanted, "{when}: {:?}", self.state);
        let entry = &table.services[&web()];
        let split: Vec<u64> = entry.split.iter().map(|share| share.release.number).collect();
        assert_eq!((split, entry.holding), (vec![live], false), "{when}");
        let mut listed: Vec<u64> = entry.releases.iter().map(|one| one.release.number).collect();
        listed.sort();
        let mut runs: Vec<u64> = wanted.iter().map(|one| one.0).collect();
        runs.dedup();
        assert_eq!(listed, runs, "{when}: what is warm may be asked");
        let serving = entry.releases.iter().filter(|one| one.release.number == live).map(|one| one.backends.len());
        assert_eq!(serving.sum::<usize>(), replicas, "{when}");
    }
}

/// Runs `act` to its end after what `prepare` did, then again for each point at which the agent may die.
pub fn every_death(prepare: impl Fn() -> Shop, act: &Act, check: impl Fn(&Story)) {
    let shop = prepare();
    let (effects, tables) = (shop.engine.journal().len(), shop.traffic.proxy().tables.len());
    let whole = tell(shop, act, None).unwrap();
    check(&whole);
    let lines = whole.journal().notices(whole.deployment, 0).unwrap().last().unwrap().sequence;
    let effects = effects..whole.shop.engine.journal().len();
    let tables = tables..whole.shop.traffic.proxy().tables.len();
    let of_effects = effects.flat_map(|at| [Death::Effect(at, Moment::Before), Death::Effect(at, Moment::After)]);
    let of_tables = tables.flat_map(|at| [Death::Table(Crash::Before(at)), Death::Table(Crash::After(at))]);
    let deaths: Vec<Death> = of_effects.chain(of_tables).chain((1..lines).map(Death::Line)).collect();
    let stories = deaths.iter().filter_map(|death| tell(prepare(), act, Some(*death)));
    let died = stories.map(|story| check(&story)).count();
    assert!(died * 10 >= deaths.len() * 9, "{died} deaths at {} points", deaths.len());
}

/// None: there was no such point.
fn tell(shop: Shop, act: &Act, death: Option<Death>) -> Option<Story> {
    let dir = shop.dir.path().to_owned();
    let newest = Journal::open(&dir).unwrap().history(None, 1).unwrap();
    let deployment = newest.first().map_or(0, |kept| kept.deployment.number) + 1;
    let tables = listen(&shop);
    let engine = shop.engine.restarted();
    match death {
        None => {}
        Some(Death::Effect(at, moment)) => engine.crash_at(at, moment),
        Some(Death::Table(crash)) => shop.traffic.proxy().crash = Some(crash),
        Some(Death::Line(line)) => {
            fill_disk(&dir, deployment, line);
            let over = dir.clone();
            engine.hook(move |_, moment| {
                if moment == Moment::Before && is_written(&over, deployment, line) { Fault::Crash } else { Fault::None }
            });
            let over = dir.clone();
            shop.traffic.proxy().dies = Some(Box::new(move || is_written(&over, deployment, line)));
        }
    }
    let ended = shop.life(async {
        let acts = async {
            let agent = start(&dir, &engine, &shop.traffic).await;
            assert_eq!(act.begin(&agent).await, deployment);
            attend(act, &agent, deployment);
            // One that can write nothing any more has done nothing since.
            while agent.handle(deployment).is_some() {
                if matches!(death, Some(Death::Line(_))) && !agent.alerts().is_empty() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // The reconciler has its turn, too.
            tokio::time::sleep(Duration::from_secs(20)).await;
            assert_eq!(agent.alerts(), Vec::<String>::new());
            true
        };
        tokio::select! {
            biased;
            () = engine.crashed() => false,
            () = shop.traffic.crashed() => false,
            ended = acts => ended,
        }
    });
    if ended && death.is_some() {
        return None;
    }
    let mut again = None;
    if !ended {
        shop.engine.unhook();
        (shop.traffic.proxy().crash, shop.traffic.proxy().dies) = (None, None);
        if let Some(Death::Line(_)) = death {
            Connection::open(dir.join("journal.sqlite3")).unwrap().execute_batch("DROP TRIGGER full").unwrap();
        }
        let left = Journal::open(&dir).unwrap().deployment(deployment).unwrap().map(|kept| kept.deployment.state);
        let engine = shop.engine.restarted();
        shop.life(async {
            again = Some(Again { table: tables.lock().unwrap().len(), at_ms: unix_ms(), left });
            let agent = start(&dir, &engine, &shop.traffic).await;
            // It may have died before it had begun anything: then this agent begins.
            if agent.journal.deployment(deployment).unwrap().is_none() {
                assert_eq!(act.begin(&agent).await, deployment);
            }
            attend(act, &agent, deployment);
            until_ended(&agent, deployment).await;
            tokio::time::sleep(Duration::from_secs(20)).await;
            assert_eq!(agent.alerts(), Vec::<String>::new(), "{death:?}");
        });
    }
    let state = Journal::open(&dir).unwrap().deployment(deployment).unwrap().unwrap().deployment.state;
    shop.traffic.proxy().on_table = None;
    let tables = tables.lock().unwrap().clone();
    Some(Story { shop, when: format!("{death:?}"), state, deployment, tables, again })
}

/// The tables from the one in force on.
pub fn listen(shop: &Shop) -> Arc<Mutex<Vec<Sent>>> {
    let heard = Arc::<Mutex<Vec<Sent>>>::default();
    let hear = heard.clone();
    shop.traffic.proxy().on_table = Some(Box::new(move |table| {
        let entry = table.services.get(&web());
        let split = entry.map(|entry| &entry.split[..]).unwrap_or_default();
        let all: u32 = split.iter().map(|share| share.weight).sum();
        let releases = entry.map(|entry| &entry.releases[..]).unwrap_or_default();
        let backends = releases.iter().map(|one| (one.release.number, one.backends.len())).collect();
        let split = split.iter().map(|share| (share.release.number, share.weight * ALL / all)).collect();
        hear.lock().unwrap().push(Sent { at_ms: unix_ms(), split, backends });
    }));
    heard
}

/// Nothing is written after this line of the deployment.
pub fn fill_disk(dir: &Path, deployment: u64, line: u64) {
    let full = format!(
        "CREATE TRIGGER full BEFORE INSERT ON entries WHEN NEW.deployment = {deployment} AND NEW.sequence > {line}
         BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
    );
    Connection::open(dir.join("journal.sqlite3")).unwrap().execute_batch(&full).unwrap();
}

fn is_written(dir: &Path, deployment: u64, line: u64) -> bool {
    let journal = Connection::open(dir.join("journal.sqlite3")).unwrap();
    let count = "SELECT count(*) FROM entries WHERE deployment = ?1 AND sequence = ?2";
    let written: i64 = journal.query_row(count, [deployment as i64, line as i64], |row| row.get(0)).unwrap();
    written > 0
}
