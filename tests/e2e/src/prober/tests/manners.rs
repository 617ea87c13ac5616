//! What is no failure, and how time is counted.

use super::{GOOD, Rude, calm, run_until, wait};
use crate::clock::monotonic_us;
use crate::prober::{Clients, Config, Pace, Prober};
use std::io::{Read, Write};
use std::time::Duration;

#[test]
fn a_good_server_has_no_failures() {
    let server = Rude::start(|mut visitor, _| {
        while let Some((head, body)) = visitor.request() {
            let id = head.lines().find_map(|line| line.strip_prefix("X-Request-Id: ")).unwrap();
            visitor.say(
                format!(
                    "HTTP/1.1 200 OK\r\nX-Version: v1\r\nX-Request-Id: {id}\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                )
                .as_bytes(),
            );
            visitor.say(&body);
        }
    });
    let mut config = server.config(Clients::mixed(8));
    config.threads = 2;
    config.tag = "t".to_owned();
    config.headers = vec![("X-Extra".to_owned(), "1".to_owned())];
    config.timeout = Duration::from_secs(10);
    let report = run_until(config, |live| live.requests >= 2_000);
    assert_eq!(report.failed(), 0, "{report}");
    assert_eq!(report.records.len() as u64, report.requests());
    assert_eq!(report.answers_of("v1"), report.requests());
    assert_eq!(report.totals.connections, 8);
    let posts = report.records.iter().filter(|record| record.kind == crate::prober::Kind::Post).count() as f64;
    let share = posts / report.requests() as f64;
    assert!((0.15..0.25).contains(&share), "{share}");
    assert!(report.busy_share > 0.0 && report.cpu_us > 0);
}

#[test]
fn an_idle_connection_that_the_server_closes_costs_no_request() {
    for goodbye in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"] {
        let server = Rude::start(move |mut visitor, _| {
            visitor.request();
            visitor.say(GOOD);
            std::thread::sleep(Duration::from_millis(10));
            visitor.say(goodbye);
        });
        let patient = calm().pace(Pace::Think(Duration::from_millis(100)));
        let report = run_until(server.config(patient), |live| live.closed_by_server >= 5);
        assert_eq!(report.failed(), 0, "{report}");
        assert!(report.totals.connections >= 5);
    }
}

#[test]
fn a_reset_of_an_idle_connection_costs_no_request_either() {
    let server = Rude::start(|mut visitor, _| {
        visitor.request();
        visitor.say(GOOD);
        std::thread::sleep(Duration::from_millis(10));
        visitor.reset();
    });
    let patient = calm().pace(Pace::Think(Duration::from_millis(100)));
    let report = run_until(server.config(patient), |live| live.closed_by_server >= 3);
    assert_eq!(report.failed(), 0, "{report}");
}

#[test]
fn an_announced_close_is_kept_apart() {
    let server = Rude::answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    let report = run_until(server.config(calm()), |live| live.closed_as_announced >= 5);
    assert_eq!((report.failed(), report.totals.closed_by_server), (0, 0), "{report}");
}

#[test]
fn an_answer_given_before_the_body_was_read_counts_even_when_the_socket_is_reset() {
    let server = Rude::start(|visitor, _| {
        let mut stream = visitor.stream;
        let mut byte = [0];
        let _ = stream.read(&mut byte);
        let _ = stream.write_all(GOOD);
        // Closed with most of the request unread: that is a reset.
    });
    let clients = Clients { post_share: 1.0, post_bytes: 8 << 20, post_echoes: false, ..calm() };
    let report = run_until(server.config(clients), |live| live.requests >= 10);
    assert_eq!(report.failed(), 0, "{report}");
    assert_eq!(report.totals.connections, report.requests(), "such a connection may not be used again");
}

#[test]
fn an_open_loop_counts_latency_from_when_the_request_was_due() {
    // One stall of 400 ms at 100 requests a second: 40 requests have to wait, though only one was in flight.
    let server = Rude::start(|mut visitor, _| {
        for number in 0.. {
            if visitor.request().is_none() {
                return;
            }
            if number == 10 {
                std::thread::sleep(Duration::from_millis(400));
            }
            visitor.say(GOOD);
        }
    });
    let config = server.config(Clients::steady(1).pace(Pace::per_second(100.0)));
    let report = run_until(config, |live| live.requests >= 80);
    assert_eq!(report.failed(), 0, "{report}");
    let waited = report.records.iter().filter(|record| record.latency_us() > 50_000).count();
    assert!((25..=45).contains(&waited), "{waited} waited");
    let taken = report.records.iter().filter(|record| record.took_us > 50_000).count();
    assert!(taken <= 3, "{taken} took long");
}

#[test]
fn a_gap_lies_around_the_time_it_should() {
    let server = Rude::answering(GOOD);
    let (around, spread) = (Duration::from_millis(60), Duration::from_millis(20));
    let mut clients = Clients::gaps(4, around, spread);
    clients.post_echoes = false;
    let report = run_until(server.config(clients), |live| live.requests >= 24);
    for client in 1..=4 {
        let mine: Vec<_> = report.records.iter().filter(|record| record.client == client).collect();
        for pair in mine.windows(2) {
            assert!(pair[1].sent_us() - pair[0].ended_us() >= 39_000, "{pair:?}");
        }
    }
}

#[test]
fn a_stop_waits_for_the_request_in_flight() {
    let server = Rude::start(|mut visitor, _| {
        while visitor.request().is_some() {
            std::thread::sleep(Duration::from_millis(200));
            visitor.say(GOOD);
        }
    });
    let handle = Prober::start(server.config(Clients::steady(3))).unwrap();
    wait(&handle, |live| live.connections == 3);
    let report = handle.stop().unwrap();
    assert_eq!((report.requests(), report.failed()), (3, 0), "{report}");
}

#[test]
fn times_are_those_of_the_whole_host() {
    let server = Rude::answering(GOOD);
    let before = monotonic_us();
    let report = run_until(server.config(calm()), |live| live.requests >= 3);
    let after = monotonic_us();
    assert!(before <= report.started_us && report.ended_us <= after);
    let inside = |record: &crate::prober::Record| before <= record.sent_us() && record.ended_us() <= after;
    assert!(report.records.iter().all(inside));
    assert_eq!(report.requests_sent_between(before, after), report.requests());
}

#[test]
fn records_that_are_not_kept_are_still_counted() {
    let server = Rude::answering(GOOD);
    let config = Config { keep_records: 5, ..server.config(Clients::steady(1)) };
    let report = run_until(config, |live| live.requests >= 50);
    assert_eq!(report.records.len(), 5);
    assert_eq!(report.records_dropped, report.requests() - 5);
    assert_eq!(report.answers_of("v1"), report.requests());
}
