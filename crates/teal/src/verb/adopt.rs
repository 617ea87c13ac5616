//! `teal adopt`: what somebody else started becomes the live release, as it is; `--undo` forgets that again.

mod containers;
mod nginx;

pub use containers::Proposal;
pub use nginx::Shown;
#[cfg(test)]
pub use nginx::{Diff, Line, ShownMove};

use crate::cli::Files;
use crate::print::adoption;
use crate::terminal::{self, Answer};
use crate::verb::Context;
use crate::who::who;
use clap::{Args, Subcommand};
use teal_model::api::{AdoptRequest, Adoption, GiveBackRequest};
use teal_model::fault::{Code, Fault};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub from: Option<From>,
    /// With --undo: these services; without any, all of the project
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    #[command(flatten)]
    pub how: How,
}

#[derive(Debug, Args)]
pub struct How {
    /// Show what would be done; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Forget what was adopted and not deployed since; its containers are left as they are
    #[arg(long)]
    pub undo: bool,
    #[command(flatten)]
    pub files: Files,
}

/// Who started what is taken over.
#[derive(Debug, Subcommand)]
pub enum From {
    /// Containers that `docker compose up` started
    Compose {
        /// Without any, all of the project
        #[arg(value_name = "SERVICE")]
        services: Vec<String>,
        #[command(flatten)]
        how: How,
    },
    /// Containers that a script started with `docker run`: writes a compose file for them
    Containers(containers::Arguments),
    /// An nginx that leads to them: each service keeps its port, and nginx its connections to Teal
    Nginx(nginx::Arguments),
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    match arguments.from {
        Some(From::Compose { services, how }) if how.undo => undo(context, services, how).await,
        Some(From::Compose { services, how }) => compose(context, services, how).await,
        Some(From::Containers(arguments)) => containers::run(context, arguments).await,
        Some(From::Nginx(arguments)) => nginx::run(context, arguments).await,
        None if arguments.how.undo => undo(context, arguments.services, arguments.how).await,
        None => Err(Fault::new(Code::Usage, "where from? Teal adopts what Compose or a script started").hint(
            "`teal adopt compose` in the project's folder, or `teal adopt containers NAME...` for what `docker run` started",
        )),
    }
}

async fn compose(context: &Context, services: Vec<String>, how: How) -> Result<u8, Fault> {
    let client = context.client()?;
    let mut project = context.project(how.files, &services)?.project;
    // The agent only needs the image; build arguments may be secret.
    project.services.values_mut().for_each(|service| service.build = None);
    let request = |dry_run| AdoptRequest {
        project: project.clone(),
        services: services.clone(),
        containers: None,
        dry_run,
        who: who(),
    };
    let plan: Adoption = client.post("/v1/adopt", &request(true)).await?;
    if how.dry_run || plan.services.iter().all(|service| service.already) {
        context.out.show(&plan, adoption::plan);
        return Ok(0);
    }
    if !context.out.is_json() {
        context.out.text(&adoption::plan(&plan, context.out.paint()));
    }
    if !context.global.yes && !confirmed(context, "Adopt them?").await? {
        context.out.note("nothing was adopted");
        return Ok(Code::Aborted.exit());
    }
    let adopted: Adoption = client.post("/v1/adopt", &request(false)).await?;
    context.out.show(&adopted, |adopted, _| adoption::done(adopted));
    Ok(0)
}

async fn undo(context: &Context, services: Vec<String>, how: How) -> Result<u8, Fault> {
    give_back(context, how.files, services, how.dry_run).await
}

async fn give_back(context: &Context, files: Files, services: Vec<String>, dry_run: bool) -> Result<u8, Fault> {
    let project = context.needed_project_name(files)?;
    let client = context.client()?;
    let request =
        |dry_run| GiveBackRequest { project: project.clone(), services: services.clone(), dry_run, who: who() };
    let plan: Adoption = client.post("/v1/adopt/undo", &request(true)).await?;
    if dry_run {
        context.out.show(&plan, |plan, _| adoption::given_back(plan, "would be left to Docker"));
        return Ok(0);
    }
    let names: Vec<&str> = plan.services.iter().map(|service| service.service.service.as_str()).collect();
    let question = format!("Forget the adoption of {}? The containers go on as they are.", names.join(", "));
    if !context.global.yes && !confirmed(context, &question).await? {
        context.out.note("nothing was changed");
        return Ok(Code::Aborted.exit());
    }
    let done: Adoption = client.post("/v1/adopt/undo", &request(false)).await?;
    context.out.show(&done, |done, _| adoption::given_back(done, "left to Docker"));
    Ok(0)
}

pub(super) async fn confirmed(context: &Context, question: &str) -> Result<bool, Fault> {
    if !context.out.is_interactive() {
        return Err(Fault::new(Code::Usage, "nobody is here to confirm it").hint("say it with --yes"));
    }
    context.out.ask(&format!("{question} [y/N]"));
    Ok(
        matches!(terminal::answer().await, Answer::Line(line) if ["y", "yes"].contains(&line.trim().to_lowercase().as_str())),
    )
}
