//! A command line that cannot be read, and what to type instead: also for those who type as other tools taught them.

use crate::cli::Cli;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};
use std::ffi::OsString;
use teal_model::fault::{Code, Fault, did_you_mean};

/// Verbs of Compose, Kamal, kubectl, Nomad and others, and what they are here.
const OTHERS: &[(&[&str], &str)] = &[
    (&["ps", "ls", "list", "top", "stats", "info", "services", "containers"], "`teal status` shows what serves"),
    (
        &["start", "restart", "reload", "redeploy", "boot"],
        "`teal deploy --force SERVICE` starts it anew without a failed request",
    ),
    (
        &["stop", "rm", "kill", "delete", "destroy"],
        "`teal remove SERVICE` takes a service away, and keeps its named volumes",
    ),
    (
        &["undo", "revert", "back", "rollout"],
        "`teal rollback` goes back to the release before, or takes back what is being deployed",
    ),
    (&["cancel"], "`teal abort` takes back the deployment that runs"),
    (&["continue", "resume", "unpause"], "`teal promote` lets a canary take its next step"),
    (&["pause", "hold", "halt"], "`teal freeze` lets a canary stay at the share it has"),
    (
        &["apply", "release", "ship", "create", "update", "upgrade", "push", "pull"],
        "`teal deploy` pulls the images and deploys the project",
    ),
    (&["build"], "`teal deploy --build` builds the images and deploys them"),
    (
        &["run", "sh", "ssh", "shell", "bash", "console"],
        "`teal exec SERVICE COMMAND` runs a command in a container of the live release",
    ),
    (&["config", "convert", "validate", "lint"], "`teal check` lists what is wrong with the compose file"),
    (&["diff", "preview"], "`teal plan` shows what a deployment would do"),
    (&["tail", "events", "attach"], "`teal logs --follow` prints what the containers say"),
    (
        &["images", "releases", "versions", "revisions", "deployments"],
        "`teal history` lists deployments; `teal show N` names the images of one",
    ),
    (&["scale"], "write `deploy.replicas` in the compose file, then `teal deploy`"),
    (&["clean", "cleanup", "gc"], "`teal prune` removes images that nobody can go back to any more"),
    (
        &["setup", "install", "daemon", "serve", "server", "bootstrap"],
        "`teal up --detach` starts the agent and the proxy; `teal init --systemd` writes a unit for it",
    ),
    (&["login"], "`docker login`: Teal uses what Docker knows of registries"),
    (&["version"], "`teal --version` prints it"),
];

/// Whether an answer in JSON was asked for, of a command line that cannot be read as a whole.
pub fn wants_json(words: &[OsString]) -> bool {
    let words: Vec<&OsString> = words.iter().take_while(|word| *word != "--").collect();
    let split = words.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json");
    split || words.iter().any(|word| *word == "--output=json")
}

/// What clap has to say, as every other fault: its first line, and its tips below.
pub fn fault(error: &clap::Error, words: &[OsString]) -> Fault {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return no_verb_named();
    }
    if let Some(fault) = unknown(error, words) {
        return fault;
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let what = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let rest = lines.filter(|line| !line.starts_with("For more information")).map(str::to_owned);
    Fault::new(Code::Usage, what).detail(rest.collect())
}

/// A verb that is missing, a verb or a flag that there is not. None: something else is wrong, and clap says it well.
pub fn unknown(error: &clap::Error, words: &[OsString]) -> Option<Fault> {
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::MissingSubcommand => Some(no_verb_named()),
        ErrorKind::InvalidSubcommand => named(ContextKind::InvalidSubcommand).map(no_verb),
        ErrorKind::UnknownArgument => {
            let verb = verb_of(words)?;
            named(ContextKind::InvalidArg).map(|word| no_argument(&verb, word))
        }
        _ => None,
    }
}

fn no_verb_named() -> Fault {
    Fault::new(Code::Usage, "no verb is named").hint("`teal help` lists the verbs")
}

fn no_verb(word: &str) -> Fault {
    if let Some((_, hint)) = OTHERS.iter().find(|(words, _)| words.contains(&word)) {
        return Fault::new(Code::Usage, format!("teal has no verb `{word}`")).hint(*hint);
    }
    let command = Cli::command();
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(Command::get_name);
    let near = did_you_mean(word, verbs);
    Fault::new(Code::Usage, format!("teal has no verb `{word}`{near}")).hint("`teal help` lists the verbs")
}

fn no_argument(verb: &Command, word: &str) -> Fault {
    let name = verb.get_name();
    if !word.starts_with('-') {
        let fault = Fault::new(Code::Usage, format!("`teal {name}` takes no `{word}`"));
        return match name {
            "down" => fault.hint(format!("`teal remove {word}` takes a service away; `teal down` ends the agent")),
            _ => fault.hint(format!("`teal help {name}` says what it takes")),
        };
    }
    let flags: Vec<String> =
        verb.get_arguments().filter_map(|argument| argument.get_long()).map(|long| format!("--{long}")).collect();
    let near = did_you_mean(word, flags.iter().map(String::as_str));
    let fault = Fault::new(Code::Usage, format!("`teal {name}` has no flag `{word}`{near}"));
    match (name, word) {
        ("deploy", "--dry-run") => fault.hint("`teal plan` shows what would be done"),
        ("deploy", "-d" | "--detach") => fault.hint("`teal deploy --no-wait` returns at once"),
        _ => fault.hint(format!("`teal help {name}` lists its flags")),
    }
}

/// The verb of a line, with the flags of all verbs among its own.
fn verb_of(words: &[OsString]) -> Option<Command> {
    let mut command = Cli::command();
    command.build();
    words.iter().skip(1).find_map(|word| command.find_subcommand(word)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn said(line: &[&str]) -> Fault {
        let words: Vec<OsString> = ["teal"].iter().chain(line).map(OsString::from).collect();
        fault(&Cli::try_parse_from(&words).unwrap_err(), &words)
    }

    #[test]
    fn a_habit_from_another_tool_is_told_the_word_for_it_here() {
        for (line, hint) in [
            (&["ps"][..], "`teal status`"),
            (&["stop", "web"], "`teal remove SERVICE`"),
            (&["restart", "web"], "`teal deploy --force SERVICE`"),
            (&["undo"], "`teal rollback`"),
            (&["rollout", "undo", "web"], "`teal rollback`"),
            (&["down", "web"], "`teal remove web`"),
            (&["deploy", "--dry-run"], "`teal plan`"),
            (&["deploy", "-d"], "`teal deploy --no-wait`"),
            (&["status", "web"], "`teal help status`"),
        ] {
            let fault = said(line);
            assert!(fault.hint.contains(hint), "{line:?}: {fault:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_told_which_number_is_meant() {
        for (line, says) in [
            (
                &["rollback", "web", "--to", "abc"][..],
                "'abc' for '--to <RELEASE>': it is not a release number, such as 3",
            ),
            (&["promote", "web"], "'web' for '[N]': it is not a deployment number"),
            (&["show", "-1"], "`teal show` has no flag `-1`"),
            (&["history", "-n", "0"], "it is not a number from 1 on"),
            (&["logs", "-n", "x"], "it is not a number of lines"),
            (&["exec", "--replica", "x", "web", "ls"], "it is not the number of a replica"),
            (&["takeover", "http"], "it is not a port, such as 80"),
        ] {
            let what = said(line).what;
            assert!(what.contains(says), "{line:?}: {what}");
        }
    }

    #[test]
    fn a_line_without_a_verb_names_none_that_is_only_for_teal_itself() {
        for line in [&["-y"][..], &["--output", "text"]] {
            let fault = said(line);
            assert_eq!(fault.what, "no verb is named", "{line:?}");
            assert!(fault.detail.is_empty(), "{fault:?}");
        }
        assert!(crate::cli::shown().get_subcommands().all(|verb| !["agent", "proxy"].contains(&verb.get_name())));
    }

    #[test]
    fn the_nearest_verb_or_flag_is_named_and_nothing_that_misleads() {
        let fault = said(&["deplyo"]);
        assert_eq!(fault.what, "teal has no verb `deplyo`. Did you mean `deploy`?");
        for (line, near) in [
            (&["deploy", "--img", "x"][..], "`teal deploy` has no flag `--img`. Did you mean `--image`?"),
            (
                &["-p", "shop", "rollback", "--dryrun"],
                "`teal rollback` has no flag `--dryrun`. Did you mean `--dry-run`?",
            ),
            (&["status", "--outptu=json"], "`teal status` has no flag `--outptu`. Did you mean `--output`?"),
            (&["status", "--nothing-like-it"], "`teal status` has no flag `--nothing-like-it`"),
        ] {
            let fault = said(line);
            assert_eq!(fault.what, near);
            assert!(fault.detail.is_empty() && !fault.hint.contains("-- "), "{fault:?}");
        }
    }

    #[test]
    fn no_word_of_others_is_a_verb_and_every_hint_names_one_that_is() {
        let command = Cli::command();
        let verbs: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        for (words, hint) in OTHERS {
            assert!(words.iter().all(|word| !verbs.contains(word)), "{words:?}");
            let mut named = hint.split("`teal ").skip(1).map(|rest| rest.split([' ', '`']).next().unwrap());
            assert!(named.all(|name| name.starts_with("--") || verbs.contains(&name)), "{hint}");
        }
    }
}
