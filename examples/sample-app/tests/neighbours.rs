//! The app among its neighbours: orders with a database and a cache that are played here, the worker, the plain TCP port,
//! and the store that must not run twice.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

struct Program {
    process: Child,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    fn start(arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_sample-app"))
            .args(arguments)
            .env_clear()
            .env("PORT", "0")
            .env("VERSION", "v7")
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        Self { process, stdout }
    }

    /// What follows this in the next line that begins with it.
    fn after(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "it ended without having said {words:?}");
            if let Some(rest) = line.strip_prefix(words) {
                return rest.trim_end().to_owned();
            }
        }
    }

    fn port(&mut self, word: &str) -> u16 {
        self.after(&format!("{word} port=")).split(' ').next().unwrap().parse().unwrap()
    }

    /// Tells it to end; its exit code.
    fn end(mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Program {
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

fn ask(port: u16, method: &str, path: &str) -> String {
    let mut stream = connect(port);
    let head = format!("{method} {path} HTTP/1.1\r\nX-Request-Id: r'1\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Answers what was read on each connection with what `speak` says, and tells what was read.
fn play(mut speak: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut piece) {
                let _ = tell.send(String::from_utf8_lossy(&piece[..length]).into_owned());
                if stream.write_all(&speak(&piece[..length])).is_err() {
                    break;
                }
            }
        }
    });
    (at, told)
}

/// A row with one column, 12, for every query.
fn database(said: &[u8]) -> Vec<u8> {
    const READY: &[u8] = b"Z\0\0\0\x05I";
    match said.first() {
        Some(b'Q') => [b"D\0\0\0\x0c\0\x01\0\0\0\x0212", READY].concat(),
        _ => [b"R\0\0\0\x08\0\0\0\0", READY].concat(),
    }
}

#[test]
fn an_order_is_a_row_a_count_and_a_task() {
    let (database, queries) = play(database);
    let (cache, commands) = play(|_| b":34\r\n".to_vec());
    let mut app = Program::start(&[], &[("DATABASE", &database), ("CACHE", &cache)]);
    let port = app.port("listening");
    let answer = ask(port, "POST", "/orders");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("order 12 of 34\n"), "{answer}");
    let queries: Vec<String> = queries.try_iter().collect();
    assert!(queries[1].contains("CREATE TABLE IF NOT EXISTS orders"), "{queries:?}");
    assert!(queries[2].contains("VALUES ('r''1', 'v7')"), "{queries:?}");
    let commands: Vec<String> = commands.try_iter().collect();
    assert!(commands[0].contains("INCR") && commands[1].contains("LPUSH\r\n$4\r\nwork\r\n$2\r\n12"), "{commands:?}");
    assert!(ask(port, "GET", "/orders").ends_with("\r\n\r\n12\n"));
}

#[test]
fn an_order_that_could_not_be_stored_is_not_acknowledged() {
    let nobody = format!("127.0.0.1:{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let mut app = Program::start(&[], &[("DATABASE", &nobody), ("CACHE", &nobody)]);
    assert!(ask(app.port("listening"), "POST", "/orders").starts_with("HTTP/1.1 500"));
    let mut alone = Program::start(&[], &[]);
    assert!(ask(alone.port("listening"), "POST", "/orders").starts_with("HTTP/1.1 404"));
}

#[test]
fn the_worker_says_what_it_has_done_and_ends_when_told() {
    let mut tasks = vec![b"*2\r\n$4\r\nwork\r\n$2\r\n12\r\n".to_vec()];
    let (cache, commands) = play(move |_| {
        tasks.pop().unwrap_or_else(|| {
            std::thread::sleep(Duration::from_millis(10));
            b"*-1\r\n".to_vec()
        })
    });
    let mut worker = Program::start(&["worker"], &[("CACHE", &cache)]);
    assert_eq!(worker.after("worked "), "task=12 done=1");
    assert!(commands.recv().unwrap().contains("BRPOP"));
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn a_store_that_runs_twice_is_found_out_and_one_that_follows_another_is_not() {
    let folder = format!("{}/store-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let env = [("DATA", folder.as_str())];
    let report = || Program::start(&["store", "report"], &env).after("starts=");
    let start = || {
        let mut store = Program::start(&["store"], &env);
        store.after("storing ");
        store
    };
    let first = start();
    assert_eq!(report(), "1 doubles=0 versions=v7");
    assert_eq!(first.end(), Some(0));
    let second = start();
    assert_eq!(report(), "2 doubles=0 versions=v7,v7");
    let third = start();
    assert!(!report().starts_with("3 doubles=0"), "the lock is held, and a heart beats");
    drop(second);
    drop(third);
    std::fs::remove_file(format!("{folder}/doubles")).unwrap();
    let fourth = start();
    assert_eq!(report(), "4 doubles=0 versions=v7,v7,v7,v7", "one that was killed is no holder");
    drop(fourth);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_line_comes_back_with_the_version_before_it() {
    let mut app = Program::start(&[], &[("ECHO_PORT", "0"), ("SIGTERM", "drain")]);
    let mut stream = connect(app.port("echoing"));
    app.port("listening");
    stream.write_all(b"one\ntwo\nthr").unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut line = || {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        line
    };
    assert_eq!((line(), line()), ("v7 one\n".to_owned(), "v7 two\n".to_owned()));
    stream.write_all(b"ee\n").unwrap();
    assert_eq!(line(), "v7 three\n");
    assert_eq!(app.end(), Some(0), "a drain closes connections that are idle");
    assert_eq!(line(), "");
}
