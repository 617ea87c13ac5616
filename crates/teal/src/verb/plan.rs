//! `teal plan`: what a deployment would do, asked of the agent, since it knows what runs.

use crate::print::plan;
use crate::verb::Context;
use crate::verb::deploy::Selection;
use clap::Args;
use teal_model::fault::Fault;
use teal_model::plan::Plan;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub selection: Selection,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let request = arguments.selection.request(context, |wanted, _| {
        for build in wanted {
            context.out.note_lines(&format!("{}: `teal deploy` builds {}\n", build.service, build.image));
        }
        Ok(())
    })?;
    let plan: Plan = context.client()?.post("/v1/plan", &request).await?;
    context.out.show(&plan, plan::text);
    Ok(0)
}
