//! `teal history`: deployments, newest first.

use crate::cli::{Files, number};
use crate::client::encode;
use crate::print::history;
use crate::verb::Context;
use clap::Args;
use std::num::NonZeroU32;
use teal_model::api::Summary;
use teal_model::fault::Fault;

#[derive(Debug, Args)]
pub struct Arguments {
    /// At most this many
    #[arg(short = 'n', long, default_value = "20", value_parser = number::<NonZeroU32>("a number from 1 on"))]
    pub limit: NonZeroU32,
    /// Of every project of this host
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub files: Files,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let project = if arguments.all { None } else { context.project_name(arguments.files.clone())? };
    let of_project = project.as_ref().map_or_else(String::new, |project| format!("project={}&", encode(project)));
    let client = context.client()?;
    let summaries: Vec<Summary> = client.get(&format!("/v1/deployments?{of_project}limit={}", arguments.limit)).await?;
    if project.is_some() && summaries.is_empty() {
        context.not_here(&client, &arguments.files).await?;
    }
    if context.out.is_json() {
        summaries.iter().for_each(|summary| context.out.json(summary));
    } else {
        context.out.text(&history::text(&summaries, project.is_none(), context.out.paint()));
    }
    Ok(0)
}
