//! Finds the compose file, reads it with what belongs to it, and hands it to the parser.

use crate::cli::Files;
use crate::print::words::counted;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use teal_model::config::{self, Problem, Project, SourceFile, Sources};
use teal_model::fault::{Code, Fault};

#[derive(Debug)]
pub struct Loaded {
    /// As shown to people: the files, or the first of them and how many more.
    pub file: String,
    pub project: Project,
    pub warnings: Vec<Problem>,
    /// `.env` below the environment: what a build may be given.
    pub variables: BTreeMap<String, String>,
}

/// The project of the compose files. `services` are those that were named: they bring their profiles along.
///
/// # Errors
/// [`Code::Config`] with every problem as a line of detail; [`Code::NotFound`] when there is no file.
pub fn load(files: &Files, services: &[String]) -> Result<Loaded, Fault> {
    let here = here()?;
    let paths = find(files, &here)?.ok_or_else(|| {
        Fault::new(Code::NotFound, format!("there is no compose file in {} or above it", here.display()))
            .hint("write one with `teal init`, or name one: `-f FILE`")
    })?;
    let texts = Texts::read(files, &paths, &here)?;
    let parsed = texts.parse(files, services).map_err(|problems| invalid(&texts.name(), &problems))?;
    Ok(Loaded {
        file: texts.name(),
        project: parsed.project,
        warnings: parsed.warnings,
        variables: texts.with(files, services, config::variables),
    })
}

/// The project's name alone: `status` and `abort` must work even while the file is being mended. None: no file here, no name.
pub fn name(files: &Files) -> Result<Option<String>, Fault> {
    let variable = std::env::var("COMPOSE_PROJECT_NAME").ok().filter(|name| !name.is_empty());
    let given = files.names.project_name.clone().map(|name| (name, "with -p"));
    if let Some((name, how)) = given.or(variable.map(|name| (name, "by COMPOSE_PROJECT_NAME"))) {
        if !config::is_project_name(&name) {
            let what = format!("`{name}`, given {how}, is not a project name");
            let hint = "a name is lower-case letters, digits, `-` and `_`, and starts with a letter or a digit";
            return Err(Fault::new(Code::Usage, what).hint(hint));
        }
        return Ok(Some(name));
    }
    let here = here()?;
    let Some(paths) = find(files, &here)? else { return Ok(None) };
    let texts = Texts::read(files, &paths, &here)?;
    let written = |(_, text): &(String, String)| text.lines().find(|l| l.starts_with("name:")).map(str::to_owned);
    let written = texts.files.iter().filter_map(written).next_back();
    let stub = format!("{}\nservices: {{any: {{image: any}}}}\n", written.as_deref().unwrap_or_default());
    let stub = Texts { files: vec![(texts.name(), stub)], ..texts.clone() };
    // A whole file is read only where its name is not on a line of its own, or is wrong.
    let quick = if written.is_some() { stub.parse(files, &[]) } else { Err(Vec::new()) };
    let whole = |_| texts.parse(files, &[]).or_else(|problems| stub.parse(files, &[]).map_err(|_| problems));
    match quick.or_else(whole) {
        Ok(parsed) => Ok(Some(parsed.project.name)),
        Err(problems) => Err(invalid(&texts.name(), &problems)),
    }
}

/// The name that a project in this folder has which has no file yet.
pub fn name_to_be(files: &Files, folder: &Path) -> Result<String, Fault> {
    let stub = Texts::unwritten(folder.join("compose.yaml"), "services: {any: {image: any}}\n", BTreeMap::new());
    let parsed = stub.parse(files, &[]).map_err(|problems| invalid("the project", &problems))?;
    Ok(parsed.project.name)
}

/// The project of a file that is not written yet, with those that will stand beside it.
pub fn of_text(
    files: &Files,
    path: &Path,
    text: &str,
    beside: &BTreeMap<PathBuf, String>,
) -> Result<config::Parsed, Vec<Problem>> {
    Texts::unwritten(path.to_owned(), text, beside.clone()).parse(files, &[])
}

/// The fault that lists all problems of a file.
pub fn invalid(file: &str, problems: &[Problem]) -> Fault {
    let what = format!("{file} has {}", counted(problems.len() as u64, "problem"));
    Fault::new(Code::Config, what).detail(problems.iter().map(ToString::to_string).collect())
}

pub fn here() -> Result<PathBuf, Fault> {
    std::env::current_dir()
        .map_err(|error| Fault::new(Code::Usage, format!("the current folder cannot be used: {error}")))
}

/// Those that were named, on the command line or in `COMPOSE_FILE`; else from here upwards, as Compose looks.
fn find(files: &Files, here: &Path) -> Result<Option<Vec<PathBuf>>, Fault> {
    let named = if files.file.is_empty() { from_environment(here) } else { files.file.clone() };
    let mut paths = Vec::new();
    for file in named {
        let path = here.join(&file);
        if !path.is_file() {
            return Err(Fault::new(Code::NotFound, format!("there is no file {}", file.display()))
                .hint("name the compose file: `-f FILE`, or COMPOSE_FILE"));
        }
        paths.push(path);
    }
    if !paths.is_empty() {
        return Ok(Some(paths));
    }
    let exists = |path: &Path| path.is_file();
    Ok(here.ancestors().find_map(|dir| {
        let first = config::find_file(dir, &exists)?;
        Some([first].into_iter().chain(config::find_override(dir, &exists)).collect())
    }))
}

/// `COMPOSE_FILE`, of the process or of `.env` in this folder.
fn from_environment(here: &Path) -> Vec<PathBuf> {
    let environment = environment();
    let dotenv = std::fs::read_to_string(here.join(".env")).ok();
    let variables = config::variables(&Sources {
        files: &[],
        directory: here,
        environment: &environment,
        dotenv: dotenv.as_deref().map(|text| (".env", text)),
        read: &|path| std::fs::read_to_string(path),
        project_name: None,
        profiles: &[],
        services: &[],
    });
    let separator = variables.get("COMPOSE_PATH_SEPARATOR").filter(|text| !text.is_empty()).map_or(":", String::as_str);
    let named = variables.get("COMPOSE_FILE").map(String::as_str).unwrap_or_default();
    named.split(separator).filter(|name| !name.is_empty()).map(PathBuf::from).collect()
}

/// What is not UTF-8 cannot be written into a compose file either.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// What the project is read from, as text.
#[derive(Clone)]
struct Texts {
    /// Name and text of each file.
    files: Vec<(String, String)>,
    directory: PathBuf,
    dotenv: Option<(String, String)>,
    environment: BTreeMap<String, String>,
    /// Files that are to be written: they are read as if they were.
    unwritten: BTreeMap<PathBuf, String>,
}

impl Texts {
    fn unwritten(path: PathBuf, text: &str, beside: BTreeMap<PathBuf, String>) -> Self {
        Self {
            directory: path.parent().unwrap_or(Path::new("/")).to_owned(),
            files: vec![(path.display().to_string(), text.to_owned())],
            dotenv: None,
            environment: environment(),
            unwritten: beside,
        }
    }

    fn read(files: &Files, paths: &[PathBuf], here: &Path) -> Result<Self, Fault> {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let paths: Vec<PathBuf> = paths.iter().map(absolute).collect();
        let directory = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("/")).to_owned();
        let dotenv = match &files.names.env_file {
            Some(file) => Some((file.display().to_string(), text(&here.join(file))?)),
            None => {
                let file = directory.join(".env");
                if file.is_file() { Some((".env".to_owned(), text(&file)?)) } else { None }
            }
        };
        let named = |path: &PathBuf| {
            let name = path.strip_prefix(here).unwrap_or(path).display().to_string();
            text(path).map(|text| (name, text))
        };
        Ok(Self {
            files: paths.iter().map(named).collect::<Result<_, _>>()?,
            directory,
            dotenv,
            environment: environment(),
            unwritten: BTreeMap::new(),
        })
    }

    /// As shown to people.
    fn name(&self) -> String {
        let names: Vec<&str> = self.files.iter().map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    }

    fn with<T>(&self, files: &Files, services: &[String], then: impl FnOnce(&Sources<'_>) -> T) -> T {
        let texts: Vec<SourceFile<'_>> = self.files.iter().map(|(name, text)| SourceFile { name, text }).collect();
        then(&Sources {
            files: &texts,
            directory: &self.directory,
            environment: &self.environment,
            dotenv: self.dotenv.as_ref().map(|(name, text)| (name.as_str(), text.as_str())),
            read: &|path| match self.unwritten.get(path) {
                Some(text) => Ok(text.clone()),
                None => std::fs::read_to_string(path),
            },
            project_name: files.names.project_name.as_deref(),
            profiles: &files.names.profile,
            services,
        })
    }

    fn parse(&self, files: &Files, services: &[String]) -> Result<config::Parsed, Vec<Problem>> {
        self.with(files, services, config::parse)
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
            files: &[SourceFile { name: "compose.yaml", text: &format!("name: shop\nservices:\n{lines}") }],
            profiles: &[],
            services: &[],
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
        Files { file: vec![temp.path().join(name)], ..Files::default() }
    }

    #[test]
    fn a_file_is_read_with_the_env_file_beside_it() {
        let temp = folder(&[
            ("compose.yaml", "name: shop\nservices: {web: {image: 'app:${TEAL_TEST_TAG}'}}\n"),
            (".env", "TEAL_TEST_TAG=1.4\n"),
        ]);
        assert_eq!(load(&of(&temp, "compose.yaml"), &[]).unwrap().project.services["web"].container.image, "app:1.4");
        std::fs::write(temp.path().join("other.env"), "TEAL_TEST_TAG=1.5\n").unwrap();
        let mut files = of(&temp, "compose.yaml");
        files.names.env_file = Some(temp.path().join("other.env"));
        assert_eq!(load(&files, &[]).unwrap().project.services["web"].container.image, "app:1.5");
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let temp = folder(&[(
            "compose.yaml",
            "name: shop\nservices:\n  web:\n    prots: ['80:80']\n    image: app\n    enviroment: {}\n",
        )]);
        let fault = load(&of(&temp, "compose.yaml"), &[]).unwrap_err();
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
        assert_eq!(load(&of(&temp, "compose.yaml"), &[]).unwrap_err().code, Code::NotFound);
        assert_eq!(find(&Files::default(), Path::new("/proc/self")).unwrap(), None);
    }

    #[test]
    fn the_file_is_looked_for_upwards() {
        let temp = folder(&[("compose.yml", "")]);
        std::fs::create_dir_all(temp.path().join("a/b")).unwrap();
        assert_eq!(
            find(&Files::default(), &temp.path().join("a/b")).unwrap(),
            Some(vec![temp.path().join("compose.yml")])
        );
    }

    #[test]
    fn an_override_file_beside_it_goes_over_it_unless_files_are_named() {
        let temp = folder(&[
            ("compose.yaml", "name: shop\nservices: {web: {image: 'app:1', user: one}}\n"),
            ("compose.override.yaml", "services: {web: {image: 'app:2'}}\n"),
            ("prod.yaml", "services: {web: {image: 'app:3'}}\n"),
        ]);
        let found = find(&Files::default(), temp.path()).unwrap().unwrap();
        assert_eq!(found, [temp.path().join("compose.yaml"), temp.path().join("compose.override.yaml")]);
        let image = |names: &[&str]| {
            let file = names.iter().map(|name| temp.path().join(name)).collect();
            let project = load(&Files { file, ..Files::default() }, &[]).unwrap().project;
            let web = project.services["web"].container.clone();
            (web.image, web.user)
        };
        let one = Some("one".to_owned());
        assert_eq!(image(&["compose.yaml"]), ("app:1".to_owned(), one.clone()));
        assert_eq!(image(&["compose.yaml", "compose.override.yaml"]), ("app:2".to_owned(), one.clone()));
        assert_eq!(image(&["compose.yaml", "prod.yaml"]), ("app:3".to_owned(), one));
    }

    #[test]
    fn compose_file_in_dotenv_names_the_files() {
        let temp = folder(&[("a.yaml", ""), ("b.yaml", ""), (".env", "COMPOSE_FILE=a.yaml:b.yaml\n")]);
        let found = find(&Files::default(), temp.path()).unwrap().unwrap();
        assert_eq!(found, [temp.path().join("a.yaml"), temp.path().join("b.yaml")]);
    }
}
