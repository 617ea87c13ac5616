//! `teal adopt`: containers that Compose started become the live release, as they are; `--undo` forgets that again.

use crate::cli::Files;
use crate::print::adoption;
use crate::terminal::{self, Answer};
use crate::verb::Context;
use crate::who::who;
use clap::Args;
use teal_model::api::{AdoptRequest, Adoption, GiveBackRequest};
use teal_model::fault::{Code, Fault};

#[derive(Debug, Args)]
pub struct Arguments {
    /// `compose`, which is where they come from, and services; without any, all of the project
    #[arg(value_name = "compose [SERVICE]")]
    pub words: Vec<String>,
    /// Show what would be adopted; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Forget what was adopted and not deployed since; its containers are left as they are
    #[arg(long)]
    pub undo: bool,
    #[command(flatten)]
    pub files: Files,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let (from, services) = match arguments.words.split_first() {
        Some((first, rest)) if first == "compose" => (Some(()), rest.to_vec()),
        _ => (None, arguments.words),
    };
    if arguments.undo {
        return give_back(context, arguments.files, services, arguments.dry_run).await;
    }
    if from.is_none() {
        return Err(Fault::new(Code::Usage, "where from? Teal adopts what Compose started")
            .hint("`teal adopt compose`, in the project's folder"));
    }
    let client = context.client()?;
    let mut project = context.project(arguments.files, &services)?.project;
    // The agent only needs the image; build arguments may be secret.
    project.services.values_mut().for_each(|service| service.build = None);
    let request = |dry_run, project| AdoptRequest { project, services: services.clone(), dry_run, who: who() };
    let plan: Adoption = client.post("/v1/adopt", &request(true, project.clone())).await?;
    if arguments.dry_run || plan.services.iter().all(|service| service.already) {
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
    let adopted: Adoption = client.post("/v1/adopt", &request(false, project)).await?;
    context.out.show(&adopted, |adopted, _| adoption::done(adopted));
    Ok(0)
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
