//! `teal remove`: takes services away for good; data in named volumes stays, unless it is asked for by name.

use crate::cli::Files;
use crate::client::{Client, LONG_PATIENCE, encode};
use crate::print::words::counted;
use crate::terminal::{self, Answer};
use crate::verb::Context;
use crate::who::who;
use clap::Args;
use teal_model::api::{RemoveRequest, RemoveVolumes, Removed, ServiceStatus, Status};
use teal_model::fault::{Code, Fault};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Only these services; without any, all of the project
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Volumes, too, with the data in them: all (then the project's name is to be typed), or those of these names
    #[arg(long, value_name = "NAME", num_args = 0.., require_equals = true, value_delimiter = ',')]
    pub volumes: Option<Vec<String>>,
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
    let asks = context.out.is_interactive() && !context.global.yes;
    if asks {
        warn(context, &chosen(&client, &project, &arguments.services).await?);
    }
    let volumes = match arguments.volumes {
        None => RemoveVolumes::Keep,
        Some(names) if names.is_empty() => RemoveVolumes::All,
        Some(names) => RemoveVolumes::Named(names),
    };
    let confirmed = match &volumes {
        RemoveVolumes::Keep => context.global.yes || confirmed(context, &what, "").await?,
        RemoveVolumes::Named(names) => {
            let data = format!(" The data in {} will be lost.", names.join(", "));
            context.global.yes || confirmed(context, &what, &data).await?
        }
        RemoveVolumes::All => typed(context, &what, &project).await?,
    };
    if !confirmed {
        context.out.note("nothing was removed");
        return Ok(Code::Aborted.exit());
    }
    let removed: Removed = client
        .post("/v1/remove", &RemoveRequest { project, services: arguments.services, volumes, who: who() })
        .await?;
    context.out.show(&removed, |removed, _| text(removed));
    Ok(0)
}

async fn chosen(client: &Client, project: &str, services: &[String]) -> Result<Vec<ServiceStatus>, Fault> {
    let mut status: Status = client.get(&format!("/v1/status?project={}", encode(project))).await?;
    status.services.retain(|service| services.is_empty() || services.contains(&service.service.service));
    Ok(status.services)
}

fn warn(context: &Context, chosen: &[ServiceStatus]) {
    before(chosen).iter().for_each(|words| context.out.note(words));
}

/// What the question does not say: containers that somebody else started go, too, and who else has to hear of it.
fn before(chosen: &[ServiceStatus]) -> Vec<String> {
    let adopted = chosen.iter().filter(|service| service.adopted).flat_map(|service| &service.replicas);
    let adopted: Vec<&str> = adopted.map(|replica| replica.name.as_str()).collect();
    let mut words = Vec::new();
    if !adopted.is_empty() {
        words.push(format!(
            "{} adopted, not made by Teal, and will be stopped and removed all the same; `teal adopt --undo` leaves them running",
            adopted.join(", ") + if adopted.len() == 1 { " was" } else { " were" }
        ));
    }
    words.extend(chosen.iter().filter_map(|service| {
        let (name, behind) = (&service.service.service, service.behind.as_ref()?);
        Some(format!(
            "{name} is behind {behind}: once it is removed, nginx answers 502 to whoever still asks for it; take its `proxy_pass` out first"
        ))
    }));
    words
}

async fn confirmed(context: &Context, what: &str, data: &str) -> Result<bool, Fault> {
    if !context.out.is_interactive() {
        return Err(Fault::new(Code::Usage, format!("nobody is here to confirm that {what} is to be removed"))
            .hint("say it with --yes"));
    }
    context.out.ask(&format!("Remove {what}? Its requests will be refused.{data} [y/N]"));
    Ok(terminal::confirmed().await)
}

/// Data is not lost by a word that one says by habit: no `--yes` stands for this.
async fn typed(context: &Context, what: &str, project: &str) -> Result<bool, Fault> {
    if context.global.yes || !context.out.is_interactive() {
        return Err(Fault::new(Code::Usage, "`--volumes` without names is confirmed by typing the project's name")
            .hint("in a script name them: `--volumes=NAME,NAME --yes`"));
    }
    context.out.ask(&format!(
        "Remove {what}, and all data in its volumes? It cannot be brought back. Type {project} to go on:"
    ));
    Ok(matches!(terminal::answer().await, Answer::Line(line) if line.trim() == project))
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
    if !removed.volumes_removed.is_empty() {
        text.push_str(&format!("removed with their data: {}\n", removed.volumes_removed.join(", ")));
    }
    if !removed.volumes_kept.is_empty() {
        text.push_str(&format!("kept, since they hold data: {}\n", removed.volumes_kept.join(", ")));
    }
    for said in &removed.nginx {
        text.push_str(&format!("{}; {}\n", said.what, said.hint));
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
            volumes_removed: vec!["shop_cache".to_owned()],
            volumes_kept: vec!["shop_data".to_owned()],
            nginx: vec![
                Fault::new(
                    Code::NginxRefused,
                    "nginx on this host still names app, which nobody serves: it answers 502",
                )
                .hint("take its `proxy_pass` out; until then Teal's file names it"),
            ],
        };
        crate::print::golden("removed.txt", &text(&removed));
    }

    #[test]
    fn who_else_has_to_hear_of_it_is_said_before_the_question() {
        let mut status = crate::print::made_up::status();
        status.services[0].behind = Some("nginx on this host, upstream app".to_owned());
        let name = status.services[0].service.service.clone();
        let words = before(&status.services[..1]);
        assert_eq!(words.len(), 1, "{words:?}");
        assert!(words[0].starts_with(&format!("{name} is behind nginx on this host, upstream app")), "{words:?}");
        assert!(words[0].contains("answers 502"));
    }
}
