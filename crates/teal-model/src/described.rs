//! Containers that a script started, put together as a project: a service for each, or for a pair of colors of which one runs.

use crate::api::DescribedContainer;
use crate::config::{DEFAULT_NETWORK, Project};
use crate::fault::{Code, Fault};
use std::collections::BTreeMap;

/// A container, and the service that it is to become where that was said.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub service: Option<String>,
    pub container: DescribedContainer,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gathered {
    pub project: Project,
    /// The containers of each service, by id.
    pub containers: BTreeMap<String, Vec<String>>,
    /// What is to be known of each service.
    pub notes: BTreeMap<String, Vec<String>>,
    /// What was left alone, and why.
    pub left: Vec<String>,
}

/// What scripts call the two sides that take turns.
const COLORS: [&str; 4] = ["blue", "green", "a", "b"];

/// The service of a container: its name, without a color.
pub fn service_name(container: &str) -> &str {
    let bare =
        container.rsplit_once(['-', '_', '.']).filter(|(name, color)| !name.is_empty() && COLORS.contains(color));
    bare.map_or(container, |(name, _)| name)
}

/// # Errors
/// A container that Compose or Teal manages already, two of one service that run both, or none that runs.
pub fn gather(project: &str, directory: &str, asked: Vec<Asked>) -> Result<Gathered, Fault> {
    let mut groups: BTreeMap<String, Vec<DescribedContainer>> = BTreeMap::new();
    for Asked { service, container } in asked {
        refuse_managed(&container)?;
        let service = service.unwrap_or_else(|| service_name(&container.name).to_owned());
        let group = groups.entry(service).or_default();
        if !group.iter().any(|other| other.id == container.id) {
            group.push(container);
        }
    }
    let mut out = Gathered::default();
    (out.project.name, out.project.directory) = (project.to_owned(), directory.to_owned());
    for (name, group) in groups {
        let (running, ended): (Vec<_>, Vec<_>) = group.into_iter().partition(|container| container.running);
        for container in &ended {
            out.left.push(format!("{}: it does not run", container.name));
        }
        let mut running = running.into_iter();
        let Some(container) = running.next() else { continue };
        if let Some(other) = running.next() {
            let what = format!("{} and {} both run, and both would be {name}", container.name, other.name);
            return Err(Fault::new(Code::Usage, what)
                .hint("name the one that gets the requests, or give each a service of its own: `SERVICE=CONTAINER`"));
        }
        out.take(name, container);
    }
    if out.containers.is_empty() {
        let what = "none of these containers runs";
        return Err(Fault::new(Code::NotFound, what)
            .detail(out.left)
            .hint("start one with your script, then adopt it"));
    }
    Ok(out)
}

fn refuse_managed(container: &DescribedContainer) -> Result<(), Fault> {
    let Some(label) = &container.reserved else { return Ok(()) };
    let name = &container.name;
    Err(match label.starts_with("com.docker.compose.") {
        true => Fault::new(Code::Usage, format!("{name} was started by Compose, and its label {label} says so"))
            .hint("`teal adopt compose`, in the folder of its compose file"),
        false => Fault::new(Code::Usage, format!("{name} is Teal's own, and its label {label} says so"))
            .hint("`teal status --all` lists what Teal serves"),
    })
}

impl Gathered {
    fn take(&mut self, name: String, container: DescribedContainer) {
        let DescribedContainer { id, name: called, mut service, networks, volumes, unsaid, mut notes, .. } = container;
        service.name.clone_from(&name);
        if called != name {
            // Where Docker answers to its name, callers may know it by that.
            let named = service.networks.iter_mut().filter(|(key, _)| *key != DEFAULT_NETWORK);
            named.for_each(|(_, place)| place.aliases.push(called.clone()));
        }
        notes.extend(unsaid.into_iter().map(|what| format!("not in the file, since no key can say it: {what}")));
        self.project.networks.extend(networks);
        self.project.volumes.extend(volumes);
        self.containers.insert(name.clone(), vec![id]);
        self.notes.insert(name.clone(), notes);
        self.project.services.insert(name, service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Attachment, Service};

    fn container(name: &str, running: bool) -> Asked {
        let networks = BTreeMap::from([("shop".to_owned(), Attachment::default())]);
        let service = Service { networks, ..Service::default() };
        let (id, name) = (format!("id of {name}"), name.to_owned());
        Asked { service: None, container: DescribedContainer { id, name, running, service, ..Default::default() } }
    }

    #[test]
    fn of_two_colors_the_one_that_runs_is_the_service() {
        let gathered = gather("p", "/", vec![container("app-blue", false), container("app-green", true)]).unwrap();
        assert_eq!(gathered.containers["app"], ["id of app-green"]);
        assert_eq!(gathered.left, ["app-blue: it does not run"]);
        assert_eq!(gathered.project.services["app"].networks["shop"].aliases, ["app-green"]);
        let fault = gather("p", "/", vec![container("app-blue", true), container("app-green", true)]).unwrap_err();
        assert!(fault.what.contains("app-blue and app-green both run"), "{fault}");
        assert_eq!(gather("p", "/", vec![container("app-blue", false)]).unwrap_err().code, Code::NotFound);
    }

    #[test]
    fn a_name_without_a_color_is_the_service() {
        for (name, service) in
            [("app", "app"), ("web_blue", "web"), ("shop-api", "shop-api"), ("api.b", "api"), ("blue", "blue")]
        {
            assert_eq!(service_name(name), service);
        }
        let mut renamed = container("app-blue", true);
        renamed.service = Some("web".to_owned());
        assert!(gather("p", "/", vec![renamed]).unwrap().containers.contains_key("web"));
    }

    #[test]
    fn what_somebody_manages_is_refused() {
        for (label, says) in [("com.docker.compose.project", "adopt compose"), ("teal.service", "teal status")] {
            let mut managed = container("app", true);
            managed.container.reserved = Some(label.to_owned());
            let fault = gather("p", "/", vec![managed]).unwrap_err();
            assert!(fault.hint.contains(says), "{fault:?}");
        }
    }
}
