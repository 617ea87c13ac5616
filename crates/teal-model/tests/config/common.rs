//! A project out of strings.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use teal_model::config::{Parsed, Problem, Service, SourceFile, Sources, parse};

#[derive(Default)]
pub struct Input<'a> {
    pub text: &'a str,
    pub environment: &'a [(&'a str, &'a str)],
    pub dotenv: Option<&'a str>,
    /// Path below `/srv/shop`, text.
    pub files: &'a [(&'a str, &'a str)],
    pub project_name: Option<&'a str>,
    pub directory: Option<&'a str>,
    /// Further `-f` files: name, text.
    pub over: &'a [(&'a str, &'a str)],
    pub profiles: &'a [&'a str],
    pub services: &'a [&'a str],
}

impl Input<'_> {
    pub fn read(&self) -> Result<Parsed, Vec<Problem>> {
        let environment: BTreeMap<String, String> =
            self.environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let read = |path: &Path| {
            let found = self.files.iter().find(|(name, _)| path == Path::new("/srv/shop").join(name));
            match found {
                Some((_, "denied")) => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
                Some((_, text)) => Ok((*text).to_owned()),
                None => Err(io::Error::from(io::ErrorKind::NotFound)),
            }
        };
        let mut files = vec![SourceFile { name: "compose.yaml", text: self.text }];
        files.extend(self.over.iter().map(|(name, text)| SourceFile { name, text }));
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        parse(&Sources {
            files: &files,
            profiles: &owned(self.profiles),
            services: &owned(self.services),
            directory: Path::new(self.directory.unwrap_or("/srv/shop")),
            environment: &environment,
            dotenv: self.dotenv.map(|text| (".env", text)),
            read: &read,
            project_name: self.project_name,
        })
    }

    pub fn ok(&self) -> Parsed {
        self.read().unwrap_or_else(|problems| panic!("{}\n{}", self.text, show(&problems)))
    }

    pub fn fail(&self) -> String {
        match self.read() {
            Ok(parsed) => panic!("{}\n{:#?}", self.text, parsed.project),
            Err(problems) => show(&problems),
        }
    }
}

pub fn show(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("{p}\n")).collect()
}

pub fn file(text: &str) -> Input<'_> {
    Input { text, ..Input::default() }
}

/// A file whose service `web` has these lines beside its image; `more` follows at the top level.
pub fn web_and(lines: &str, more: &str) -> String {
    let indented: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("services:\n  web:\n    image: app:1\n{indented}{more}")
}

pub fn web(lines: &str) -> Service {
    file(&web_and(lines, "")).ok().project.services["web"].clone()
}

pub fn web_problems(lines: &str) -> String {
    file(&web_and(lines, "")).fail()
}

pub fn web_warnings(lines: &str) -> String {
    show(&file(&web_and(lines, "")).ok().warnings)
}

/// Each pair: lines of the service, and what one of its problems must say.
pub fn each_is_refused(cases: &[(&str, &str)]) {
    for (lines, want) in cases {
        let problems = web_problems(lines);
        assert!(problems.contains(want), "{lines}\nwants: {want}\nsays:  {problems}");
    }
}
