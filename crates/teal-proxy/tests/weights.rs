//! Shares of the requests, over real connections and workers.

mod common;
use common::{App, Client, Stage, release, timeouts};

/// Asks `requests` times over `clients` connections at once, and says how often the answer was `text`.
async fn asked(stage: &Stage, clients: usize, requests: usize, text: &'static str) -> usize {
    let addr = stage.addr;
    let ask = move |_| {
        tokio::spawn(async move {
            let mut client = Client::connect(addr).await;
            let mut count = 0;
            for _ in 0..requests / clients {
                count += usize::from(client.get("/").await.text() == text);
            }
            count
        })
    };
    let asking: Vec<_> = (0..clients).map(ask).collect();
    let mut count = 0;
    for client in asking {
        count += client.await.expect("answered");
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_are_exact_by_request_over_several_workers_and_kept_from_table_to_table() {
    let (blue, green) = (App::saying("blue").await, App::saying("green").await);
    let mut stage = Stage::new(2).await;
    for (percent, expected) in [(1, 40), (5, 200), (50, 2000)] {
        stage.split(&[(2, percent * 100, &[&green]), (1, (100 - percent) * 100, &[&blue])]).await;
        let mut count = 0;
        for n in 0..20 {
            count += asked(&stage, 4, 200, "green").await;
            // Another replica, the same shares.
            let replicas: &[&App] = if n % 2 == 0 { &[&blue, &green] } else { &[&blue] };
            let listed = common::release_entry(1, &replicas[..1]);
            let entry = stage.entry();
            entry.releases.retain(|known| known.release != release(1));
            entry.releases.push(listed);
            stage.publish().await;
        }
        // Each worker is in the middle of a round at the beginning and the end.
        assert!(count.abs_diff(expected) <= 4, "{count} of 4000 at {percent} %");
    }
}

#[tokio::test]
async fn one_connection_does_not_choose_for_the_next_request() {
    let (blue, green) = (App::saying("blue").await, App::saying("green").await);
    let mut stage = Stage::new(1).await;
    stage.split(&[(1, 1, &[&blue]), (2, 1, &[&green])]).await;
    let mut client = stage.client().await;
    let mut last = String::new();
    for _ in 0..20 {
        let text = client.get("/").await.text().to_owned();
        assert_ne!(text, last);
        last = text;
    }
}

#[tokio::test]
async fn a_release_that_takes_no_connection_leaves_its_requests_to_the_other() {
    let (blue, green) = (App::saying("blue").await, App::saying("green").await);
    let mut stage = Stage::new(1).await;
    stage.entry().timeouts = timeouts(500, 0);
    stage.split(&[(1, 99, &[&blue]), (2, 1, &[&green])]).await;
    blue.stop();
    while tokio::net::TcpStream::connect(blue.addr).await.is_ok() {}
    let mut client = stage.client().await;
    for _ in 0..20 {
        assert_eq!(client.post("x").await.text(), "green");
    }
    assert_eq!(stage.release(1).await.counters.failed.total(), 0);
}
