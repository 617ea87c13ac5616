//! `teal promote`: a canary's next step, or the end of a bake, now.

use crate::verb::Context;
use crate::verb::running::Running;
use crate::who::who;
use clap::Args;
use teal_model::api::{PromoteRequest, Summary};
use teal_model::deployment::State;
use teal_model::fault::Fault;

#[derive(Debug, Args)]
pub struct Arguments {
    /// All requests at once, over the steps that are left
    #[arg(long)]
    pub full: bool,
    #[command(flatten)]
    pub running: Running,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let client = context.client()?;
    let number = arguments.running.number(context, &client, "promote").await?;
    let full = arguments.full;
    let summary: Summary =
        client.post(&format!("/v1/deployments/{number}/promote"), &PromoteRequest { full, who: who() }).await?;
    context.out.show(&summary, |summary, _| {
        let what = match summary.state {
            State::Baking => "goes live",
            _ if full => "gets all requests",
            _ => "takes its next step",
        };
        format!("deployment {number} of {} {what}; `teal status` shows it", summary.project)
    });
    Ok(0)
}
