//! Invariant 6: a journal that cannot write stops the deployment, never the traffic; and a death after that harms nobody.

use crate::stage::{
    Stage, every_table_serves_or_holds, good, life, only_live_is_left, request, stage, start,
    stops_only_what_is_out_of_the_table, until_ended,
};
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;
use teal_agent::agent::Agent;
use teal_agent::journal::Journal;
use teal_model::deployment::State;
use teal_model::fault::Code;

/// From this line of the second deployment on nothing can be written, as on a full disk.
fn fill_disk(dir: &Path, sequence: u64) {
    let journal = Connection::open(dir.join("journal.sqlite3")).unwrap();
    let full = format!(
        "CREATE TRIGGER full BEFORE INSERT ON entries WHEN NEW.deployment = 2 AND NEW.sequence >= {sequence}
         BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
    );
    journal.execute_batch(&full).unwrap();
}

fn free_disk(dir: &Path) {
    Connection::open(dir.join("journal.sqlite3")).unwrap().execute_batch("DROP TRIGGER full").unwrap();
}

/// How many lines a deployment that goes well writes.
fn lines() -> u64 {
    let Stage { dir, engine, traffic, .. } = &stage(good());
    life(async {
        let agent = start(dir.path(), engine, traffic).await;
        let number = agent.deploy(request("v2")).await.unwrap().deployment;
        assert_eq!(until_ended(&agent, number).await, State::Done);
        agent.journal.notices(number, 0).unwrap().last().unwrap().sequence
    })
}

/// Until the deployment has ended, or can do no more before its journal can be written.
async fn until_it_waits(agent: &Agent) {
    let settled = async {
        until_ended(agent, 2).await;
    };
    let _ = tokio::time::timeout(Duration::from_secs(120), settled).await;
}

/// The release that must be whole after this deployment.
fn live_after(state: &State, images: &[String; 2]) -> String {
    match state {
        State::Done => images[1].clone(),
        State::Reverted { why } => {
            assert!(matches!(why.code, Code::Journal | Code::ReplicaExited), "{why:?}");
            images[0].clone()
        }
        other => panic!("it ends well: {other:?}"),
    }
}

#[test]
fn a_full_disk_at_every_line_of_the_journal_takes_the_deployment_back_or_waits() {
    let (mut reverted, mut waited) = (0, 0);
    for sequence in 2..=lines() {
        let Stage { dir, engine, traffic, images } = &stage(good());
        stops_only_what_is_out_of_the_table(engine, traffic);
        let before = traffic.proxy().tables.len() - 1;
        let state = life(async {
            let agent = start(dir.path(), engine, traffic).await;
            fill_disk(dir.path(), sequence);
            agent.deploy(request("v2")).await.unwrap();
            until_it_waits(&agent).await;
            assert!(!agent.alerts().is_empty(), "a full disk at line {sequence} is said");
            free_disk(dir.path());
            let state = until_ended(&agent, 2).await;
            tokio::time::sleep(Duration::from_secs(40)).await;
            assert_eq!(agent.alerts(), Vec::<String>::new(), "full at line {sequence}");
            state
        });
        every_table_serves_or_holds(traffic, before);
        only_live_is_left(engine, &traffic.table().unwrap(), &live_after(&state, images));
        if state == State::Done { waited += 1 } else { reverted += 1 }
    }
    assert!(reverted > 20 && waited > 3, "{reverted} were taken back, {waited} waited");
}

#[test]
fn an_agent_that_dies_beside_a_full_disk_leaves_a_next_one_that_ends_it() {
    for sequence in 2..=lines() {
        for still_full in [false, true] {
            let Stage { dir, engine, traffic, images } = &stage(good());
            stops_only_what_is_out_of_the_table(engine, traffic);
            let before = traffic.proxy().tables.len() - 1;
            life(async {
                let agent = start(dir.path(), engine, traffic).await;
                fill_disk(dir.path(), sequence);
                agent.deploy(request("v2")).await.unwrap();
                until_it_waits(&agent).await;
            });
            if !still_full {
                free_disk(dir.path());
            }
            let engine = &engine.restarted();
            let state = life(async {
                let agent = start(dir.path(), engine, traffic).await;
                if still_full {
                    until_it_waits(&agent).await;
                    free_disk(dir.path());
                }
                let state = until_ended(&agent, 2).await;
                tokio::time::sleep(Duration::from_secs(40)).await;
                assert_eq!(agent.alerts(), Vec::<String>::new(), "full at line {sequence}");
                state
            });
            every_table_serves_or_holds(traffic, before);
            only_live_is_left(engine, &traffic.table().unwrap(), &live_after(&state, images));
        }
    }
}

/// The whole deployment cannot be written down at all: it is refused, and nothing has happened.
#[test]
fn a_deployment_that_cannot_be_begun_is_refused() {
    let Stage { dir, engine, traffic, images } = &stage(good());
    let tables = traffic.proxy().tables.len();
    life(async {
        let agent = start(dir.path(), engine, traffic).await;
        fill_disk(dir.path(), 0);
        assert_eq!(agent.deploy(request("v2")).await.unwrap_err().code, Code::Journal);
        tokio::time::sleep(Duration::from_secs(40)).await;
    });
    only_live_is_left(engine, &traffic.table().unwrap(), &images[0]);
    every_table_serves_or_holds(traffic, tables - 1);
    assert!(Journal::open(dir.path()).unwrap().unfinished().unwrap().is_empty());
}
