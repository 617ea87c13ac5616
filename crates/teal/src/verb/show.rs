//! `teal show`: one deployment in full.

use crate::cli::{Files, number};
use crate::client::encode;
use crate::print::deployment;
use crate::verb::Context;
use clap::Args;
use teal_model::api::{Detail, Summary};
use teal_model::fault::{Code, Fault};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The deployment's number; without it, the project's last
    #[arg(value_name = "N", value_parser = number::<u64>("a deployment number, such as 12"))]
    pub deployment: Option<u64>,
    #[command(flatten)]
    pub files: Files,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let client = context.client()?;
    let number = match arguments.deployment {
        Some(number) => number,
        None => {
            let project = context.needed_project_name(arguments.files)?;
            let last: Vec<Summary> =
                client.get(&format!("/v1/deployments?project={}&limit=1", encode(&project))).await?;
            let last =
                last.first().ok_or_else(|| Fault::new(Code::NotFound, format!("{project} was never deployed here")))?;
            last.deployment
        }
    };
    let detail: Detail = client.get(&format!("/v1/deployments/{number}")).await?;
    context.out.show(&detail, deployment::text);
    Ok(0)
}
