//! Runs the caller as a process against neighbours that are played here, and sees it count what a user would see.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use caller::counts::{Calls, Cause, of_log};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

/// Serves each connection with `serve`, one after the other.
fn play(mut serve: impl FnMut(&TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            serve(&stream.unwrap());
        }
    });
    at
}

/// What a caller of one connection has counted after some calls.
fn count(target: &str, calls: u64, more: &[(&str, &str)]) -> Calls {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut process: Child = Command::new(env!("CARGO_BIN_EXE_caller"))
        .env_clear()
        .envs([("TARGETS", target), ("PORT", &port), ("RESOLVE", "once"), ("CONNECTIONS", "1"), ("RATE", "200")])
        .envs([("LOG_MS", "10")])
        .envs(more.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(process.stdout.take().unwrap());
    let (mut text, deadline) = (String::new(), Instant::now() + PATIENCE);
    while of_log(&text).first().is_none_or(|of| of.calls < calls) {
        assert!(Instant::now() < deadline, "not {calls} calls: {text}");
        assert_ne!(log.read_line(&mut text).unwrap(), 0);
    }
    let asked =
        Command::new(env!("CARGO_BIN_EXE_caller")).arg("counts").env_clear().env("PORT", &port).output().unwrap();
    assert!(of_log(&String::from_utf8_lossy(&asked.stdout))[0].calls >= calls, "it answers on its port, too");
    assert!(Command::new("kill").args(["-s", "TERM", &process.id().to_string()]).status().unwrap().success());
    log.read_to_string(&mut text).unwrap();
    assert!(process.wait().unwrap().success());
    of_log(&text).remove(0)
}

/// Reads a request; its id and its body. None: the connection ended.
fn request(reader: &mut BufReader<&TcpStream>) -> Option<(String, String)> {
    let (mut id, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let (name, value) = line.trim_end().split_once(": ").unwrap_or((line.trim_end(), ""));
        match name {
            "" => break,
            "X-Request-Id" => value.clone_into(&mut id),
            "Content-Length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((id, String::from_utf8(body).ok()?))
}

fn answer(mut stream: &TcpStream, version: &str, id: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Version: {version}\r\nX-Request-Id: {id}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

#[test]
fn good_answers_are_counted_by_version() {
    let at = play(|stream| {
        let mut reader = BufReader::new(stream);
        while let Some((id, body)) = request(&mut reader) {
            answer(stream, "v1", &id, &body);
        }
    });
    let counted = count(&format!("http://{at}/#v"), 30, &[("HTTP_CALLS", "10")]);
    assert_eq!((counted.failed, counted.closed_idle), (0, 0), "{counted:?}");
    assert_eq!(counted.versions["v1"].answers, counted.calls);
    assert!(counted.connections >= 3, "it closes its connections itself");
}

#[test]
fn an_answer_of_another_service_or_to_another_call_is_a_failure() {
    let mut number = 0;
    let at = play(move |stream| {
        let mut reader = BufReader::new(stream);
        while let Some((id, body)) = request(&mut reader) {
            number += 1;
            match number {
                1 => answer(stream, "blue-1", &id, &body),
                2 => answer(stream, "red-1", "another", &body),
                _ => answer(stream, "red-1", &id, &body),
            }
        }
    });
    let counted = count(&format!("http://{at}/#red-"), 5, &[]);
    assert_eq!((counted.failed_by(Cause::WrongService), counted.failed_by(Cause::WrongAnswer)), (1, 1), "{counted:?}");
    assert_eq!(counted.failed, 2);
}

#[test]
fn a_connection_closed_while_idle_is_noticed_and_one_closed_under_a_call_is_a_failure() {
    let mut connections = 0;
    let at = play(move |mut stream| {
        connections += 1;
        let mut line = String::new();
        let mut reader = BufReader::new(stream);
        let _ = reader.read_line(&mut line);
        if connections == 2 {
            // Within the answer.
            let _ = stream.write_all(b"v1 0-");
        } else if connections != 3 {
            let _ = stream.write_all(format!("v1 {line}").as_bytes());
        }
        let _ = stream.shutdown(Shutdown::Both);
    });
    let counted = count(&format!("tcp://{at}"), 10, &[("RATE", "50")]);
    assert_eq!((counted.failed, counted.failed_by(Cause::Closed)), (2, 2), "{counted:?}");
    assert!(counted.closed_idle >= 6, "{counted:?}");
}

#[test]
fn nobody_there_is_a_failure_of_every_call_and_no_call_is_made_twice() {
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let counted = count(&format!("tcp://{at}"), 5, &[]);
    assert_eq!(counted.failed_by(Cause::Refused), counted.calls);
    assert_eq!((counted.connections, counted.versions.len()), (0, 0));
}
