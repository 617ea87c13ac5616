//! `teal remove`: takes services away for good; data in named volumes stays.

use crate::cli::Files;
use crate::client::{Client, LONG_PATIENCE, encode};
use crate::print::words::counted;
use crate::terminal::{self, Answer};
use crate::verb::Context;
use crate::who::who;
use clap::Args;
use teal_model::api::{RemoveRequest, Removed, Status};
use teal_model::fault::{Code, Fault};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Only these services; without any, all of the project
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    #[command(flatten)]
    pub files: Files,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let project = context.needed_project_name(arguments.files)?;
    let what = match arguments.services.is_empty() {
        true => format!("the whole project {project}"),
        false => format!("{} of {project}", arguments.services.join(", ")),
    };
    let client = context.client()?.patience(LONG_PATIENCE);
    let adopted = if context.global.yes { Vec::new() } else { adopted(&client, &project, &arguments.services).await? };
    if !context.global.yes && !confirmed(context, &what, &adopted).await? {
        context.out.note("nothing was removed");
        return Ok(Code::Aborted.exit());
    }
    let removed: Removed =
        client.post("/v1/remove", &RemoveRequest { project, services: arguments.services, who: who() }).await?;
    context.out.show(&removed, |removed, _| text(removed));
    Ok(0)
}

/// Containers that somebody else started: they go, too, and the question says so.
async fn adopted(client: &Client, project: &str, services: &[String]) -> Result<Vec<String>, Fault> {
    let status: Status = client.get(&format!("/v1/status?project={}", encode(project))).await?;
    let chosen = status.services.into_iter().filter(|service| service.adopted);
    let chosen = chosen.filter(|service| services.is_empty() || services.contains(&service.service.service));
    Ok(chosen.flat_map(|service| service.replicas).map(|replica| replica.name).collect())
}

async fn confirmed(context: &Context, what: &str, adopted: &[String]) -> Result<bool, Fault> {
    if !context.out.is_interactive() {
        return Err(Fault::new(Code::Usage, format!("nobody is here to confirm that {what} is to be removed"))
            .hint("say it with --yes"));
    }
    if !adopted.is_empty() {
        context.out.note(&format!(
            "{} adopted, not made by Teal, and will be stopped and removed all the same; `teal adopt --undo` leaves them running",
            adopted.join(", ") + if adopted.len() == 1 { " was" } else { " were" }
        ));
    }
    context.out.ask(&format!("Remove {what}? Its requests will be refused. [y/N]"));
    Ok(
        matches!(terminal::answer().await, Answer::Line(line) if ["y", "yes"].contains(&line.trim().to_lowercase().as_str())),
    )
}

fn text(removed: &Removed) -> String {
    let mut text = format!(
        "removed {} and {}\n",
        counted(removed.containers.len() as u64, "container"),
        counted(removed.networks.len() as u64, "network")
    );
    for name in removed.containers.iter().chain(&removed.networks) {
        text.push_str(&format!("  {name}\n"));
    }
    if !removed.volumes_kept.is_empty() {
        text.push_str(&format!("kept, since they hold data: {}\n", removed.volumes_kept.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_and_what_was_kept_is_named() {
        let removed = Removed {
            containers: vec!["shop-web-blue-1".to_owned()],
            networks: vec!["shop_default".to_owned()],
            volumes_kept: vec!["shop_data".to_owned()],
        };
        crate::print::golden("removed.txt", &text(&removed));
    }
}
