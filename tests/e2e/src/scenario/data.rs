//! A service with data is never two at once, and each release finds what the one before it wrote: in a bind mount, in the
//! image's own volume, in a named one.

use super::STORE_IMAGE;
use crate::stage::{Stage, docker};
use std::collections::BTreeSet;
use std::time::Duration;

/// From the end of a deployment until the program has said that it started.
const STARTED: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bind,
    Image,
    Named,
}

pub const KINDS: [Kind; 3] = [Kind::Bind, Kind::Image, Kind::Named];

#[derive(Debug)]
pub struct Data {
    /// Other holders of the data that a holder has met.
    pub doubles: u64,
    /// Deployments after which something was missing of what all releases before had written.
    pub lost: Vec<String>,
    /// Volumes that the containers had, of any kind.
    pub volumes: usize,
}

/// What the data says of itself, by `sample-app store report`.
#[derive(Debug, Default, PartialEq)]
struct Told {
    doubles: u64,
    versions: Vec<String>,
}

pub fn run(stage: &Stage, kind: Kind, deployments: usize) -> Data {
    stage.compose(&compose(kind)).up();
    let mut data = Data { doubles: 0, lost: Vec::new(), volumes: 0 };
    let mut volumes = BTreeSet::new();
    let mut expected = Vec::new();
    for version in 0..=deployments {
        stage.must_deploy(&version.to_string());
        expected.push(version.to_string());
        let container = stage.replicas("store").pop().unwrap_or_else(|| panic!("no store runs\n{}", stage.logs()));
        volumes.extend(volumes_of(&container));
        let mut told = Told::default();
        stage.until("the store has started", STARTED, || {
            told = report(&container);
            told.versions.last() == Some(&version.to_string())
        });
        data.doubles += told.doubles;
        if told.versions != expected {
            data.lost.push(format!("version {version} found {:?}", told.versions));
            // Each loss counts once.
            expected = told.versions;
        }
    }
    data.volumes = volumes.len();
    stage.must(&["remove", "--yes"]);
    for volume in volumes {
        docker(&["volume", "rm", &volume]);
    }
    data
}

fn compose(kind: Kind) -> String {
    let (mount, top) = match kind {
        Kind::Bind => ("    volumes: [\"./data:/data\"]\n", ""),
        Kind::Image => ("", ""),
        Kind::Named => ("    volumes: [\"data:/data\"]\n", "volumes:\n  data: {}\n"),
    };
    format!(
        "services:\n  store:\n    image: {STORE_IMAGE}\n    environment: {{ VERSION: \"${{VERSION:-0}}\" }}\n{mount}{top}"
    )
}

fn volumes_of(container: &str) -> Vec<String> {
    let format = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}} {{end}}{{end}}";
    docker(&["inspect", "--format", format, container]).split_whitespace().map(str::to_owned).collect()
}

fn report(container: &str) -> Told {
    // Before it has started there is nothing to report, and the command fails.
    let output =
        std::process::Command::new("docker").args(["exec", container, "/sample-app", "store", "report"]).output();
    output.map_or_else(|_| Told::default(), |output| parse(&String::from_utf8_lossy(&output.stdout)))
}

fn parse(text: &str) -> Told {
    let word = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Told {
        doubles: word("doubles").and_then(|count| count.parse().ok()).unwrap_or(0),
        versions: word("versions").map_or_else(Vec::new, |list| list.split(',').map(str::to_owned).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_is_written() {
        let told = parse("starts=3 doubles=2 versions=0,1,2\n");
        assert_eq!(told, Told { doubles: 2, versions: ["0", "1", "2"].map(str::to_owned).to_vec() });
        assert_eq!(parse("no such container"), Told::default());
    }
}
