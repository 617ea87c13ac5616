//! `teal logs`: what the containers print.

use crate::cli::{LongFiles, number};
use crate::client::encode;
use crate::print::logs;
use crate::verb::Context;
use clap::Args;
use teal_model::api::Log;
use teal_model::fault::Fault;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this service
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Begin this many lines back, for each replica
    #[arg(short = 'n', long, default_value_t = 100, value_parser = number::<u32>("a number of lines, such as 100"))]
    pub lines: u32,
    /// Go on with what comes
    #[arg(short, long)]
    pub follow: bool,
    #[command(flatten)]
    pub files: LongFiles,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let project = context.needed_project_name(arguments.files.into())?;
    let service = arguments.service.map_or_else(String::new, |service| format!("&service={}", encode(&service)));
    let path =
        format!("/v1/logs?project={}{service}&lines={}&follow={}", encode(&project), arguments.lines, arguments.follow);
    let mut lines = context.client()?.lines(&path).await?;
    let mut prefixes = logs::Prefixes::new(context.out.paint());
    while let Some(log) = lines.next::<Log>().await? {
        context.out.show(&log, |log, _| prefixes.line(log));
        if context.out.is_closed() {
            break;
        }
    }
    Ok(0)
}
