//! Finds the compose file, reads it with what belongs to it, and hands it to the parser.

use crate::cli::Files;
use crate::print::words::counted;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use teal_model::config::{self, Problem, Project, Sources};
use teal_model::fault::{Code, Fault};

#[derive(Debug)]
pub struct Loaded {
    /// As shown to people.
    pub file: String,
    pub project: Project,
    pub warnings: Vec<Problem>,
}

/// The project of the compose file.
///
/// # Errors
/// [`Code::Config`] with every problem as a line of detail; [`Code::NotFound`] when there is no file.
pub fn load(files: &Files) -> Result<Loaded, Fault> {
    let here = here()?;
    let path = find(files, &here)?.ok_or_else(|| {
        Fault::new(Code::NotFound, format!("there is no compose file in {} or above it", here.display()))
            .hint("write one with `teal init`, or name one: `-f FILE`")
    })?;
    let texts = Texts::read(files, &path, &here)?;
    let parsed = texts.parse(&texts.text, files).map_err(|problems| invalid(&texts.name, &problems))?;
    let mut warnings = parsed.warnings;
    warnings.extend(files.file.is_none().then(|| ignored_override(&texts.directory)).flatten());
    Ok(Loaded { file: texts.name, project: parsed.project, warnings })
}

/// The project's name alone: `status` and `abort` must work even while the file is being mended. None: no file here, no name.
pub fn name(files: &Files) -> Result<Option<String>, Fault> {
    if let Some(name) = &files.names.project_name {
        return Ok(Some(name.clone()));
    }
    let here = here()?;
    let Some(path) = find(files, &here)? else {
        return Ok(std::env::var("COMPOSE_PROJECT_NAME").ok().filter(|name| !name.is_empty()));
    };
    let texts = Texts::read(files, &path, &here)?;
    let written = texts.text.lines().find(|line| line.starts_with("name:")).unwrap_or_default();
    let stub = format!("{written}\nservices: {{any: {{image: any}}}}\n");
    match texts.parse(&texts.text, files).or_else(|problems| texts.parse(&stub, files).map_err(|_| problems)) {
        Ok(parsed) => Ok(Some(parsed.project.name)),
        Err(problems) => Err(invalid(&texts.name, &problems)),
    }
}

/// The fault that lists all problems of a file.
pub fn invalid(file: &str, problems: &[Problem]) -> Fault {
    let what = format!("{file} has {}", counted(problems.len() as u64, "problem"));
    Fault::new(Code::Config, what).detail(problems.iter().map(ToString::to_string).collect())
}

fn here() -> Result<PathBuf, Fault> {
    std::env::current_dir()
        .map_err(|error| Fault::new(Code::Usage, format!("the current folder cannot be used: {error}")))
}

/// From here upwards, as Compose looks.
fn find(files: &Files, here: &Path) -> Result<Option<PathBuf>, Fault> {
    if let Some(file) = &files.file {
        let path = here.join(file);
        return match path.is_file() {
            true => Ok(Some(path)),
            false => Err(Fault::new(Code::NotFound, format!("there is no file {}", file.display()))
                .hint("name the compose file: `-f FILE`")),
        };
    }
    Ok(here.ancestors().find_map(|dir| config::find_file(dir, &|path| path.is_file())))
}

fn ignored_override(directory: &Path) -> Option<Problem> {
    let path = config::find_override(directory, &|path| path.is_file())?;
    Some(Problem {
        file: path.file_name()?.to_string_lossy().into_owned(),
        line: 0,
        column: 0,
        key: String::new(),
        what: "Compose would merge this file in; Teal does not read it".to_owned(),
        hint: Some("Write what the server needs into one file, and name it: `-f FILE`.".to_owned()),
    })
}

/// What the project is read from, as text.
struct Texts {
    name: String,
    text: String,
    directory: PathBuf,
    dotenv: Option<(String, String)>,
    environment: BTreeMap<String, String>,
}

impl Texts {
    fn read(files: &Files, path: &Path, here: &Path) -> Result<Self, Fault> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let directory = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        let dotenv = match &files.names.env_file {
            Some(file) => Some((file.display().to_string(), text(&here.join(file))?)),
            None => {
                let file = directory.join(".env");
                if file.is_file() { Some((".env".to_owned(), text(&file)?)) } else { None }
            }
        };
        Ok(Self {
            name: absolute.strip_prefix(here).unwrap_or(&absolute).display().to_string(),
            text: text(&absolute)?,
            directory,
            dotenv,
            // What is not UTF-8 cannot be written into a compose file either.
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        })
    }

    fn parse(&self, text: &str, files: &Files) -> Result<config::Parsed, Vec<Problem>> {
        config::parse(&Sources {
            file_name: &self.name,
            text,
            directory: &self.directory,
            environment: &self.environment,
            dotenv: self.dotenv.as_ref().map(|(name, text)| (name.as_str(), text.as_str())),
            read: &|path| std::fs::read_to_string(path),
            project_name: files.names.project_name.as_deref(),
        })
    }
}

fn text(path: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(path).map_err(|error| {
        Fault::new(Code::Config, format!("{} cannot be read: {error}", path.display()))
            .hint("see that it is a text file that this user may read")
    })
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// Services of these names, each with the image `NAME:1`.
    pub fn project(services: &[&str]) -> Project {
        let lines: String = services.iter().map(|name| format!("  {name}: {{image: '{name}:1'}}\n")).collect();
        let (environment, directory) = (BTreeMap::new(), PathBuf::from("/srv/shop"));
        let sources = Sources {
            file_name: "compose.yaml",
            text: &format!("name: shop\nservices:\n{lines}"),
            directory: &directory,
            environment: &environment,
            dotenv: None,
            read: &|path| std::fs::read_to_string(path),
            project_name: None,
        };
        config::parse(&sources).unwrap().project
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(temp.path().join(name), text).unwrap();
        }
        temp
    }

    fn of(temp: &tempfile::TempDir, name: &str) -> Files {
        Files { file: Some(temp.path().join(name)), ..Files::default() }
    }

    #[test]
    fn a_file_is_read_with_the_env_file_beside_it() {
        let temp = folder(&[
            ("compose.yaml", "name: shop\nservices: {web: {image: 'app:${TEAL_TEST_TAG}'}}\n"),
            (".env", "TEAL_TEST_TAG=1.4\n"),
        ]);
        assert_eq!(load(&of(&temp, "compose.yaml")).unwrap().project.services["web"].container.image, "app:1.4");
        std::fs::write(temp.path().join("other.env"), "TEAL_TEST_TAG=1.5\n").unwrap();
        let mut files = of(&temp, "compose.yaml");
        files.names.env_file = Some(temp.path().join("other.env"));
        assert_eq!(load(&files).unwrap().project.services["web"].container.image, "app:1.5");
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let temp = folder(&[(
            "compose.yaml",
            "name: shop\nservices:\n  web:\n    prots: ['80:80']\n    image: app\n    enviroment: {}\n",
        )]);
        let fault = load(&of(&temp, "compose.yaml")).unwrap_err();
        assert_eq!((fault.code, fault.detail.len()), (Code::Config, 2), "{fault:?}");
    }

    #[test]
    fn a_broken_file_still_names_its_project() {
        let temp = folder(&[("compose.yaml", "name: shop\nservices:\n  web: {prots: ['80:80']}\n")]);
        assert_eq!(name(&of(&temp, "compose.yaml")).unwrap(), Some("shop".to_owned()));
        let mut files = of(&temp, "compose.yaml");
        files.names.project_name = Some("other".to_owned());
        assert_eq!(name(&files).unwrap(), Some("other".to_owned()));
    }

    #[test]
    fn a_file_that_is_not_there_is_said_to_be_missing() {
        let temp = folder(&[]);
        assert_eq!(load(&of(&temp, "compose.yaml")).unwrap_err().code, Code::NotFound);
        assert_eq!(find(&Files::default(), Path::new("/proc/self")).unwrap(), None);
    }

    #[test]
    fn the_file_is_looked_for_upwards() {
        let temp = folder(&[("compose.yml", "")]);
        std::fs::create_dir_all(temp.path().join("a/b")).unwrap();
        assert_eq!(find(&Files::default(), &temp.path().join("a/b")).unwrap(), Some(temp.path().join("compose.yml")));
    }

    #[test]
    fn an_override_file_that_compose_would_merge_is_warned_of() {
        let temp = folder(&[("compose.override.yaml", "")]);
        assert!(
            ignored_override(temp.path())
                .unwrap()
                .to_string()
                .starts_with("compose.override.yaml: Compose would merge")
        );
    }
}
