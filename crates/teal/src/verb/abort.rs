//! `teal abort`: takes back the deployment that runs, and waits until it is back.

use crate::cli::Files;
use crate::client::{Client, encode};
use crate::follow::{Ending, Follow, conclude};
use crate::verb::Context;
use crate::who::who;
use clap::Args;
use teal_model::api::{AbortRequest, Detail, Summary};
use teal_model::fault::{Code, Fault};
use teal_model::receipt::Outcome;

/// What runs is among the last ones: a service has one unfinished deployment at most.
const RECENT: u32 = 50;

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
    let number = chosen(context, &client, "abort", arguments.deployment, arguments.files).await?;
    let _: Summary = client.post(&format!("/v1/deployments/{number}/abort"), &AbortRequest { who: who() }).await?;
    follow(context, &client, number).await?.ok_or_else(|| {
        Fault::new(Code::NotFound, format!("there was nothing left to abort: deployment {number} is done"))
            .hint("`teal rollback` goes back to the release before")
    })
}

/// A deployment that is being taken back, to its end. None: it was done before that.
pub async fn follow(context: &Context, client: &Client, number: u64) -> Result<Option<u8>, Fault> {
    let detail: Detail = client.get(&format!("/v1/deployments/{number}")).await?;
    let seen: Vec<_> = detail
        .notices
        .into_iter()
        .filter(|notice| !matches!(notice.what, teal_model::api::What::Ended { .. }))
        .collect();
    let receipt = match Follow::new(client, &context.out, number, detail.plan).after(&seen).until_the_end().await? {
        Ending::Ended(receipt) => receipt,
        Ending::Detached(code) => return Ok(Some(code)),
    };
    match &receipt.outcome {
        Outcome::Reverted { .. } => {
            if !context.out.is_json() {
                context.out.text(&crate::print::receipt::headline(&receipt, context.out.paint()));
            }
            Ok(Some(0))
        }
        Outcome::Done | Outcome::Unchanged => Ok(None),
        Outcome::Stuck { .. } => Ok(Some(conclude(&context.out, &receipt))),
    }
}

/// The deployment that `teal VERB` is about: this one, or the one of the project that runs.
pub async fn chosen(
    context: &Context,
    client: &Client,
    verb: &str,
    number: Option<u64>,
    files: Files,
) -> Result<u64, Fault> {
    if let Some(number) = number {
        return Ok(number);
    }
    let project = context.needed_project_name(files)?;
    // One project may have several at once, each of other services.
    let summaries: Vec<Summary> =
        client.get(&format!("/v1/deployments?project={}&limit={RECENT}", encode(&project))).await?;
    let running: Vec<u64> =
        summaries.iter().filter(|summary| !summary.state.has_ended()).map(|summary| summary.deployment).collect();
    match running[..] {
        [number] => Ok(number),
        [] => Err(Fault::new(Code::NotFound, format!("no deployment of {project} runs"))),
        _ => {
            let numbers: Vec<String> = running.iter().map(u64::to_string).collect();
            Err(Fault::new(Code::Usage, format!("several deployments of {project} run: {}", numbers.join(", ")))
                .hint(format!("say which: `teal {verb} N`")))
        }
    }
}
