//! `teal freeze`: a canary stays at the share it has.

use crate::verb::Context;
use crate::verb::running::Running;
use crate::who::who;
use teal_model::api::{FreezeRequest, Summary};
use teal_model::fault::Fault;

pub async fn run(context: &Context, running: Running) -> Result<u8, Fault> {
    let client = context.client()?;
    let number = running.number(context, &client, "freeze").await?;
    let summary: Summary =
        client.post(&format!("/v1/deployments/{number}/freeze"), &FreezeRequest { who: who() }).await?;
    context.out.show(&summary, |summary, _| {
        let project = &summary.project;
        format!("deployment {number} of {project} stays as it is until `teal promote`, `teal abort` or `teal rollback`")
    });
    Ok(0)
}
