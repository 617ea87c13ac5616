//! A command in a container, both ways over one upgraded connection. `teal_model::api::ExecRequest` tells the frames.

use super::{Json, Refused, Shared};
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use teal_model::api::ExecRequest;
use teal_model::deployment::Health;
use teal_model::fault::{Code, Fault};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

const INPUT: u8 = 0;
const OUTPUT: u8 = 1;
const END_OF_INPUT: u8 = 2;
const EXIT: u8 = 3;
const FAULT: u8 = 4;
const MAX_FRAME: u32 = 1024 * 1024;

pub async fn exec(State(shared): State<Shared>, mut request: Request) -> Result<Response, Refused> {
    let upgrade = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| Fault::new(Code::Usage, "exec needs an upgraded connection"))?;
    let Json(wanted): Json<ExecRequest> = Json::from_request(request, &()).await?;
    let container = choose(&shared, &wanted)?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => run(shared, container, wanted, TokioIo::new(upgraded)).await,
            Err(error) => tracing::warn!(%error, "exec was not upgraded"),
        }
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "teal-exec")
        .body(Body::empty());
    response.map_err(|error| Fault::new(Code::Internal, error.to_string()).into())
}

fn choose(shared: &Shared, wanted: &ExecRequest) -> Result<String, Fault> {
    let world = shared.agent.watch.now();
    let live = shared
        .agent
        .journal
        .services()?
        .into_iter()
        .find(|record| record.service.project == wanted.project && record.service.service == wanted.service);
    let live = live.and_then(|record| record.live).map(|live| live.release);
    if live.is_none() {
        return Err(shared.agent.not_here(&wanted.project, Some(&wanted.service)));
    }
    let mut replicas: Vec<_> = world
        .replicas
        .values()
        .filter(|replica| {
            Some(&replica.release) == live.as_ref() && wanted.replica.is_none_or(|index| index == replica.index)
        })
        .collect();
    replicas.sort_by_key(|replica| (replica.health() != Health::Ready, replica.index));
    let found = replicas.first().map(|replica| replica.container.id.clone());
    found.ok_or_else(|| {
        Fault::new(Code::NotFound, format!("{}/{} has no such replica here", wanted.project, wanted.service))
    })
}

async fn run(shared: Shared, container: String, wanted: ExecRequest, io: impl AsyncRead + AsyncWrite) {
    let (mut reader, mut writer) = tokio::io::split(io);
    let (input, typed) = mpsc::channel(64);
    let (output, mut written) = mpsc::channel::<Vec<u8>>(64);
    let mut input = Some(input);
    let read = async {
        while let Ok((kind, bytes)) = frame(&mut reader).await {
            match kind {
                INPUT => {
                    let Some(to) = &input else { break };
                    if to.send(bytes).await.is_err() {
                        break;
                    }
                }
                // Dropping the sender closes the command's input; the connection stays for its output.
                END_OF_INPUT => input = None,
                _ => break,
            }
        }
        // The command line went away, or there is nothing more to read: the command sees the end of its input, and goes on
        // until it ends.
        drop(input.take());
        std::future::pending::<()>().await;
    };
    let work = async {
        let exec = shared.agent.runtime.exec(&container, &wanted.command, wanted.tty, typed, output);
        tokio::pin!(exec);
        let mut ended = None;
        loop {
            tokio::select! {
                bytes = written.recv() => match bytes {
                    Some(bytes) => send(&mut writer, OUTPUT, &bytes).await?,
                    None => break,
                },
                end = &mut exec, if ended.is_none() => ended = Some(end),
            }
        }
        let ended = match ended {
            Some(ended) => ended,
            None => exec.await,
        };
        match ended {
            Ok(code) => send(&mut writer, EXIT, code.to_string().as_bytes()).await,
            Err(error) => {
                send(&mut writer, FAULT, &serde_json::to_vec(&crate::agent::fault_of(error)).unwrap_or_default()).await
            }
        }
    };
    let ended: std::io::Result<()> = tokio::select! {
        ended = work => ended,
        () = read => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "the command line left its exec");
    }
}

async fn frame(reader: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = reader.read_u8().await?;
    let length = reader.read_u32_le().await?;
    if length > MAX_FRAME {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    reader.read_exact(&mut bytes).await?;
    Ok((kind, bytes))
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), kind: u8, bytes: &[u8]) -> std::io::Result<()> {
    let mut frame = Vec::with_capacity(5 + bytes.len());
    frame.push(kind);
    frame.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    frame.extend_from_slice(bytes);
    writer.write_all(&frame).await?;
    writer.flush().await
}
