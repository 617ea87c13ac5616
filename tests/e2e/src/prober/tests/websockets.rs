//! WebSockets that work, that end in order, and that are lost.

use super::{Rude, Visitor, run_until};
use crate::prober::{Cause, Config, Kind};
use std::time::Duration;

const WELCOME: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Version: v1\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const CLOSE: &[u8] = &[0x88, 2, 3, 0xe9];

impl Visitor {
    /// The payload of the next short frame, unmasked.
    fn frame(&mut self) -> Option<Vec<u8>> {
        while self.bytes().len() < 6 || self.bytes().len() < 6 + usize::from(self.bytes()[1] & 0x7f) {
            if !self.more() {
                return None;
            }
        }
        let length = usize::from(self.bytes()[1] & 0x7f);
        let frame: Vec<u8> = self.buffer.drain(..6 + length).collect();
        assert!(frame[1] & 0x80 != 0, "a client's frame is masked");
        Some(frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(byte, key)| byte ^ key).collect())
    }

    fn echo(&mut self) -> bool {
        let Some(payload) = self.frame() else {
            return false;
        };
        self.say(&[&[0x81, payload.len() as u8][..], &payload].concat())
    }
}

fn config(server: &Rude) -> Config {
    let config = Config { timeout: Duration::from_millis(500), ..Config::new(server.address) };
    config.with_websockets(2, Duration::from_millis(20))
}

fn welcoming(behave: impl Fn(Visitor) + Send + Sync + 'static) -> Rude {
    Rude::start(move |mut visitor, _| {
        if visitor.request().is_some() && visitor.say(WELCOME) {
            behave(visitor);
        }
    })
}

#[test]
fn an_echo_is_no_failure_and_neither_is_a_ping() {
    let server = welcoming(|mut visitor| {
        visitor.say(&[0x89, 1, b'p']);
        assert_eq!(visitor.frame().as_deref(), Some(&b"p"[..]), "a pong comes first");
        while visitor.echo() {}
    });
    let report = run_until(config(&server), |live| live.requests >= 20);
    assert_eq!((report.failed(), report.totals.connections), (0, 2), "{report}");
    assert_eq!(report.records.iter().filter(|record| record.kind == Kind::WebSocketOpen).count(), 2);
    assert_eq!(report.answers_of("v1"), report.requests());
}

#[test]
fn a_close_frame_while_nothing_is_said_is_in_order() {
    // Once alone, and once in one packet with the last echo.
    let server = welcoming(|mut visitor| {
        visitor.echo();
        let Some(payload) = visitor.frame() else {
            return;
        };
        visitor.say(&[&[0x81, payload.len() as u8][..], &payload, CLOSE].concat());
    });
    let report = run_until(config(&server), |live| live.websockets_closed >= 4);
    assert_eq!(report.failed(), 0, "{report}");
    let server = welcoming(|mut visitor| {
        visitor.say(CLOSE);
    });
    let report = run_until(config(&server), |live| live.websockets_closed >= 4);
    assert_eq!(report.failed(), 0, "{report}");
}

#[test]
fn an_end_without_a_close_frame_is_lost() {
    for after_echo in [true, false] {
        let server = welcoming(move |mut visitor| {
            if after_echo {
                visitor.echo();
            } else {
                visitor.frame();
            }
        });
        let report = run_until(config(&server), |live| live.failed >= 4);
        assert_eq!(report.failed_by(Cause::WebSocketLost), report.failed(), "{report}");
    }
}

#[test]
fn a_close_frame_instead_of_an_echo_is_lost() {
    let server = welcoming(|mut visitor| {
        visitor.frame();
        visitor.say(CLOSE);
    });
    let report = run_until(config(&server), |live| live.failed >= 4);
    assert_eq!(report.failed_by(Cause::WebSocketLost), report.failed(), "{report}");
}

#[test]
fn a_wrong_echo_a_silence_and_a_wrong_welcome_are_failures() {
    let wrong = welcoming(|mut visitor| while visitor.frame().is_some() && visitor.say(&[0x81, 1, b'x']) {});
    let report = run_until(config(&wrong), |live| live.failed >= 2);
    assert_eq!(report.failed_by(Cause::WrongBody), report.failed(), "{report}");
    let silent = welcoming(|mut visitor| while visitor.frame().is_some() {});
    let report = run_until(config(&silent), |live| live.failed >= 2);
    assert_eq!(report.failed_by(Cause::Timeout), report.failed(), "{report}");
    for (cause, answer) in [
        (Cause::Status502, &b"HTTP/1.1 502 x\r\nContent-Length: 0\r\n\r\n"[..]),
        (Cause::OtherStatus, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (Cause::Malformed, b"HTTP/1.1 101 x\r\nSec-WebSocket-Accept: no\r\n\r\n"),
        (Cause::Malformed, b"no HTTP at all\r\n\r\n"),
    ] {
        let report = run_until(config(&Rude::answering(answer)), |live| live.failed >= 2);
        assert_eq!(report.failed_by(cause), report.failed(), "{report}");
    }
}

#[test]
fn a_handshake_cut_short_is_told_from_one_refused() {
    let closed = Rude::start(|mut visitor, _| {
        visitor.request();
    });
    let report = run_until(config(&closed), |live| live.failed >= 2);
    assert_eq!(report.failed_by(Cause::Closed), report.failed(), "{report}");
    let cut = Rude::start(|mut visitor, _| {
        visitor.request();
        visitor.say(b"HTTP/1.1 101 Swi");
    });
    let report = run_until(config(&cut), |live| live.failed >= 2);
    assert_eq!(report.failed_by(Cause::Truncated), report.failed(), "{report}");
}
