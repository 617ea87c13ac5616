//! `teal adopt containers`: a compose file for what a script started with `docker run`, and the adoption of it as it runs.

use super::confirmed;
use crate::cli::Files;
use crate::print::adoption;
use crate::project;
use crate::verb::Context;
use crate::who::who;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use teal_model::api::{AdoptRequest, Adoption, DescribeRequest, DescribedContainer};
use teal_model::config::write::write;
use teal_model::config::{self, Service};
use teal_model::described::{Asked, Gathered, gather};
use teal_model::fault::{Code, Fault};

const HEADING: [&str; 2] = [
    "Written by `teal adopt containers` from what Docker says of the containers; from here on it is yours.",
    "`teal plan` shows what a deployment would do, `teal deploy` does it.",
];
const SECRET: u32 = 0o600;
const OPEN: u32 = 0o644;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Containers; the service is named after its container, without a color, or as written before the `=`
    #[arg(value_name = "[SERVICE=]CONTAINER", required = true)]
    pub names: Vec<String>,
    /// Show the file and what would be adopted; change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub files: Files,
}

/// What is going to be written, before and after.
#[derive(Debug, Serialize)]
pub struct Proposal {
    pub adoption: Adoption,
    pub file: PathBuf,
    pub compose: String,
    /// Names of the variables in each file that only its owner may read.
    pub secrets: BTreeMap<PathBuf, Vec<String>>,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let files = arguments.files.or(context.before.clone());
    let path = destination(&files)?;
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    let client = context.client()?;
    let asked: Vec<(Option<String>, String)> = arguments.names.iter().map(|word| split(word)).collect();
    let names = asked.iter().map(|(_, name)| name.clone()).collect();
    let described: Vec<DescribedContainer> = client.post("/v1/describe", &DescribeRequest { names }).await?;
    let asked = asked.into_iter().zip(described);
    let asked = asked.map(|((service, _), container)| Asked { service, container }).collect();
    let name = project::name_to_be(&files, &folder)?;
    let gathered = gather(&name, &folder.display().to_string(), asked)?;

    let written = write(&gathered.project, &HEADING);
    let secrets: BTreeMap<PathBuf, String> =
        written.secrets.into_iter().map(|(name, text)| (folder.join(name), text)).collect();
    let project = read_back(&files, &path, &written.compose, &secrets, &gathered)?;
    let request = |dry_run| AdoptRequest {
        project: project.clone(),
        services: Vec::new(),
        containers: Some(gathered.containers.clone()),
        dry_run,
        who: who(),
    };
    let mut adoption: Adoption = client.post("/v1/adopt", &request(true)).await?;
    adoption.left.extend(gathered.left.iter().cloned());
    for service in &mut adoption.services {
        let known = gathered.notes.get(&service.service.service).cloned().unwrap_or_default();
        service.notes.splice(0..0, known);
    }
    let all_there = adoption.services.iter().all(|service| service.already);
    let proposal = Proposal {
        adoption,
        file: path.clone(),
        compose: written.compose,
        secrets: secrets.iter().map(|(path, text)| (path.clone(), variables(text))).collect(),
    };
    if arguments.dry_run || all_there {
        context.out.show(&proposal, adoption::proposal);
        return Ok(0);
    }
    if !context.out.is_json() {
        context.out.text(&adoption::proposal(&proposal, context.out.paint()));
    }
    if !context.global.yes && !confirmed(context, "Write these files and adopt the containers?").await? {
        context.out.note("nothing was written or adopted");
        return Ok(Code::Aborted.exit());
    }
    let mut files: Vec<(&Path, &str, u32)> = secrets.iter().map(|(path, text)| (&**path, &**text, SECRET)).collect();
    files.push((&path, &proposal.compose, OPEN));
    let made = put(&files)?;
    let adopted: Result<Adoption, Fault> = client.post("/v1/adopt", &request(false)).await;
    if adopted.is_err() {
        take_away(&made);
    }
    let proposal = Proposal { adoption: adopted?, ..proposal };
    context.out.show(&proposal, |proposal, _| adoption::taken(proposal));
    Ok(0)
}

/// `SERVICE=CONTAINER`, or a container alone.
fn split(word: &str) -> (Option<String>, String) {
    match word.split_once('=') {
        Some((service, container)) => (Some(service.to_owned()), container.to_owned()),
        None => (None, word.to_owned()),
    }
}

/// `-f`, else `compose.yaml` here, unless the folder has a compose file of its own.
fn destination(files: &Files) -> Result<PathBuf, Fault> {
    let here = project::here()?;
    match files.file.as_slice() {
        [one] => Ok(here.join(one)),
        [] => {
            let there = config::find_file(&here, &|path| path.exists());
            match there.filter(|path| !path.ends_with("compose.yaml")) {
                Some(path) => Err(Fault::new(Code::Usage, format!("{} is here already", path.display()))
                    .hint("go to a folder of its own, or name another file: `-f FILE`")),
                None => Ok(here.join("compose.yaml")),
            }
        }
        _ => Err(Fault::new(Code::Usage, "one file is written, and several are named").hint("name one: `-f FILE`")),
    }
}

/// The project as the file will give it. What it would say otherwise than Docker is a mistake of Teal, found before anything
/// is written.
fn read_back(
    files: &Files,
    path: &Path,
    text: &str,
    secrets: &BTreeMap<PathBuf, String>,
    gathered: &Gathered,
) -> Result<config::Project, Fault> {
    let parsed = project::of_text(files, path, text, secrets).map_err(|problems| {
        Fault::new(Code::Config, "these containers have settings that a compose file cannot hold")
            .detail(problems.iter().map(ToString::to_string).collect())
            .hint("start them without these settings, or write the file by hand and name them there")
    })?;
    for (name, service) in &gathered.project.services {
        let keys = parsed.project.services.get(name).map_or_else(Vec::new, |read| differing(service, read));
        if let Some(key) = keys.first() {
            let what = format!("the file would not say of {name} what Docker says: `{key}`");
            return Err(Fault::new(Code::Internal, what));
        }
    }
    Ok(parsed.project)
}

/// The settings in which two services differ; never their values.
fn differing(one: &Service, other: &Service) -> Vec<String> {
    let shown = |service: &Service| {
        let mut all = BTreeMap::new();
        for (key, value) in serde_json::to_value(service).ok()?.as_object()? {
            match value.as_object().filter(|_| key == "container") {
                Some(inner) => {
                    all.extend(inner.iter().map(|(inner, value)| (format!("container.{inner}"), value.clone())))
                }
                None => drop(all.insert(key.clone(), value.clone())),
            }
        }
        Some(all)
    };
    let (one, other) = (shown(one).unwrap_or_default(), shown(other).unwrap_or_default());
    one.into_iter().filter(|(key, value)| other.get(key) != Some(value)).map(|(key, _)| key).collect()
}

fn variables(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect()
}

/// Writes what is not there yet, and gives back what it wrote. A file that is there with this very text is one that an earlier
/// try left.
fn put(files: &[(&Path, &str, u32)]) -> Result<Vec<PathBuf>, Fault> {
    let mut made = Vec::new();
    for (path, text, mode) in files {
        let opened = OpenOptions::new().write(true).create_new(true).mode(*mode).open(path);
        let written = opened.and_then(|mut file| {
            made.push(path.to_path_buf());
            file.write_all(text.as_bytes())
        });
        let Err(error) = written else { continue };
        if error.kind() == ErrorKind::AlreadyExists && std::fs::read_to_string(path).is_ok_and(|there| there == *text) {
            continue;
        }
        take_away(&made);
        return Err(match error.kind() {
            ErrorKind::AlreadyExists => {
                Fault::new(Code::Usage, format!("{} is there and is different; it is not overwritten", path.display()))
                    .hint("go to a folder of its own, or name another file: `-f FILE`")
            }
            _ => Fault::new(Code::Usage, format!("{} cannot be written: {error}", path.display()))
                .hint("run it where you may write"),
        });
    }
    Ok(made)
}

fn take_away(made: &[PathBuf]) {
    for path in made {
        // What cannot be removed was not there before, and is found by the next try.
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn nothing_is_overwritten_and_nothing_is_left_of_a_failure() {
        let temp = tempfile::tempdir().unwrap();
        let (env, compose) = (temp.path().join("web.env"), temp.path().join("compose.yaml"));
        std::fs::write(&compose, "mine").unwrap();
        let files = [(&*env, "A=b\n", SECRET), (&*compose, "yours", OPEN)];
        assert!(put(&files).unwrap_err().what.contains("not overwritten"));
        assert!(!env.exists());
        assert_eq!(std::fs::read_to_string(&compose).unwrap(), "mine");
        std::fs::write(&compose, "yours").unwrap();
        assert_eq!(put(&files).unwrap(), std::slice::from_ref(&env), "the same text may be there");
        assert_eq!(env.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        take_away(std::slice::from_ref(&env));
        assert!(!env.exists() && compose.exists());
    }

    #[test]
    fn a_difference_is_named_by_its_key_alone() {
        let mut one = Service::default();
        one.container.environment.insert("A".into(), "hunter2".into());
        assert_eq!(differing(&one, &Service::default()), ["container.environment"]);
        assert_eq!(differing(&one, &one), Vec::<String>::new());
    }
}
