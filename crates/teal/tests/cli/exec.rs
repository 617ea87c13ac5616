//! `teal exec`: a terminal through the agent.

use crate::common::{Fake, Reply, fault, finish};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use teal_model::fault::{Code, Fault};

fn frame(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

fn next_frame(stream: &mut UnixStream) -> (u8, Vec<u8>) {
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let mut bytes = vec![0; u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize];
    stream.read_exact(&mut bytes).unwrap();
    (head[0], bytes)
}

#[test]
fn exec_passes_input_output_and_the_exit_code() {
    let echo = |mut stream: UnixStream| {
        let mut input = Vec::new();
        loop {
            match next_frame(&mut stream) {
                (0, bytes) => input.extend(bytes),
                (2, _) => break,
                other => panic!("{other:?}"),
            }
        }
        stream.write_all(&frame(1, &input.to_ascii_uppercase())).unwrap();
        stream.write_all(&frame(3, b"42")).unwrap();
    };
    let fake = Fake::new(move |_| Reply::Upgrade(Box::new(echo)));
    let mut child =
        fake.command(&["exec", "web", "--", "tr", "a-z", "A-Z"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    let ran = finish(child);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(42), "HELLO"), "{}", ran.stderr);
    let seen = fake.seen.lock().unwrap()[0].clone();
    assert!(
        seen.headers.contains("upgrade: teal-exec")
            && seen.body.contains(r#""command":["tr","a-z","A-Z"],"tty":false"#),
        "{seen:?}"
    );
}

#[test]
fn exec_says_the_agents_fault() {
    let fake = Fake::new(|_| fault(404, &Fault::new(Code::NotFound, "no replica of shop/web runs")));
    assert_eq!(fake.teal(&["exec", "web", "--", "ls"]).code, Some(6));
    let later = |mut stream: UnixStream| {
        let fault = Fault::new(Code::DockerRefused, "no such file: lss");
        stream.write_all(&frame(4, &serde_json::to_vec(&fault).unwrap())).unwrap();
    };
    let fake = Fake::new(move |_| Reply::Upgrade(Box::new(later)));
    let ran = fake.teal(&["exec", "web", "--", "lss"]);
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(ran.stderr.contains("no such file: lss"));
}
