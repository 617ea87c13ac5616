//! Runs the app as a process and sees it behave, and misbehave, as its settings say.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

struct App {
    process: Child,
    stdout: BufReader<ChildStdout>,
    port: u16,
}

impl App {
    fn start(env: &[(&str, &str)]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_sample-app"))
            .env_clear()
            .env("PORT", "0")
            .env("VERSION", "v7")
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let mut app = Self { process, stdout, port: 0 };
        app.port = app.port_in_log("listening");
        app
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn port_in_log(&mut self, word: &str) -> u16 {
        loop {
            let line = self.line();
            assert_ne!(line, "", "the app ended without having said {word}");
            if let Some(rest) = line.strip_prefix(&format!("{word} port=")) {
                return rest.split(' ').next().unwrap().parse().unwrap();
            }
        }
    }

    fn connect(&self) -> TcpStream {
        connect(self.port)
    }

    fn ask(&self, text: &str) -> String {
        ask(self.port, text)
    }

    fn get(&self, path: &str) -> String {
        get(self.port, path)
    }

    fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the app does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(port: u16, text: &str) -> String {
    let mut stream = connect(port);
    stream.write_all(text.as_bytes()).unwrap();
    rest(&mut stream)
}

fn get(port: u16, path: &str) -> String {
    ask(port, &format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n"))
}

fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends the answer as well.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn every_path_answers_as_the_manual_says() {
    let app = App::start(&[]);
    let answer = app.get("/");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\nX-Version: v7\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nteal sample app, version v7\n"), "{answer}");
    assert!(app.get("/health").ends_with("{\"status\":\"UP\"}"));
    assert!(app.get("/status/418").starts_with("HTTP/1.1 418 "));
    assert!(app.get("/nowhere").starts_with("HTTP/1.1 404 "));
    assert!(app.get("/bytes?n=100000").ends_with(&"x".repeat(1000)));
    assert!(app.get("/stream?chunks=2").ends_with("8\r\nchunk 1\n\r\n8\r\nchunk 2\n\r\n0\r\n\r\n"));
    assert!(app.get("/sse?n=1&ms=0").contains("data: 1\n\n"));
    let post = "POST /echo HTTP/1.1\r\nX-Request-Id: a1\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    assert!(app.ask(post).ends_with("\r\n\r\nhello"));
    assert!(app.ask(post).contains("\r\nX-Request-Id: a1\r\n"));
    let chunked = "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n";
    assert!(app.ask(chunked).ends_with("\r\n\r\nhello!"));
    let hashed = "POST /echo?hash=1 HTTP/1.1\r\nContent-Length: 1\r\nConnection: close\r\n\r\na";
    assert!(app.ask(hashed).ends_with("\r\n\r\n1 af63dc4c8601ec8c\n"));
    let started = Instant::now();
    app.get("/slow?ms=100");
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert!(app.get("/rude?how=half").ends_with("only this much"));
    assert_eq!(app.get("/rude?how=close"), "");
    let mut stream = app.connect();
    stream.write_all(b"GET /rude?how=reset HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn one_connection_carries_many_requests_even_in_one_packet() {
    let app = App::start(&[]);
    let one = "GET / HTTP/1.1\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_eq!(app.ask(&format!("{one}{one}{last}")).matches("version v7\n").count(), 3);
}

#[test]
fn the_port_stays_closed_until_the_boot_is_over() {
    let started = Instant::now();
    let _app = App::start(&[("BOOT_MS", "300")]);
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[test]
fn in_the_other_boot_mode_the_port_answers_503_first() {
    let app = App::start(&[("BOOT_MS", "500"), ("BOOT_MODE", "503")]);
    assert!(app.get("/").starts_with("HTTP/1.1 503 "));
    let deadline = Instant::now() + PATIENCE;
    while !app.get("/health").starts_with("HTTP/1.1 200 ") {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn health_lives_on_the_management_port_alone_when_there_is_one() {
    let spare = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let app = App::start(&[("MANAGEMENT_PORT", &spare.to_string())]);
    assert!(app.get("/health").starts_with("HTTP/1.1 404 "));
    assert!(get(spare, "/actuator/health").ends_with("{\"status\":\"UP\"}"));
    assert!(get(spare, "/").starts_with("HTTP/1.1 404 "));
}

#[test]
fn health_may_never_come_or_flap() {
    let app = App::start(&[("HEALTH", "never")]);
    assert!(app.get("/health").starts_with("HTTP/1.1 503 "));
    assert!(app.get("/").starts_with("HTTP/1.1 200 "));
    let app = App::start(&[("HEALTH", "flapping"), ("FLAP_MS", "20")]);
    for word in ["HTTP/1.1 200 ", "HTTP/1.1 503 ", "HTTP/1.1 200 "] {
        let deadline = Instant::now() + PATIENCE;
        while !app.get("/health").starts_with(word) {
            assert!(Instant::now() < deadline, "never {word}");
        }
    }
}

#[test]
fn an_idle_connection_is_closed_after_the_keep_alive_time() {
    let app = App::start(&[("KEEP_ALIVE_MS", "150"), ("ADVERTISE_KEEP_ALIVE", "1")]);
    let mut stream = app.connect();
    let started = Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let answer = rest(&mut stream);
    assert!(answer.contains("\r\nKeep-Alive: timeout=1\r\n"), "{answer}");
    assert!(started.elapsed() >= Duration::from_millis(150));
}

#[test]
fn a_random_connection_ends_without_a_word() {
    let app = App::start(&[("KEEP_ALIVE_RANDOM", "1")]);
    let mut stream = app.connect();
    let mut answers = 0;
    let mut buffer = [0; 4096];
    loop {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => {
                assert!(!String::from_utf8_lossy(&buffer[..length]).contains("Connection: close"));
                answers += 1;
            }
            _ => break,
        }
    }
    assert!((1..=50).contains(&answers), "{answers}");
}

#[test]
fn an_early_answer_leaves_the_body_unread() {
    for (setting, announced) in [("1", true), ("rude", false)] {
        let mut app = App::start(&[("EARLY_ANSWER", setting), ("LOG_REQUESTS", "end")]);
        let mut stream = app.connect();
        stream.write_all(b"POST /any HTTP/1.1\r\nContent-Length: 100000\r\n\r\nonly a part").unwrap();
        let answer = rest(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("early\n"), "{answer}");
        assert_eq!(answer.contains("Connection: close"), announced);
        let line = app.line();
        assert!(line.contains("id=- POST /any read=0 answered=200"), "{line}");
    }
}

#[test]
fn sigterm_is_obeyed_ignored_or_drained() {
    let mut app = App::start(&[]);
    app.signal("TERM");
    assert_eq!(app.wait(), Some(143));

    let mut app = App::start(&[("SIGTERM", "ignore")]);
    app.signal("TERM");
    assert_eq!(app.line(), "signal SIGTERM Ignore");
    assert!(app.get("/").starts_with("HTTP/1.1 200 "));

    let mut app = App::start(&[("SIGTERM", "drain"), ("LOG_REQUESTS", "1")]);
    let mut idle = app.connect();
    idle.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut busy = app.connect();
    busy.write_all(b"GET /slow?ms=300 HTTP/1.1\r\n\r\n").unwrap();
    while !app.line().ends_with("read GET /slow") {}
    app.signal("TERM");
    assert!(rest(&mut idle).ends_with("version v7\n"));
    assert!(rest(&mut busy).ends_with("version v7\n"), "a request in flight was lost");
    assert_eq!(app.wait(), Some(0));
}

#[test]
fn it_crashes_on_the_path_it_was_told_to_and_exits_when_planned() {
    let mut app = App::start(&[("CRASH_ON", "/buy"), ("EXIT_CODE", "7")]);
    assert_eq!(app.get("/buy"), "");
    assert_eq!(app.wait(), Some(7));
    let mut app = App::start(&[("EXIT_AFTER_MS", "50"), ("EXIT_CODE", "3")]);
    assert_eq!(app.wait(), Some(3));
}

fn statuses(app: &App, path: &str, times: usize) -> Vec<u16> {
    let status = |answer: String| answer.split(' ').nth(1).unwrap().parse().unwrap();
    (0..times).map(|_| status(app.get(path))).collect()
}

#[test]
fn a_part_of_the_requests_fails_or_is_slow_and_health_stays_good() {
    let app = App::start(&[("FAIL", "0.1")]);
    assert_eq!(statuses(&app, "/", 50).iter().filter(|status| **status == 500).count(), 5);
    assert_eq!(statuses(&app, "/health", 20), [200; 20]);
    let app = App::start(&[("FAIL", "1"), ("FAIL_AFTER_MS", "3600000")]);
    assert_eq!(statuses(&app, "/", 5), [200; 5]);
    let app = App::start(&[("SLOW", "0.5"), ("SLOW_MS", "60")]);
    let started = Instant::now();
    assert_eq!(statuses(&app, "/", 4), [200; 4]);
    assert!(started.elapsed() >= Duration::from_millis(120));
}

#[test]
fn a_hanging_app_answers_health_alone() {
    let app = App::start(&[("HANG", "1")]);
    assert_eq!(statuses(&app, "/health", 2), [200; 2]);
    let mut stream = app.connect();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream), "");
}

#[test]
fn without_its_dependency_every_request_but_health_fails() {
    let dependency = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let app = App::start(&[("DEPENDENCY", &dependency.local_addr().unwrap().to_string())]);
    assert_eq!(statuses(&app, "/", 3), [200; 3]);
    drop(dependency);
    assert_eq!(statuses(&app, "/", 3), [500; 3]);
    assert_eq!(statuses(&app, "/health", 3), [200; 3]);
}

#[test]
fn each_version_has_assets_of_its_own() {
    let app = App::start(&[]);
    assert_eq!((statuses(&app, "/assets/v7.js", 1), statuses(&app, "/assets/v6.js", 1)), (vec![200], vec![404]));
}

#[test]
fn a_port_may_speak_something_else_or_nothing() {
    let app = App::start(&[("SPEAK", "garbage")]);
    assert!(app.get("/").contains("this is not HTTP"));
    let app = App::start(&[("SPEAK", "silent")]);
    let mut stream = app.connect();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream), "");
}

#[test]
fn the_log_tells_each_step_and_who_closed() {
    let mut app = App::start(&[("LOG_REQUESTS", "1")]);
    let mut stream = app.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nX-Request-Id: c9-1\r\n\r\n").unwrap();
    let lines: Vec<String> = (0..3).map(|_| app.line()).collect();
    assert!(lines[0].starts_with("conn=1 opened peer="), "{lines:?}");
    assert_eq!(lines[1], "conn=1 req=1 id=c9-1 read GET /");
    assert_eq!(lines[2], "conn=1 req=1 id=c9-1 answered 200");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(app.line(), "conn=1 closed by=peer why=eof requests=1");
}

#[test]
fn a_websocket_echoes_answers_pings_and_says_goodbye() {
    let app = App::start(&[("SIGTERM", "drain")]);
    let mut stream = app.connect();
    stream
        .write_all(b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    for (sent, expected) in [
        (&[0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2][..], &[0x81, 2, b'h', b'i'][..]),
        (&[0x89, 0x81, 0, 0, 0, 0, b'p'][..], &[0x8a, 1, b'p'][..]),
    ] {
        stream.write_all(sent).unwrap();
        let mut heard = vec![0; expected.len()];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, expected);
    }
    app.signal("TERM");
    let mut goodbye = [0; 4];
    stream.read_exact(&mut goodbye).unwrap();
    assert_eq!(goodbye, [0x88, 2, 3, 0xe9]);
    stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap();
    rest(&mut stream);
}

#[test]
fn the_healthcheck_subcommand_tells_a_healthy_app_from_a_sick_one() {
    let check = |port: u16| {
        Command::new(env!("CARGO_BIN_EXE_sample-app"))
            .arg("healthcheck")
            .env("PORT", port.to_string())
            .output()
            .unwrap()
    };
    let app = App::start(&[]);
    assert!(check(app.port).status.success());
    let sick = App::start(&[("HEALTH", "never")]);
    let output = check(sick.port);
    assert!(!output.status.success());
    assert_eq!(output.stdout, b"HTTP/1.1 503 Service Unavailable\n");
    assert!(!check(1).status.success());
}
