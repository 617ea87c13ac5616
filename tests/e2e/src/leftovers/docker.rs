//! Docker's objects, through its own command line.

use super::{Things, count, output_of};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    #[serde(rename = "ID")]
    id: String,
    names: String,
    image: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    driver: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    #[serde(rename = "ID")]
    id: String,
    repository: String,
    tag: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volume {
    name: String,
    driver: String,
}

/// Stopped ones too.
pub fn containers(host: Option<&str>) -> Result<Things, String> {
    let containers: Vec<Container> = list(host, &["ps", "--all", "--no-trunc"])?;
    Ok(count(containers.into_iter().map(|it| format!("{} ({}, image {})", it.names, short(&it.id), it.image))))
}

pub fn networks(host: Option<&str>) -> Result<Things, String> {
    let networks: Vec<Network> = list(host, &["network", "ls", "--no-trunc"])?;
    Ok(count(networks.into_iter().map(|it| format!("{} ({}, {})", it.name, short(&it.id), it.driver))))
}

/// Tags and dangling images; layers in between belong to those.
pub fn images(host: Option<&str>) -> Result<Things, String> {
    let images: Vec<Image> = list(host, &["images", "--no-trunc"])?;
    Ok(count(images.into_iter().map(|it| format!("{}:{} ({})", it.repository, it.tag, short(&it.id)))))
}

pub fn volumes(host: Option<&str>) -> Result<Things, String> {
    let volumes: Vec<Volume> = list(host, &["volume", "ls"])?;
    Ok(count(volumes.into_iter().map(|it| format!("{} ({})", it.name, it.driver))))
}

fn list<T: for<'de> Deserialize<'de>>(host: Option<&str>, arguments: &[&str]) -> Result<Vec<T>, String> {
    let mut all = host.map_or_else(Vec::new, |host| vec!["--host", host]);
    all.extend_from_slice(arguments);
    all.extend_from_slice(&["--format", "{{json .}}"]);
    let text = output_of("docker", &all)?;
    let parse = |line| serde_json::from_str(line).map_err(|error| format!("docker {}: {error}", arguments.join(" ")));
    text.lines().map(parse).collect()
}

fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that cannot go on says where
mod tests {
    use crate::leftovers::{Part, Scope, Snapshot, output_of};
    use std::process::Command;

    /// Removes what the test made, also when the test fails.
    struct Made(Vec<Vec<String>>);

    impl Made {
        fn docker(&mut self, create: &[&str], remove: &[&str]) {
            output_of("docker", create).unwrap();
            self.0.push(remove.iter().map(|word| (*word).to_owned()).collect());
        }
    }

    impl Drop for Made {
        fn drop(&mut self) {
            for remove in self.0.iter().rev() {
                let _ = Command::new("docker").args(remove).output();
            }
        }
    }

    #[test]
    fn each_thing_that_docker_makes_is_found_and_found_gone() {
        let name = format!("teal-e2e-{}", std::process::id());
        let image = format!("{name}:left");
        let directory = tempfile::tempdir().unwrap();
        let scope = Scope { directories: vec![directory.path().to_owned()], docker_host: None };
        let before = Snapshot::take(&scope);
        assert_eq!(before.unread(), []);
        let empty = directory.path().join("empty.tar");
        std::fs::write(&empty, [0; 1024]).unwrap();
        {
            let mut made = Made(Vec::new());
            made.docker(&["import", empty.to_str().unwrap(), &image], &["rmi", &image]);
            made.docker(&["network", "create", &name], &["network", "rm", &name]);
            made.docker(&["volume", "create", &name], &["volume", "rm", &name]);
            made.docker(&["create", "--name", &name, &image, "/nothing"], &["rm", "-f", &name]);
            let leftovers = before.diff(&Snapshot::take(&scope));
            for part in [Part::Container, Part::Network, Part::Image, Part::Volume] {
                let found = leftovers.left.iter().any(|(its, thing)| *its == part && thing.starts_with(&name));
                assert!(found, "no {part} in:\n{leftovers}");
            }
            // A bridge network brings an interface and rules of its own.
            assert!(leftovers.left.iter().any(|(part, _)| *part == Part::Interface), "{leftovers}");
            assert!(leftovers.left.iter().any(|(part, _)| *part == Part::Ipv4Rule), "{leftovers}");
            assert!(leftovers.left.iter().any(|(part, thing)| *part == Part::File && thing.ends_with("/empty.tar")));
        }
        let leftovers = before.diff(&Snapshot::take(&scope));
        assert!(!leftovers.left.iter().any(|(_, thing)| thing.contains(&name)), "{leftovers}");
    }
}
