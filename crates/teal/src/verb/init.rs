//! `teal init`: a first compose file, or what to add to the one that is here; the unit file for systemd.

use crate::dirs::Dirs;
use crate::verb::Context;
use clap::Args;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use teal_model::config;
use teal_model::fault::{Code, Fault};

/// What `teal init` writes.
pub const EXAMPLE: &str = include_str!("init/compose.yaml");
/// What it says to add.
const ADDITION: &str = include_str!("init/addition.yaml");
const UNIT: &str = include_str!("init/teal-agent.service");
const UNIT_NAME: &str = "teal-agent.service";
const UNIT_DIR: &str = "/etc/systemd/system";

#[derive(Debug, Args)]
pub struct Arguments {
    /// Print the systemd unit of the agent instead
    #[arg(long)]
    pub systemd: bool,
    /// With --systemd: write it to /etc/systemd/system
    #[arg(long, requires = "systemd")]
    pub write: bool,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<u8, Fault> {
    if arguments.systemd {
        return systemd(context, arguments.write);
    }
    let here = PathBuf::from(".");
    if let Some(file) = config::find_file(&here, &|path| path.exists()) {
        context.out.note(&format!(
            "{} is here already and stays as it is. Teal takes it unchanged; `teal check` tells if it does.",
            shown(&file)
        ));
        context.out.note("What Compose has no word for goes under `x-teal`, for example:\n");
        context.out.text(ADDITION);
        return Ok(0);
    }
    let path = here.join("compose.yaml");
    write_new(&path, EXAMPLE)?;
    context.out.text("wrote compose.yaml; put your image into it, then `teal check`, `teal up --detach` (once a host) and `teal deploy`");
    Ok(0)
}

fn systemd(context: &Context, write: bool) -> Result<u8, Fault> {
    let program = std::env::current_exe()
        .map_err(|error| Fault::new(Code::Internal, format!("this program cannot be found again: {error}")))?;
    let unit = unit(&program, &context.dirs()?);
    if !write {
        context.out.text(&unit);
        return Ok(0);
    }
    let path = Path::new(UNIT_DIR).join(UNIT_NAME);
    if std::fs::read_to_string(&path).is_ok_and(|there| there == unit) {
        context.out.text(&format!("{} is here already", path.display()));
        return Ok(0);
    }
    write_new(&path, &unit)?;
    context.out.text(&format!(
        "wrote {}; start it with `systemctl daemon-reload && systemctl enable --now {UNIT_NAME}`",
        path.display()
    ));
    Ok(0)
}

/// systemd makes the usual directories; others are their owner's to make.
fn unit(program: &Path, dirs: &Dirs) -> String {
    let usual = dirs.state == Path::new("/var/lib/teal") && dirs.run == Path::new("/run/teal");
    let kept = UNIT.lines().filter(|line| {
        usual
            || !(line.starts_with("StateDirectory")
                || line.starts_with("RuntimeDirectory")
                || line.contains("socket is in it"))
    });
    let unit: String = kept.map(|line| format!("{line}\n")).collect();
    unit.replace("@PROGRAM@", &program.display().to_string())
        .replace("@STATE@", &dirs.state.display().to_string())
        .replace("@RUN@", &dirs.run.display().to_string())
}

/// Never over something that is there.
fn write_new(path: &Path, text: &str) -> Result<(), Fault> {
    let written =
        OpenOptions::new().write(true).create_new(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Fault::new(Code::Usage, format!("{} is there and is different; it is not overwritten", path.display()))
                .hint("move it away, or print the new one and compare: leave out --write")
        }
        _ => Fault::new(Code::Usage, format!("{} cannot be written: {error}", path.display()))
            .hint("run it where you may write"),
    })
}

fn shown(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use teal_model::config::{SourceFile, Sources, parse};

    fn parsed(text: &str) -> Vec<String> {
        let sources = Sources {
            files: &[SourceFile { name: "compose.yaml", text }],
            profiles: &[],
            services: &[],
            directory: Path::new("/srv/shop"),
            environment: &BTreeMap::new(),
            dotenv: None,
            read: &|path| std::fs::read_to_string(path),
            project_name: None,
        };
        match parse(&sources) {
            Ok(parsed) => parsed.warnings.iter().map(ToString::to_string).collect(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn what_init_writes_is_a_project() {
        assert_eq!(parsed(EXAMPLE), Vec::<String>::new());
    }

    #[test]
    fn every_commented_setting_of_the_example_is_one() {
        let (above, below) = EXAMPLE.split_once("    # x-teal:").unwrap();
        let uncommented = format!("{above}    x-teal:{}", below.replace("\n    # ", "\n    "));
        assert_eq!(parsed(&uncommented), Vec::<String>::new());
        assert_eq!(parsed(ADDITION), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_overwritten() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("compose.yaml");
        write_new(&path, "mine").unwrap();
        assert_eq!(write_new(&path, "yours").unwrap_err().code, Code::Usage);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn the_unit_keeps_the_proxy_and_its_socket_over_a_restart() {
        let dirs = Dirs { state: "/var/lib/teal".into(), run: "/run/teal".into() };
        let unit = unit(Path::new("/usr/local/bin/teal"), &dirs);
        crate::print::golden("teal-agent.service", &unit);
        for line in ["KillMode=process", "RuntimeDirectoryPreserve=yes", "OOMPolicy=continue"] {
            assert!(unit.lines().any(|there| there == line), "{line}");
        }
        let dirs = Dirs { state: "/srv/state".into(), run: "/srv/run".into() };
        let unit = super::unit(Path::new("/usr/local/bin/teal"), &dirs);
        assert!(unit.contains("--state-dir /srv/state --run-dir /srv/run") && !unit.contains("Directory="), "{unit}");
    }
}
