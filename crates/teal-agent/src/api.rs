//! The agent's API: JSON over HTTP on its unix socket. `teal_model::api` lists paths and messages.

mod exec;
mod status;
mod watched;

use crate::agent::{Agent, is_last};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use teal_model::api::{
    AbortRequest, Accepted, AdoptRequest, Adoption, DeployRequest, DescribeRequest, DescribedContainer, Detail,
    DownRequest, FreezeRequest, GiveBackRequest, Holder, Log, PromoteRequest, PruneRequest, Pruned, RemoveRequest,
    Removed, RollbackRequest, RolledBack, Summary, VERSION, VERSION_HEADER,
};
use teal_model::deployment::Promote;
use teal_model::fault::{Code, Fault};
use teal_model::plan::Plan;
use tokio::net::UnixListener;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// A compose file with its env files; larger ones are a mistake.
const BODY_LIMIT: usize = 16 * 1024 * 1024;
const HISTORY: u32 = 50;

#[derive(Clone)]
struct Shared {
    agent: Arc<Agent>,
    down: watch::Sender<Option<DownRequest>>,
}

/// Serves until `down` is asked for; requests that run then are given up.
pub async fn serve(
    agent: Arc<Agent>,
    listener: UnixListener,
    down: watch::Sender<Option<DownRequest>>,
) -> std::io::Result<()> {
    let mut asked = down.subscribe();
    let router = Router::new()
        .route("/v1/hello", get(hello))
        .route("/v1/plan", post(plan))
        .route("/v1/deployments", post(deploy).get(history))
        .route("/v1/deployments/{number}", get(detail))
        .route("/v1/deployments/{number}/events", get(events))
        .route("/v1/deployments/{number}/abort", post(abort))
        .route("/v1/deployments/{number}/promote", post(promote))
        .route("/v1/deployments/{number}/freeze", post(freeze))
        .route("/v1/rollback", post(rollback))
        .route("/v1/sharing", get(sharing))
        .route("/v1/remove", post(remove))
        .route("/v1/prune", post(prune))
        .route("/v1/describe", post(describe))
        .route("/v1/adopt", post(adopt))
        .route("/v1/adopt/undo", post(give_back))
        .route("/v1/status", get(status::status))
        .route("/v1/logs", get(logs))
        .route("/v1/exec", post(exec::exec))
        .route("/v1/down", post(stop))
        .fallback(|| async { Refused(Fault::new(Code::AgentVersion, "this agent knows no such request")) })
        .layer(axum::extract::DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(version))
        .with_state(Shared { agent, down });
    tokio::select! {
        served = axum::serve(listener, router) => served,
        _ = asked.wait_for(Option::is_some) => {
            // The answer to the request that asked is on its way.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            Ok(())
        }
    }
}

/// A fault as an answer.
struct Refused(Fault);

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Refused(fault)
    }
}

impl From<crate::journal::JournalError> for Refused {
    fn from(error: crate::journal::JournalError) -> Self {
        Refused(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.0.code {
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Busy => StatusCode::CONFLICT,
            Code::Config | Code::Usage => StatusCode::BAD_REQUEST,
            Code::DockerDown | Code::ProxyDown => StatusCode::SERVICE_UNAVAILABLE,
            Code::DiskFull | Code::Journal => StatusCode::INSUFFICIENT_STORAGE,
            Code::AgentVersion => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, axum::Json(self.0)).into_response()
    }
}

type Answer<T> = Result<axum::Json<T>, Refused>;

/// A body that is not what it should be comes from a command of another version.
struct Json<T>(T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Refused;
    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| Refused(Fault::new(Code::Usage, error.to_string())))?;
        // The path of the field, never its value: it may be a secret.
        serde_json::from_slice(&bytes).map(Json).map_err(|error| {
            let what = format!("the request is not understood at line {}, column {}", error.line(), error.column());
            Refused(Fault::new(Code::AgentVersion, what))
        })
    }
}

/// Both sides say which API they speak, on every message.
async fn version(request: Request, next: Next) -> Response {
    let theirs = request.headers().get(VERSION_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut response = match theirs {
        Some(theirs) if theirs != VERSION.to_string() => {
            Refused(Fault::new(Code::AgentVersion, format!("the command speaks API {theirs}, the agent {VERSION}")))
                .into_response()
        }
        _ => next.run(request).await,
    };
    response.headers_mut().insert(VERSION_HEADER, HeaderValue::from(VERSION));
    response
}

async fn hello(State(shared): State<Shared>) -> axum::Json<teal_model::api::Hello> {
    axum::Json(status::hello(&shared.agent))
}

async fn plan(State(shared): State<Shared>, Json(request): Json<DeployRequest>) -> Answer<Plan> {
    Ok(axum::Json(shared.agent.preview(&request).await?))
}

async fn deploy(State(shared): State<Shared>, Json(request): Json<DeployRequest>) -> Answer<Accepted> {
    // In a task of its own: a command that goes away must not leave half a beginning.
    let begun = tokio::spawn(async move { shared.agent.deploy(request).await }).await;
    let accepted = begun.map_err(|error| Fault::new(Code::Internal, error.to_string()))??;
    Ok(axum::Json(accepted))
}

#[derive(Deserialize)]
struct HistoryQuery {
    project: Option<String>,
    limit: Option<u32>,
}

async fn history(State(shared): State<Shared>, Query(query): Query<HistoryQuery>) -> Answer<Vec<Summary>> {
    let kept = shared.agent.journal.history(query.project.as_deref(), query.limit.unwrap_or(HISTORY))?;
    Ok(axum::Json(kept.iter().map(crate::journal::Kept::summary).collect()))
}

async fn detail(State(shared): State<Shared>, Path(number): Path<u64>) -> Answer<Detail> {
    let kept = shared.agent.journal.deployment(number)?.ok_or_else(|| no_deployment(number))?;
    let notices = shared.agent.journal.notices(number, 0)?;
    Ok(axum::Json(Detail { summary: kept.summary(), plan: kept.deployment.plan, receipt: kept.receipt, notices }))
}

fn no_deployment(number: u64) -> Fault {
    Fault::new(Code::NotFound, format!("there is no deployment {number}"))
}

async fn abort(
    State(shared): State<Shared>,
    Path(number): Path<u64>,
    Json(request): Json<AbortRequest>,
) -> Answer<Summary> {
    Ok(axum::Json(shared.agent.abort(number, &request.who)?.summary()))
}

async fn promote(
    State(shared): State<Shared>,
    Path(number): Path<u64>,
    Json(PromoteRequest { full, who }): Json<PromoteRequest>,
) -> Answer<Summary> {
    Ok(axum::Json(shared.agent.promote(number, Promote { full, who })?.summary()))
}

async fn freeze(
    State(shared): State<Shared>,
    Path(number): Path<u64>,
    Json(request): Json<FreezeRequest>,
) -> Answer<Summary> {
    Ok(axum::Json(shared.agent.freeze(number, &request.who)?.summary()))
}

async fn rollback(State(shared): State<Shared>, Json(request): Json<RollbackRequest>) -> Answer<RolledBack> {
    let begun = tokio::spawn(async move { shared.agent.rollback(request).await }).await;
    Ok(axum::Json(begun.map_err(|error| Fault::new(Code::Internal, error.to_string()))??))
}

#[derive(Deserialize)]
struct SharingQuery {
    port: u16,
}

async fn sharing(State(shared): State<Shared>, Query(query): Query<SharingQuery>) -> Answer<Vec<Holder>> {
    Ok(axum::Json(shared.agent.sharing(query.port).await?))
}

async fn remove(State(shared): State<Shared>, Json(request): Json<RemoveRequest>) -> Answer<Removed> {
    let removed = tokio::spawn(async move { shared.agent.remove(&request).await }).await;
    let removed = removed.map_err(|error| Fault::new(Code::Internal, error.to_string()))??;
    Ok(axum::Json(removed))
}

async fn prune(State(shared): State<Shared>, Json(request): Json<PruneRequest>) -> Answer<Pruned> {
    let pruned = tokio::spawn(async move { shared.agent.prune(&request).await }).await;
    Ok(axum::Json(pruned.map_err(|error| Fault::new(Code::Internal, error.to_string()))??))
}

async fn describe(
    State(shared): State<Shared>,
    Json(request): Json<DescribeRequest>,
) -> Answer<Vec<DescribedContainer>> {
    Ok(axum::Json(shared.agent.describe(&request.names).await?))
}

async fn adopt(State(shared): State<Shared>, Json(request): Json<AdoptRequest>) -> Answer<Adoption> {
    let adopted = tokio::spawn(async move { shared.agent.adopt(request).await }).await;
    Ok(axum::Json(adopted.map_err(|error| Fault::new(Code::Internal, error.to_string()))??))
}

async fn give_back(State(shared): State<Shared>, Json(request): Json<GiveBackRequest>) -> Answer<Adoption> {
    let given = tokio::spawn(async move { shared.agent.give_back(&request).await }).await;
    Ok(axum::Json(given.map_err(|error| Fault::new(Code::Internal, error.to_string()))??))
}

async fn stop(State(shared): State<Shared>, Json(request): Json<DownRequest>) -> axum::Json<serde_json::Value> {
    shared.down.send_replace(Some(request));
    axum::Json(serde_json::json!({}))
}

#[derive(Deserialize)]
struct EventsQuery {
    from: Option<u64>,
}

/// The journal's notices first, then those that come; a reader that is too slow for them reads the journal again.
async fn events(
    State(shared): State<Shared>,
    Path(number): Path<u64>,
    Query(query): Query<EventsQuery>,
) -> Result<Response, Refused> {
    shared.agent.journal.deployment(number)?.ok_or_else(|| no_deployment(number))?;
    let (to, lines) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut next = query.from.unwrap_or(0);
        loop {
            // Subscribed before the journal is read: nothing falls in between.
            let live = shared.agent.handle(number).map(|handle| handle.notices.subscribe());
            let Ok(kept) = shared.agent.journal.notices(number, next) else { return };
            for notice in kept {
                next = notice.sequence + 1;
                let last = is_last(&notice);
                if to.send(line(&notice)).await.is_err() || last {
                    return;
                }
            }
            let Some(mut live) = live else { return };
            loop {
                match live.recv().await {
                    Ok(notice) => {
                        let progress = matches!(notice.what, teal_model::api::What::Progress { .. });
                        if !progress && notice.sequence < next {
                            continue;
                        }
                        if !progress && notice.sequence > next {
                            break;
                        }
                        if !progress {
                            next = notice.sequence + 1;
                        }
                        if to.send(line(&notice)).await.is_err() || is_last(&notice) {
                            return;
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => break,
                }
            }
        }
    });
    Ok(ndjson(lines))
}

fn line(value: &impl Serialize) -> Bytes {
    // Messages are plain data: maps with string keys, numbers and text.
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    Bytes::from(text)
}

fn ndjson(lines: mpsc::Receiver<Bytes>) -> Response {
    let stream = ReceiverStream::new(lines).map(Ok::<Bytes, Infallible>);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response()
}

#[derive(Deserialize)]
struct LogsQuery {
    project: String,
    service: Option<String>,
    lines: Option<u32>,
    #[serde(default)]
    follow: bool,
}

async fn logs(State(shared): State<Shared>, Query(query): Query<LogsQuery>) -> Result<Response, Refused> {
    let world = shared.agent.watch.now();
    let wanted = |service: &teal_model::ids::ServiceKey| {
        service.project == query.project && query.service.as_ref().is_none_or(|name| name == &service.service)
    };
    let replicas: Vec<_> =
        world.replicas.values().filter(|replica| wanted(&replica.release.service)).cloned().collect();
    if replicas.is_empty() {
        return Err(shared.agent.not_here(&query.project, query.service.as_deref()).into());
    }
    let (to, lines) = mpsc::channel(256);
    for replica in replicas {
        let (runtime, to) = (shared.agent.runtime.clone(), to.clone());
        tokio::spawn(async move {
            let (log, mut written) = mpsc::channel(256);
            let name = replica.container.name.clone();
            let read = async {
                if let Err(error) =
                    runtime.logs(&replica.container.id, query.lines.unwrap_or(100), query.follow, log).await
                {
                    tracing::warn!(container = name, %error, "its log broke off");
                }
            };
            let pass = async {
                while let Some(said) = written.recv().await {
                    let entry = Log { replica: name.clone(), stderr: said.stderr, at: said.at, text: said.text };
                    if to.send(line(&entry)).await.is_err() {
                        return;
                    }
                }
            };
            // A reader that has gone ends it, whether or not the container says anything more.
            tokio::select! {
                _ = async { tokio::join!(read, pass) } => {}
                () = to.closed() => {}
            }
        });
    }
    Ok(ndjson(lines))
}
