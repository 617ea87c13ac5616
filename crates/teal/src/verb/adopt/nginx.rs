//! `teal adopt nginx`: shows which places of nginx's configuration lead to services of Teal, and changes those of one.

use super::confirmed;
use crate::nginx::moved::{Changed, Moved, read};
use crate::nginx::{Nginx, Surroundings};
use crate::print::nginx as print;
use crate::verb::Context;
use clap::Args;
use serde::Serialize;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use teal_model::api::{ServiceStatus, Status};
use teal_model::config::is_trusted;
use teal_model::fault::{Code, Fault};
use teal_model::ids::ServiceKey;
use teal_model::nginx::behind::{Move, Said, Served, ServedPort, ways};
use teal_model::nginx::edit::apply;
use teal_model::nginx::{Configuration, View};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The service to move, or PROJECT/SERVICE; may be left out where nginx leads to one alone
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Show what would be done; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Put the files back as they were, and reload
    #[arg(long)]
    pub undo: bool,
    /// nginx's main file, as `nginx -c` takes it
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
    /// nginx's folder, as `nginx -p` takes it
    #[arg(long, value_name = "DIR")]
    pub prefix: Option<String>,
    /// The program
    #[arg(long, value_name = "PATH", default_value = "nginx")]
    pub program: String,
    /// nginx runs in this container; files that are mounted from the host can be changed
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// Read what `nginx -T` printed instead of asking nginx; nothing is changed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["undo", "container", "config", "prefix"])]
    pub dump: Option<PathBuf>,
}

/// What nginx has, and what would become of it.
#[derive(Debug, Serialize)]
pub struct Shown {
    pub services: Vec<ShownMove>,
    pub left: Vec<Line>,
    /// How long old workers wait for their connections; None: for ever.
    pub worker_shutdown_timeout: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct ShownMove {
    pub service: ServiceKey,
    pub uses: Vec<Line>,
    pub left: Vec<Line>,
    pub files: Vec<Diff>,
    /// Docker has its ports; keep-alive is added after the first deployment.
    pub waits: bool,
    /// Whether nginx's forwarding headers are believed, from this address.
    pub trusted: bool,
    pub peer: IpAddr,
    /// Why nothing can be changed for it.
    pub blocked: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Line {
    pub file: String,
    pub line: usize,
    pub what: String,
}

#[derive(Debug, Serialize)]
pub struct Diff {
    pub file: PathBuf,
    pub diff: Vec<String>,
    #[serde(skip)]
    pub changed: Changed,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let state = context.dirs()?.state;
    if arguments.undo {
        return undo(context, &state, &arguments).await;
    }
    let nginx = Nginx {
        program: arguments.program.clone(),
        config: arguments.config.clone(),
        prefix: arguments.prefix.clone(),
        container: arguments.container.clone(),
    };
    let client = context.client()?;
    let status: Status = client.get("/v1/status").await?;
    let around = nginx.surroundings()?;
    let dump = match &arguments.dump {
        Some(path) => read(path)?,
        None => nginx.dump()?,
    };
    let configuration = Configuration::of_dump(&dump).map_err(|problems| {
        Fault::new(Code::NginxRefused, "nginx's configuration cannot be read")
            .detail(problems.iter().map(ToString::to_string).collect())
    })?;
    let view = View::of(&configuration);
    let services: Vec<Served> = status.services.iter().filter_map(served).collect();
    let found = ways(&configuration, &services, &around.standpoint);
    let show = |one: &Move| {
        let status = status.services.iter().find(|status| status.service == one.service);
        shown(one, &configuration, &nginx, &around, status, arguments.dump.is_some())
    };
    let shown = Shown {
        services: found.moves.iter().map(show).collect(),
        left: found.left.iter().map(line).collect(),
        worker_shutdown_timeout: view.worker_shutdown_timeout.map(|node| node.value().to_owned()),
    };
    if let (Some(wanted), None) = (&arguments.service, chosen(&shown, arguments.service.as_deref())?) {
        return Err(Fault::new(Code::NotFound, format!("nothing of nginx leads to {wanted}"))
            .detail(shown.left.iter().map(|line| format!("{}:{}: {}", line.file, line.line, line.what)).collect())
            .hint(
                "`teal status` shows the ports that are published; `teal adopt nginx --dry-run` what nginx leads to",
            ));
    }
    let target = chosen(&shown, arguments.service.as_deref())?;
    let to_do = target.filter(|one| !one.files.is_empty() && one.blocked.is_none());
    if arguments.dry_run
        || arguments.dump.is_some()
        || to_do.is_none() && target.is_none_or(|one| one.blocked.is_none())
    {
        context.out.show(&shown, print::plan);
        return Ok(0);
    }
    let target = target.ok_or_else(|| Fault::new(Code::Internal, "no service was chosen"))?;
    if let Some(why) = &target.blocked {
        return Err(Fault::new(Code::Usage, format!("{} cannot be moved: {why}", target.service)));
    }
    let pid = view.pid.map(|node| Path::new(arguments.prefix.as_deref().unwrap_or("/")).join(node.value()));
    let moved = Moved {
        service: target.service.clone(),
        pid: pid.filter(|_| nginx.container.is_none()),
        nginx,
        files: target.files.iter().map(|file| file.changed.clone()).collect(),
    };
    if !context.out.is_json() {
        context.out.text(&print::plan(&shown, context.out.paint()));
    }
    let question = format!("Change these files for {} and reload nginx?", moved.service);
    if !context.global.yes && !confirmed(context, &question).await? {
        context.out.note("nothing was changed");
        return Ok(Code::Aborted.exit());
    }
    moved.apply(&state)?;
    context.out.show(&shown, |_, _| print::moved(&moved));
    Ok(0)
}

async fn undo(context: &Context, state: &Path, arguments: &Arguments) -> Result<u8, Fault> {
    let all = Moved::all(state)?;
    let names: Vec<String> = all.iter().map(|moved| moved.service.to_string()).collect();
    let wanted = all.into_iter().filter(|moved| is_meant(&moved.service, arguments.service.as_deref()));
    let [moved] = &wanted.collect::<Vec<_>>()[..] else {
        let what =
            if names.is_empty() { "nginx's files were not changed for any service" } else { "for which service?" };
        let code = if names.is_empty() { Code::NotFound } else { Code::Usage };
        return Err(Fault::new(code, what).detail(names).hint("`teal adopt nginx --undo SERVICE` puts its files back"));
    };
    if !context.out.is_json() {
        context.out.text(&print::undoing(moved, context.out.paint()));
    }
    if arguments.dry_run {
        return Ok(0);
    }
    if !context.global.yes && !confirmed(context, "Put these files back and reload nginx?").await? {
        context.out.note("nothing was changed");
        return Ok(Code::Aborted.exit());
    }
    moved.undo(state)?;
    context.out.show(&moved, |moved, _| print::undone(moved));
    Ok(0)
}

fn is_meant(service: &ServiceKey, name: Option<&str>) -> bool {
    name.is_none_or(|name| name == service.service || name == service.to_string())
}

/// The service that was named; else the one that there is something to do for.
fn chosen<'s>(shown: &'s Shown, name: Option<&str>) -> Result<Option<&'s ShownMove>, Fault> {
    let meant = shown.services.iter().filter(|one| is_meant(&one.service, name));
    let meant: Vec<&ShownMove> = meant.filter(|one| name.is_some() || !one.files.is_empty()).collect();
    match &meant[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => Err(Fault::new(Code::Usage, "one service is moved at a time, and nginx leads to several")
            .detail(several.iter().map(|one| one.service.to_string()).collect())
            .hint("name one: `teal adopt nginx SERVICE`; `--dry-run SERVICE` shows what it would do")),
    }
}

fn served(status: &ServiceStatus) -> Option<Served> {
    let ports = status.published.iter().filter(|port| !port.udp && (!port.direct || status.adopted));
    let ports: Vec<ServedPort> = ports
        .map(|port| ServedPort { host_ip: port.host_ip, published: port.published, target: port.target })
        .collect();
    let adopted_names = status.replicas.iter().filter(|_| status.adopted).map(|replica| replica.name.clone());
    (!ports.is_empty()).then(|| Served {
        service: status.service.clone(),
        ports,
        containers: status.replicas.iter().filter_map(|replica| replica.address.as_deref()?.parse().ok()).collect(),
        names: [status.service.service.clone()].into_iter().chain(adopted_names).collect(),
        dockers: status.adopted,
    })
}

fn shown(
    one: &Move,
    configuration: &Configuration,
    nginx: &Nginx,
    around: &Surroundings,
    status: Option<&ServiceStatus>,
    elsewhere: bool,
) -> ShownMove {
    let (mut files, mut blocked) = (Vec::new(), None);
    for file in configuration.files() {
        let Some(after) = apply(&file.path, &file.text, &one.edits) else {
            blocked = Some(format!("two changes of {} overlap", file.path));
            continue;
        };
        if after == file.text {
            continue;
        }
        let on_host = nginx.on_host(&file.path, &around.mounts);
        match &on_host {
            None => blocked = Some(format!("{} is in the container alone, and would be lost with it", file.path)),
            Some(path) if !elsewhere && std::fs::read_to_string(path).ok().as_ref() != Some(&file.text) => {
                blocked = Some(format!("{} is not what nginx has read, or cannot be read", path.display()));
            }
            Some(_) => {}
        }
        let path = on_host.unwrap_or_else(|| PathBuf::from(&file.path));
        let diff = crate::print::diff::lines(&file.text, &after);
        let changed = Changed { path: path.clone(), before: file.text.clone(), after };
        files.push(Diff { file: path, diff, changed });
    }
    ShownMove {
        service: one.service.clone(),
        uses: one.uses.iter().map(line).collect(),
        left: one.left.iter().map(line).collect(),
        files,
        waits: one.waits,
        trusted: status.is_some_and(|status| is_trusted(&status.trusted_proxies, around.peer)),
        peer: around.peer,
        blocked,
    }
}

fn line(said: &Said) -> Line {
    Line { file: said.place.file.clone(), line: said.place.line, what: said.what.clone() }
}
