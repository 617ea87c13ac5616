//! `teal abort`: takes back the deployment that runs, and waits until it is back.

use crate::client::Client;
use crate::follow::{Ending, Follow, conclude};
use crate::verb::Context;
use crate::verb::running::Running;
use crate::who::who;
use teal_model::api::{AbortRequest, Detail, Summary};
use teal_model::fault::{Code, Fault};
use teal_model::receipt::Outcome;

pub async fn run(context: &Context, running: Running) -> Result<u8, Fault> {
    let client = context.client()?;
    let number = running.number(context, &client, "abort").await?;
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
