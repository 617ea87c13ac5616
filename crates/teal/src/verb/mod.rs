//! One file a verb: its arguments, and what it does. A verb returns the exit code, or the fault that says it.

pub mod abort;
pub mod adopt;
pub mod agent;
pub mod check;
pub mod completions;
pub mod deploy;
pub mod down;
pub mod exec;
pub mod freeze;
pub mod history;
pub mod init;
pub mod logs;
pub mod plan;
pub mod promote;
pub mod proxy;
pub mod prune;
pub mod remove;
pub mod rollback;
pub mod running;
pub mod show;
pub mod status;
pub mod takeover;
pub mod up;

use crate::cli::{Cli, Files, Global, Verb};
use crate::client::Client;
use crate::dirs::Dirs;
use crate::print::Out;
use crate::project;
use std::future::Future;
use teal_model::api::Status;
use teal_model::fault::{Code, Fault, did_you_mean};

/// What every verb may need.
#[derive(Debug)]
pub struct Context {
    pub out: Out,
    pub global: Global,
    /// `-f` and `-p` before the verb.
    pub before: Files,
}

impl Context {
    pub fn dirs(&self) -> Result<Dirs, Fault> {
        Dirs::new(&self.global)
    }

    pub fn client(&self) -> Result<Client, Fault> {
        Ok(Client::new(self.dirs()?.socket()))
    }

    /// The compose file, read; its warnings are shown.
    pub fn project(&self, files: Files, services: &[String]) -> Result<project::Loaded, Fault> {
        let loaded = project::load(&files.or(self.before.clone()), services)?;
        self.out.note_lines(&crate::print::fault::warnings(&loaded.warnings, self.out.paint_errors()));
        Ok(loaded)
    }

    /// Which project a verb is about that needs nothing else of the compose file.
    pub fn project_name(&self, files: Files) -> Result<Option<String>, Fault> {
        project::name(&files.or(self.before.clone()))
    }

    /// A project that `-p` names, of which nothing was found.
    pub async fn not_here(&self, client: &Client, files: &Files) -> Result<(), Fault> {
        let Some(project) = files.names.project_name.as_ref().or(self.before.names.project_name.as_ref()) else {
            return Ok(());
        };
        let all: Status = client.get("/v1/status").await?;
        let near = did_you_mean(project, all.services.iter().map(|one| one.service.project.as_str()));
        Err(Fault::new(Code::NotFound, format!("there is no project `{project}` here{near}")))
    }

    pub fn needed_project_name(&self, files: Files) -> Result<String, Fault> {
        self.project_name(files)?.ok_or_else(|| {
            Fault::new(Code::Usage, "there is no compose file here that says which project is meant").hint(
                "name it: `-p NAME`, or go to the folder of its compose file; `teal status --all` lists every project",
            )
        })
    }
}

pub fn run(cli: Cli) -> u8 {
    let context = Context { out: Out::new(cli.global.output), global: cli.global, before: cli.files };
    match dispatch(&context, cli.verb) {
        Ok(code) => code,
        Err(fault) => {
            context.out.fault(&fault);
            fault.code.exit()
        }
    }
}

fn dispatch(context: &Context, verb: Verb) -> Result<u8, Fault> {
    match verb {
        Verb::Init(arguments) => init::run(context, &arguments),
        Verb::Check(arguments) => check::run(context, arguments),
        Verb::Completions(arguments) => completions::run(context, &arguments),
        Verb::Agent(arguments) => agent::run(context, arguments),
        Verb::Proxy(arguments) => proxy::run(&arguments),
        Verb::Plan(arguments) => wait(plan::run(context, arguments)),
        Verb::Deploy(arguments) => wait(deploy::run(context, arguments)),
        Verb::Rollback(arguments) => wait(rollback::run(context, arguments)),
        Verb::Abort(arguments) => wait(abort::run(context, arguments)),
        Verb::Promote(arguments) => wait(promote::run(context, arguments)),
        Verb::Freeze(arguments) => wait(freeze::run(context, arguments)),
        Verb::Adopt(arguments) => wait(adopt::run(context, arguments)),
        Verb::Takeover(arguments) => wait(takeover::run(context, arguments)),
        Verb::Remove(arguments) => wait(remove::run(context, arguments)),
        Verb::Prune(arguments) => wait(prune::run(context, arguments)),
        Verb::Status(arguments) => wait(status::run(context, arguments)),
        Verb::History(arguments) => wait(history::run(context, arguments)),
        Verb::Show(arguments) => wait(show::run(context, arguments)),
        Verb::Logs(arguments) => wait(logs::run(context, arguments)),
        Verb::Exec(arguments) => wait(exec::run(context, arguments)),
        Verb::Up(arguments) => wait(up::run(context, arguments)),
        Verb::Down(arguments) => wait(down::run(context, arguments)),
    }
}

fn wait(verb: impl Future<Output = Result<u8, Fault>>) -> Result<u8, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::new(Code::Internal, format!("no event loop: {error}")))?;
    let result = runtime.block_on(verb);
    // A thread may still wait for a key that nobody needs any more.
    runtime.shutdown_background();
    result
}

/// For the long-running processes: to stderr, which is a log file or the service manager's.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TEAL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // A log on a full disk must not take the process with it, which a word about that on the same disk would do.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    // It fails only when a log was set up before, and that one will do.
    let _ = log.with_ansi(false).try_init();
}
