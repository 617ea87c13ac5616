//! `teal freeze`: a canary stays at the share it has.

use crate::cli::Files;
use crate::verb::{Context, abort};
use crate::who::who;
use clap::Args;
use teal_model::api::{FreezeRequest, Summary};
use teal_model::fault::Fault;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The deployment's number; without it, the one of the project that runs
    #[arg(value_name = "N")]
    pub deployment: Option<u64>,
    #[command(flatten)]
    pub files: Files,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let client = context.client()?;
    let number = abort::chosen(context, &client, "freeze", arguments.deployment, arguments.files).await?;
    let summary: Summary =
        client.post(&format!("/v1/deployments/{number}/freeze"), &FreezeRequest { who: who() }).await?;
    context.out.show(&summary, |summary, _| {
        let project = &summary.project;
        format!("deployment {number} of {project} stays as it is until `teal promote`, `teal abort` or `teal rollback`")
    });
    Ok(0)
}
