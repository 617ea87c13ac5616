//! The command line, as clap reads it: what is common to all verbs; each verb has its own arguments beside its code.

use crate::verb;
use clap::{Args, Command, CommandFactory, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::str::FromStr;

/// Deploys a new version of a containerised service without a failed request, and takes it back just as fast.
#[derive(Debug, Parser)]
#[command(name = "teal", version, arg_required_else_help = true, subcommand_required = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(flatten)]
    pub files: Files,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Where the agent keeps its journal and logs [default: /var/lib/teal, or ~/.local/state/teal for a user]
    #[arg(long, global = true, env = "TEAL_STATE_DIR", hide_env_values = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where the agent's socket is [default: /run/teal, or $XDG_RUNTIME_DIR/teal for a user]
    #[arg(long, global = true, env = "TEAL_RUN_DIR", hide_env_values = true, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// For people, or one JSON value a line for programs
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    pub output: Output,
    /// Do not ask
    #[arg(short, long, global = true)]
    pub yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// Which project. Taken before the verb as well as after it, as Compose does.
#[derive(Debug, Clone, Default, Args)]
pub struct Files {
    /// A compose file; each further one goes over those before it [default: COMPOSE_FILE, or compose.yaml with its
    /// override file, looked for from here upwards]
    #[arg(short, long, value_name = "FILE")]
    pub file: Vec<PathBuf>,
    #[command(flatten)]
    pub names: Names,
}

/// `teal logs` has a `-f` of its own, so there the compose file has the long form only.
#[derive(Debug, Clone, Default, Args)]
pub struct LongFiles {
    /// A compose file; each further one goes over those before it [default: COMPOSE_FILE, or compose.yaml with its
    /// override file, looked for from here upwards]
    #[arg(long, value_name = "FILE")]
    pub file: Vec<PathBuf>,
    #[command(flatten)]
    pub names: Names,
}

#[derive(Debug, Clone, Default, Args)]
pub struct Names {
    /// The project's name [default: COMPOSE_PROJECT_NAME, `name:` in the file, or its folder's name]
    #[arg(short, long, value_name = "NAME")]
    pub project_name: Option<String>,
    /// Read variables from this file instead of `.env`
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Services with this profile, too; repeatable, `*` for all; beside those of COMPOSE_PROFILES
    #[arg(long, value_name = "NAME")]
    pub profile: Vec<String>,
}

impl From<LongFiles> for Files {
    fn from(long: LongFiles) -> Self {
        Self { file: long.file, names: long.names }
    }
}

impl Files {
    /// What is written after the verb wins over what is written before it.
    pub fn or(self, before: Files) -> Files {
        Files {
            file: if self.file.is_empty() { before.file } else { self.file },
            names: Names {
                project_name: self.names.project_name.or(before.names.project_name),
                env_file: self.names.env_file.or(before.names.env_file),
                profile: [before.names.profile, self.names.profile].concat(),
            },
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a commented compose.yaml, or say what to add to the one that is here
    Init(verb::init::Arguments),
    /// Read the compose file and list everything that is wrong with it
    Check(verb::check::Arguments),
    /// Show what a deployment would do, and why; change nothing
    Plan(verb::plan::Arguments),
    /// Deploy the project, or some of its services, and follow it to its end
    Deploy(verb::deploy::Arguments),
    /// Go back to the release before, or take back the deployment that runs
    Rollback(verb::rollback::Arguments),
    /// Take back the deployment that runs
    Abort(verb::running::Running),
    /// Let a canary take its next step now, or end a bake: the candidate goes live
    Promote(verb::promote::Arguments),
    /// Let a canary stay at the share it has, and a bake go on
    Freeze(verb::running::Running),
    /// Take over the containers that `docker compose up` started, without a restart
    Adopt(verb::adopt::Arguments),
    /// Take ports over from nginx, or another process of this host, with no moment in which they are closed
    Takeover(verb::takeover::Arguments),
    /// Remove services: containers, networks and routes, never named volumes
    Remove(verb::remove::Arguments),
    /// Remove the images of releases that nobody can go back to any more
    Prune(verb::prune::Arguments),
    /// Show what serves, from where, and how it does
    Status(verb::status::Arguments),
    /// List deployments, newest first
    History(verb::history::Arguments),
    /// Show one deployment: its receipt, steps, images and failures
    Show(verb::show::Arguments),
    /// Print the containers' output
    Logs(verb::logs::Arguments),
    /// Run a command in a container of the live release
    Exec(verb::exec::Arguments),
    /// Start the agent and the proxy on this host
    Up(verb::up::Arguments),
    /// End the agent; the proxy goes on serving
    Down(verb::down::Arguments),
    /// Print the completion script of a shell
    Completions(verb::completions::Arguments),
    /// The agent itself; `teal up` starts it
    #[command(hide = true)]
    Agent(verb::agent::Arguments),
    /// The proxy itself; the agent starts it
    #[command(hide = true)]
    Proxy(verb::proxy::Arguments),
}

/// Reads a number. What is none is told what is meant, and not what a parser of numbers has to say.
pub fn number<T: FromStr>(meant: &'static str) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| text.parse().map_err(|_| format!("it is not {meant}"))
}

/// What people see: without what only Teal calls of itself.
pub fn shown() -> Command {
    let all = Cli::command();
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    let shown = Command::new("teal").version(env!("CARGO_PKG_VERSION")).args(all.get_arguments().cloned());
    shown.subcommands(verbs.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_does_not_contradict_itself() {
        Cli::command().debug_assert();
    }

    fn manual(page: &str) -> String {
        std::fs::read_to_string(format!("{}/../../docs/{page}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn the_manual_names_every_verb_flag_and_exit_code() {
        let text = manual("cli.md");
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let heading = format!("\n## teal {}", verb.get_name());
            let section = text.split(&heading).nth(1).unwrap_or_else(|| panic!("docs/cli.md has no section{heading}"));
            let section = section.split("\n## ").next().unwrap_or_default();
            for flag in verb
                .get_arguments()
                .filter(|argument| !argument.is_hide_set())
                .filter_map(|argument| argument.get_long())
            {
                let common = ["file", "project-name", "env-file", "profile", "help", "version"].contains(&flag);
                assert!(common || section.contains(&format!("--{flag}")), "{heading} says nothing of --{flag}");
            }
        }
        for flag in Cli::command().get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(text.contains(&format!("`--{flag}")), "docs/cli.md says nothing of --{flag}");
        }
        for code in teal_model::fault::Code::ALL {
            assert!(
                text.contains(&format!("\n| {} |", code.exit())),
                "docs/cli.md says nothing of exit code {}",
                code.exit()
            );
        }
    }

    #[test]
    fn the_list_of_errors_is_the_codes_own() {
        let path = format!("{}/../../docs/errors.md", env!("CARGO_MANIFEST_DIR"));
        crate::print::golden_at(&path, &crate::print::fault::manual());
    }

    #[test]
    fn the_file_may_stand_before_or_after_the_verb() {
        for line in [["teal", "-f", "a.yaml", "check"], ["teal", "check", "-f", "a.yaml"]] {
            let cli = Cli::try_parse_from(line).unwrap();
            let Verb::Check(arguments) = cli.verb else { panic!("{line:?}") };
            assert_eq!(arguments.files.or(cli.files).file, [PathBuf::from("a.yaml")], "{line:?}");
        }
    }

    #[test]
    fn f_follows_in_logs_and_names_the_file_elsewhere() {
        let cli = Cli::try_parse_from(["teal", "-f", "a.yaml", "logs", "-f", "web"]).unwrap();
        let Verb::Logs(arguments) = cli.verb else { panic!() };
        assert!(arguments.follow);
        assert_eq!(arguments.service.as_deref(), Some("web"));
        assert_eq!(cli.files.file, [PathBuf::from("a.yaml")]);
    }

    #[test]
    fn files_and_profiles_are_given_several_times() {
        let line = ["teal", "--profile", "a", "check", "-f", "a.yaml", "-f", "b.yaml", "--profile", "b"];
        let cli = Cli::try_parse_from(line).unwrap();
        let Verb::Check(arguments) = cli.verb else { panic!() };
        let files = arguments.files.or(cli.files);
        assert_eq!(files.file, [PathBuf::from("a.yaml"), PathBuf::from("b.yaml")]);
        assert_eq!(files.names.profile, ["a", "b"]);
    }

    #[test]
    fn what_follows_the_service_belongs_to_the_command() {
        let cli = Cli::try_parse_from(["teal", "exec", "web", "--", "ls", "-y", "--output"]).unwrap();
        let Verb::Exec(arguments) = cli.verb else { panic!() };
        assert_eq!(arguments.command, ["ls", "-y", "--output"]);
        assert!(!cli.global.yes);
        let cli = Cli::try_parse_from(["teal", "exec", "-T", "web", "ls", "-y", "--replica"]).unwrap();
        let Verb::Exec(arguments) = cli.verb else { panic!() };
        assert_eq!(
            (arguments.no_tty, arguments.command),
            (true, ["ls", "-y", "--replica"].map(str::to_owned).to_vec())
        );
        assert!(!cli.global.yes);
    }
}
