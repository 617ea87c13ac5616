//! A little agent on a unix socket that answers as it is told, and the command run against it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone)]
pub struct Request {
    /// `GET /v1/hello`.
    pub line: String,
    pub headers: String,
    pub body: String,
}

pub enum Reply {
    /// Status and JSON.
    Json(u16, String),
    /// Chunks; false: the connection breaks off after them.
    Stream(Vec<String>, bool),
    /// Chunks, and then nothing for as long as the other side stays.
    Open(Vec<String>),
    /// 101, then this.
    Upgrade(Box<dyn FnOnce(UnixStream) + Send>),
    OtherVersion,
}

type Answer = dyn Fn(&Request) -> Reply + Send + Sync;

pub struct Fake {
    pub dir: tempfile::TempDir,
    pub seen: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    pub fn new(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let fake = Self::absent();
        std::fs::create_dir(fake.dir.path().join("run")).unwrap();
        let listener = UnixListener::bind(fake.dir.path().join("run/agent.sock")).unwrap();
        let (seen, answer): (_, Arc<Answer>) = (fake.seen.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &seen, &*answer));
            }
        });
        fake
    }

    /// A folder with a compose file, and no agent.
    pub fn absent() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("compose.yaml"),
            "name: shop\nservices:\n  web: {image: 'app:1', ports: ['80:8080']}\n  worker: {image: 'worker:1'}\n",
        )
        .unwrap();
        Self { dir, seen: Arc::default() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_teal"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env("TEAL_RUN_DIR", self.path().join("run"))
            .env("TEAL_STATE_DIR", self.path().join("state"));
        command
            .env("TEAL_WHO", "ana@web1")
            .env_remove("COMPOSE_PROJECT_NAME")
            .env_remove("COMPOSE_FILE")
            .env_remove("COMPOSE_PROFILES")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the command to its end.
    pub fn teal(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    pub fn asked(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|request| request.line.clone()).collect()
    }
}

#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub fn finish(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn json(value: &impl serde::Serialize) -> Reply {
    Reply::Json(200, serde_json::to_string(value).unwrap())
}

pub fn fault(status: u16, fault: &teal_model::fault::Fault) -> Reply {
    Reply::Json(status, serde_json::to_string(fault).unwrap())
}

pub fn lines(values: &[impl serde::Serialize]) -> Vec<String> {
    values.iter().map(|value| serde_json::to_string(value).unwrap() + "\n").collect()
}

fn serve(mut stream: UnixStream, seen: &Mutex<Vec<Request>>, answer: &Answer) {
    let Some(request) = read(&stream) else { return };
    seen.lock().unwrap().push(request.clone());
    let mut send = |text: &str| drop(stream.write_all(text.as_bytes()));
    let head = |status: u16, version: &str, rest: &str| {
        format!("HTTP/1.1 {status} X\r\nteal-api: {version}\r\n{rest}\r\n\r\n")
    };
    let chunk = |text: &String| format!("{:x}\r\n{text}\r\n", text.len());
    match answer(&request) {
        Reply::Json(status, body) => send(&(head(status, "1", &format!("content-length: {}", body.len())) + &body)),
        Reply::OtherVersion => {
            let body = r#"{"version":"9.9.9","what":"nobody knows"}"#;
            send(&(head(200, "99", &format!("content-length: {}", body.len())) + body));
        }
        Reply::Stream(chunks, ends) => {
            send(&head(200, "1", "transfer-encoding: chunked"));
            chunks.iter().for_each(|text| send(&chunk(text)));
            if ends {
                send("0\r\n\r\n");
            }
        }
        Reply::Open(chunks) => {
            send(&head(200, "1", "transfer-encoding: chunked"));
            chunks.iter().for_each(|text| send(&chunk(text)));
            let _ = stream.read(&mut [0]);
        }
        Reply::Upgrade(talk) => {
            send(&head(101, "1", "connection: upgrade\r\nupgrade: teal-exec"));
            talk(stream);
        }
    }
}

fn read(stream: &UnixStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut headers = String::new();
    loop {
        let before = headers.len();
        reader.read_line(&mut headers).ok()?;
        if headers[before..].trim().is_empty() {
            break;
        }
    }
    let length = headers.lines().find_map(|header| {
        header.to_lowercase().strip_prefix("content-length:").map(|n| n.trim().parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let line = line.trim().strip_suffix(" HTTP/1.1")?.to_owned();
    Some(Request { line, headers, body: String::from_utf8(body).ok()? })
}
