//! `teal rollback`: back to the release before, in as little time as can be: one request to the agent, and nothing before it
//! that it does not need.

use crate::cli::{Files, number};
use crate::print::plan;
use crate::verb::{Context, abort, deploy};
use crate::who::who;
use clap::Args;
use teal_model::api::{RollbackRequest, RolledBack};
use teal_model::fault::Fault;
use teal_model::ids::ReleaseKey;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Only these services; without any, those that the project's newest deployment changed
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// To this release instead of the one before; with one service
    #[arg(long, value_name = "RELEASE", value_parser = number::<u64>("a release number, such as 3"))]
    pub to: Option<u64>,
    /// Show what would be done; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the deployment's number and return; the agent carries it out
    #[arg(long)]
    pub no_wait: bool,
    #[command(flatten)]
    pub files: Files,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let Arguments { services, to, dry_run, no_wait, files } = arguments;
    let project = context.needed_project_name(files)?;
    let client = context.client()?;
    let asked = RollbackRequest { project, services, to, dry_run, who: who() };
    loop {
        match client.post("/v1/rollback", &asked).await? {
            RolledBack::Aborted { deployment } if !no_wait => {
                // What was done before it could be taken back is live now, and gone back from as such.
                if let Some(code) = abort::follow(context, &client, deployment).await? {
                    return Ok(code);
                }
            }
            RolledBack::Deploys(accepted) if !no_wait => return deploy::follow(context, &client, *accepted).await,
            answer => {
                context.out.show(&answer, |answer, paint| match answer {
                    RolledBack::Aborted { deployment } => deployment.to_string(),
                    RolledBack::Deploys(accepted) => accepted.deployment.to_string(),
                    RolledBack::Would { plan } => plan::text(plan, paint),
                    RolledBack::WouldAbort { deployment, plan } => {
                        format!(
                            "would take back deployment {deployment} of {} ({})",
                            plan.project,
                            plan::taken_back(plan)
                        )
                    }
                    RolledBack::Already { release, again } => already(release, *again),
                });
                return Ok(0);
            }
        }
    }
}

fn already(release: &ReleaseKey, again: Option<u64>) -> String {
    let again = again.map(|again| format!(", which is {again} again,")).unwrap_or_default();
    format!("nothing to do: {release}{again} is live already\n")
}
