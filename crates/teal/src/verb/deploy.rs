//! `teal deploy`: hands the project to the agent and follows the deployment to its end.

use crate::build::{self, Wanted};
use crate::cli::Files;
use crate::client::Client;
use crate::follow::{Ending, Follow, conclude};
use crate::print::plan;
use crate::project::Loaded;
use crate::verb::Context;
use crate::who::who;
use clap::Args;
use teal_model::api::{Accepted, DeployRequest};
use teal_model::config::Project;
use teal_model::fault::{Code, Fault, did_you_mean};
use teal_model::plan::Choice;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub selection: Selection,
    /// Print the deployment's number and return; the agent carries it out
    #[arg(long)]
    pub no_wait: bool,
}

/// What to deploy.
#[derive(Debug, Default, Args)]
pub struct Selection {
    /// Only these services; without any, all of the project
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Another image than the file names: REF when one service is meant, else SERVICE=REF; repeatable
    #[arg(long, value_name = "[SERVICE=]REF")]
    pub image: Vec<String>,
    /// Deploy what is live already, too
    #[arg(long)]
    pub force: bool,
    /// Build the images of services with `build`, also those that are here
    #[arg(long)]
    pub build: bool,
    /// Remove what runs and is not in the file any more, at the end
    #[arg(long)]
    pub remove_orphans: bool,
    #[command(flatten)]
    pub files: Files,
}

impl Selection {
    /// `make` builds the images that are to be built.
    pub fn request(
        self,
        context: &Context,
        make: impl FnOnce(&[Wanted<'_>], &Loaded) -> Result<(), Fault>,
    ) -> Result<DeployRequest, Fault> {
        let mut loaded = context.project(self.files, &self.services)?;
        override_images(&mut loaded.project, &self.services, &self.image)?;
        make(&build::wanted(&loaded.project, &self.services, self.build, &build::is_here), &loaded)?;
        let mut project = loaded.project;
        // The agent only needs the image; build arguments may be secret.
        project.services.values_mut().for_each(|service| service.build = None);
        let (force, remove_orphans) = (self.force, self.remove_orphans);
        Ok(DeployRequest {
            project,
            choice: Choice { services: self.services, force, remove_orphans, ..Choice::default() },
            who: who(),
        })
    }
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let client = context.client()?;
    let request = arguments.selection.request(context, make)?;
    let accepted: Accepted = client.post("/v1/deployments", &request).await?;
    if arguments.no_wait {
        context.out.show(&accepted, |accepted, _| accepted.deployment.to_string());
        return Ok(0);
    }
    follow(context, &client, accepted).await
}

/// Builds the images that are to be built.
pub fn make(wanted: &[Wanted<'_>], loaded: &Loaded) -> Result<(), Fault> {
    build::make(wanted, &loaded.variables)
}

/// To its end.
pub async fn follow(context: &Context, client: &Client, mut accepted: Accepted) -> Result<u8, Fault> {
    let then = accepted.then.take();
    let code = follow_one(context, client, accepted).await?;
    match then.filter(|_| code == 0) {
        Some(then) => follow_one(context, client, *then).await,
        None => Ok(code),
    }
}

async fn follow_one(context: &Context, client: &Client, accepted: Accepted) -> Result<u8, Fault> {
    if !context.out.is_json() {
        context.out.text(&format!(
            "Deployment {} of {}",
            accepted.deployment,
            plan::text(&accepted.plan, context.out.paint())
        ));
        context.out.blank();
    }
    match Follow::new(client, &context.out, accepted.deployment, accepted.plan).until_the_end().await? {
        Ending::Ended(receipt) => Ok(conclude(&context.out, &receipt)),
        Ending::Detached(code) => Ok(code),
    }
}

fn override_images(project: &mut Project, chosen: &[String], images: &[String]) -> Result<(), Fault> {
    for image in images {
        let (name, reference) = match image.split_once('=') {
            Some((name, reference)) => (name.to_owned(), reference),
            None => (the_one(project, chosen)?, image.as_str()),
        };
        if reference.trim().is_empty() {
            return Err(Fault::new(Code::Usage, format!("--image {image} names no image")));
        }
        let known: Vec<String> = project.services.keys().cloned().collect();
        let service = project.services.get_mut(&name).ok_or_else(|| {
            Fault::new(
                Code::NotFound,
                format!(
                    "the project {} has no service `{name}`, which --image {image} names{}",
                    project.name,
                    did_you_mean(&name, known.iter().map(String::as_str))
                ),
            )
        })?;
        service.container.image = reference.to_owned();
        service.build = None;
    }
    Ok(())
}

fn the_one(project: &Project, chosen: &[String]) -> Result<String, Fault> {
    let mut names: Vec<&String> =
        if chosen.is_empty() { project.services.keys().collect() } else { chosen.iter().collect() };
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name.clone()),
        _ => Err(Fault::new(Code::Usage, "--image REF fits one service only").hint("say which: `--image SERVICE=REF`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::testing;

    fn images(services: &[&str], chosen: &[&str], images: &[&str]) -> Result<Vec<String>, Fault> {
        let mut project = testing::project(services);
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        override_images(&mut project, &owned(chosen), &owned(images))?;
        Ok(project.services.values().map(|service| service.container.image.clone()).collect())
    }

    #[test]
    fn a_bare_image_is_for_the_one_service_that_is_meant() {
        assert_eq!(images(&["web"], &[], &["app:2"]).unwrap(), ["app:2"]);
        assert_eq!(images(&["api", "web"], &["web"], &["app:2"]).unwrap(), ["api:1", "app:2"]);
        assert_eq!(images(&["api", "web"], &[], &["app:2"]).unwrap_err().code, Code::Usage);
        assert_eq!(images(&["api", "web"], &["api", "web"], &["app:2"]).unwrap_err().code, Code::Usage);
    }

    #[test]
    fn a_named_image_is_for_its_service() {
        assert_eq!(
            images(&["api", "web"], &[], &["web=w:2", "api=r:5000/a@sha256:12"]).unwrap(),
            ["r:5000/a@sha256:12", "w:2"]
        );
        assert_eq!(images(&["web"], &[], &["wbe=w:2"]).unwrap_err().code, Code::NotFound);
        assert_eq!(images(&["web"], &[], &["web="]).unwrap_err().code, Code::Usage);
    }
}
