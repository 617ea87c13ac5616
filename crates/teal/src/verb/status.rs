//! `teal status`: what serves now.

use crate::cli::Files;
use crate::client::encode;
use crate::follow::now;
use crate::print::status;
use crate::verb::Context;
use clap::Args;
use teal_model::api::Status;
use teal_model::fault::Fault;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Every project of this host, whatever compose file is here
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub files: Files,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let project = if arguments.all { None } else { context.project_name(arguments.files.clone())? };
    let client = context.client()?;
    let answer: Status = match &project {
        Some(project) => client.get(&format!("/v1/status?project={}", encode(project))).await?,
        None => client.get("/v1/status").await?,
    };
    if project.is_some() && answer.services.is_empty() && answer.running.is_empty() {
        context.not_here(&client, &arguments.files).await?;
    }
    context.out.show(&answer, |answer, paint| status::text(answer, now().as_millis() as u64, paint));
    Ok(0)
}
