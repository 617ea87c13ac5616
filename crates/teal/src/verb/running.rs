//! The deployment that a verb is about, of those that have not ended.

use crate::cli::{Files, number};
use crate::client::{Client, encode};
use crate::verb::Context;
use clap::Args;
use teal_model::api::Summary;
use teal_model::fault::{Code, Fault};

/// What runs is among the last ones: a service has one unfinished deployment at most.
const RECENT: u32 = 50;

#[derive(Debug, Args)]
pub struct Running {
    /// The deployment's number; without it, the one of the project that runs
    #[arg(value_name = "N", value_parser = number::<u64>("a deployment number, such as 12"))]
    pub deployment: Option<u64>,
    #[command(flatten)]
    pub files: Files,
}

impl Running {
    /// Of `teal VERB`.
    pub async fn number(self, context: &Context, client: &Client, verb: &str) -> Result<u64, Fault> {
        if let Some(number) = self.deployment {
            return Ok(number);
        }
        let project = context.needed_project_name(self.files)?;
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
}
