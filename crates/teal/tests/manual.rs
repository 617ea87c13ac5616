//! What the manual and the examples tell people to write is right.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn check(file: &Path) -> Result<(), String> {
    let ran = Command::new(env!("CARGO_BIN_EXE_teal")).arg("check").arg("-f").arg(file).output().unwrap();
    if ran.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ran.stderr).into_owned()) }
}

fn named(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

#[test]
fn every_example_is_a_project() {
    let mut files = named(&root().join("examples"), ".yaml");
    files.push(root().join("examples/project/compose.yaml"));
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        check(&file).unwrap();
    }
}

/// The blocks of a page that are whole or part of a compose file, with the line that they begin at.
fn snippets(page: &str) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    let mut block: Option<(usize, String)> = None;
    for (at, line) in page.lines().enumerate() {
        match (&mut block, line) {
            (None, "```yaml") => block = Some((at + 1, String::new())),
            (Some(_), "```") => all.extend(block.take()),
            (Some((_, text)), line) => text.push_str(&format!("{line}\n")),
            (None, _) => {}
        }
    }
    all
}

/// A snippet that adds to a file leaves out what the file has already: a service gets an image and a port.
fn completed(snippet: &str) -> String {
    let mut text = String::new();
    if !snippet.lines().any(|line| line.starts_with("services:")) {
        text.push_str("services: {web: {image: app}}\n");
    }
    let (mut inside, mut services) = (false, Vec::new());
    for line in snippet.lines() {
        inside = if line.starts_with(|c: char| !c.is_whitespace() && c != '#') {
            line.starts_with("services:")
        } else {
            inside
        };
        text.push_str(&format!("{line}\n"));
        let name = line.strip_prefix("  ").filter(|rest| inside && !rest.starts_with([' ', '#']));
        if let Some(name) = name.and_then(|rest| rest.trim_end().strip_suffix(':')) {
            services.push(name.to_owned());
        }
    }
    // A second file goes under the snippet, so that the snippet says what it says.
    let service = |(at, name): (usize, &String)| format!("  {name}: {{image: app, ports: ['{}:80']}}\n", 9000 + at);
    let under: String = services.iter().enumerate().map(service).collect();
    if services.is_empty() { text } else { format!("{text}---8<---\nservices:\n{under}") }
}

#[test]
fn every_compose_file_of_the_manual_is_one() {
    let mut pages = named(&root().join("docs"), ".md");
    pages.extend(named(&root().join("docs/decisions"), ".md"));
    pages.extend([root().join("README.md"), root().join("examples/README.md")]);
    let mut seen = 0;
    for page in pages {
        for (line, snippet) in snippets(&std::fs::read_to_string(&page).unwrap()) {
            let temp = tempfile::tempdir().unwrap();
            let text = completed(&snippet);
            let (over, under) = text.split_once("---8<---\n").unwrap_or((&text, "services: {}\n"));
            std::fs::write(temp.path().join("under.yaml"), under).unwrap();
            std::fs::write(temp.path().join("compose.yaml"), over).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_teal"));
            command.current_dir(temp.path()).args(["check", "-p", "shop", "-f", "under.yaml", "-f", "compose.yaml"]);
            command.env("PREVIEW_TOKEN", "0123456789abcdef");
            let ran = command.output().unwrap();
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(ran.status.success(), "{}:{line}\n{snippet}\n{said}", page.display());
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen} snippets");
}
