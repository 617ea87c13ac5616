//! Each way to fail a user, one by one.

use super::{GOOD, Rude, Visitor, calm, run_until};
use crate::prober::{Cause, Clients, Config, Report};
use std::net::TcpListener;

/// Runs against the server until something failed; only `cause` may have.
fn fails_by(cause: Cause, server: &Rude, clients: Clients) -> Report {
    fails_with(cause, server.config(clients))
}

fn fails_with(cause: Cause, config: Config) -> Report {
    let report = run_until(config, |live| live.failed >= 3);
    assert_eq!(report.failed_by(cause), report.failed(), "{report}");
    assert_eq!(report.failures.iter().filter(|failure| failure.cause == cause).count() as u64, report.failed().min(50));
    report
}

fn after_one_request(behave: impl Fn(Visitor) + Send + Sync + 'static) -> Rude {
    Rude::start(move |mut visitor, _| {
        if visitor.request().is_some() {
            behave(visitor);
        }
    })
}

#[test]
fn a_port_that_nobody_listens_on_is_refused() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let report = fails_with(Cause::Refused, Config::new(address).with(calm()));
    assert_eq!(report.requests(), report.failed());
}

#[test]
fn an_address_that_cannot_be_reached_is_no_connection() {
    fails_with(Cause::NoConnection, Config::new("255.255.255.255:80".parse().unwrap()).with(calm()));
}

#[test]
fn a_close_before_the_answer_is_a_failure() {
    let report = fails_by(Cause::Closed, &after_one_request(drop), calm());
    assert_eq!(report.totals.closed_by_server, 0);
}

#[test]
fn a_reset_before_the_answer_is_a_failure() {
    fails_by(Cause::Reset, &after_one_request(Visitor::reset), calm());
}

#[test]
fn a_close_that_crosses_with_the_request_is_a_failure() {
    // Answers one request; the next is in the socket, unread, when the close comes.
    let server = Rude::start(|mut visitor, _| {
        if visitor.request().is_some() && visitor.say(GOOD) {
            visitor.wait_for_bytes();
        }
    });
    let report = fails_by(Cause::Reset, &server, Clients::steady(1));
    assert!(report.failures.iter().all(|failure| failure.on_connection == 2), "{report}");
    assert_eq!(report.totals.closed_by_server, 0);
}

#[test]
fn a_body_cut_short_is_truncated() {
    for cut in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nonly"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nonly",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        let server = after_one_request(move |mut visitor| {
            visitor.say(cut);
        });
        fails_by(Cause::Truncated, &server, calm());
    }
}

#[test]
fn a_reset_within_the_answer_is_told_from_one_before_it() {
    let server = after_one_request(|mut visitor| {
        visitor.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nonly");
        visitor.reset();
    });
    fails_by(Cause::ResetInAnswer, &server, calm());
}

#[test]
fn an_answer_that_does_not_come_or_does_not_end_is_a_timeout() {
    for stalled in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nonly"] {
        let server = after_one_request(move |mut visitor| {
            visitor.say(stalled);
            visitor.request();
        });
        let report = fails_by(Cause::Timeout, &server, calm());
        assert!(report.records.iter().all(|record| record.latency_us() >= 500_000), "{report}");
    }
}

#[test]
fn an_error_status_is_a_failure_whatever_its_body() {
    for (cause, answer) in [
        (Cause::Status500, &b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n"[..]),
        (Cause::Status502, b"HTTP/1.1 502 x\r\nContent-Length: 2\r\n\r\nok"),
        (Cause::Status503, b"HTTP/1.1 503 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        (Cause::Status504, b"HTTP/1.1 504 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (Cause::OtherStatus, b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n"),
        (Cause::OtherStatus, b"HTTP/1.1 507 x\r\nContent-Length: 0\r\n\r\n"),
    ] {
        fails_by(cause, &Rude::answering(answer), calm());
    }
}

#[test]
fn a_wrong_body_and_a_wrong_echo_are_failures() {
    let server = Rude::answering(GOOD);
    let expecting = Clients { get_starts_with: b"yes".to_vec(), ..calm() };
    fails_by(Cause::WrongBody, &server, expecting);
    fails_by(Cause::WrongBody, &server, Clients { post_share: 1.0, ..calm() });
    // An echo that differs in its last byte alone.
    let almost = Rude::start(|mut visitor, _| {
        while let Some((_, mut body)) = visitor.request() {
            *body.last_mut().unwrap() ^= 1;
            visitor.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
            visitor.say(&body);
        }
    });
    fails_by(Cause::WrongBody, &almost, Clients { post_share: 1.0, ..calm() });
}

#[test]
fn an_answer_to_another_request_is_a_failure() {
    let server = Rude::answering(b"HTTP/1.1 200 OK\r\nX-Request-Id: c7-7\r\nContent-Length: 2\r\n\r\nok");
    fails_by(Cause::WrongRequest, &server, calm());
}

#[test]
fn what_is_not_http_is_malformed() {
    fails_by(Cause::Malformed, &Rude::answering(b"\x15\x03\x01\x00\x02\x02\x0a\r\n\r\n"), calm());
    fails_by(
        Cause::Malformed,
        &Rude::answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n"),
        calm(),
    );
}

#[test]
fn bytes_that_nobody_asked_for_are_a_failure() {
    let twice = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let report = fails_by(Cause::Unsolicited, &Rude::answering(twice), calm());
    assert_eq!(report.requests(), 2 * report.failed(), "the answer before it was good");
    let later = Rude::start(|mut visitor, _| {
        while visitor.request().is_some() && visitor.say(GOOD) {
            // The client has read its answer when it closes or asks again; a pause is all a server can do.
            std::thread::sleep(std::time::Duration::from_millis(20));
            visitor.say(b"surprise");
        }
    });
    let slowly = calm().pace(crate::prober::Pace::Think(std::time::Duration::from_millis(200)));
    fails_by(Cause::Unsolicited, &later, slowly);
}
