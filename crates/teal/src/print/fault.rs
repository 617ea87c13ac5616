//! Faults and the problems of a compose file.

use crate::print::Paint;
use crate::print::words::{counted, printable};
use teal_model::config::Problem;
use teal_model::fault::Fault;

/// What happened, what was seen, what to do.
pub fn text(fault: &Fault, paint: Paint) -> String {
    let mut text = format!("{} {}\n", paint.red("error:"), printable(&fault.what));
    for line in &fault.detail {
        text.push_str(&format!("  {}\n", printable(line)));
    }
    if !fault.hint.is_empty() {
        text.push_str(&format!("{} {}\n", paint.cyan("hint:"), fault.hint));
    }
    text
}

pub fn warnings(warnings: &[Problem], paint: Paint) -> String {
    warnings.iter().map(|warning| format!("{} {warning}\n", paint.yellow("warning:"))).collect()
}

/// What `check` says of a file that can be deployed.
pub fn sound(file: &str, project: &str, services: usize, warned: usize, paint: Paint) -> String {
    let warned = if warned == 0 { String::new() } else { format!(", {}", counted(warned as u64, "warning")) };
    format!("{} {file}: project {project}, {}{warned}", paint.green("ok"), counted(services as u64, "service"))
}

/// `docs/errors.md`.
#[cfg(test)]
pub fn manual() -> String {
    let mut text = String::from(
        "# Errors\n\n\
        <!-- Generated from the code: `UPDATE_GOLDEN=1 cargo test -p teal` writes it again. -->\n\n\
        Every fault has a name, an exit code, and a hint. The command prints it on stderr as `error: ...`, with what was seen\n\
        below it and `hint: ...` at the end. With `--output json` it is a line on stdout:\n\
        `{\"error\": {\"code\": \"busy\", \"what\": \"...\", \"hint\": \"...\", \"detail\": [\"...\"]}}`. Names and exit codes are stable.\n\n\
        A fault may have a better hint than the one here, where more is known. A deployment that was reverted exits with the\n\
        code of its cause; one whose revert failed exits with 10.\n\n\
        | name | exit | when | what to do |\n|---|---|---|---|\n",
    );
    for code in teal_model::fault::Code::ALL {
        text.push_str(&format!("| `{}` | {} | {} | {} |\n", code.name(), code.exit(), code.when(), code.hint()));
    }
    text.push_str(
        "\n## Mistakes, and what is said\n\n\
        Each of these is made by the end-to-end tests against a real daemon: the error says this, nothing is changed, and nothing\n\
        is left behind.\n\n\
        | what | name | exit | it says |\n|---|---|---|---|\n",
    );
    for mistake in teal_model::fault::MISTAKES {
        let says = mistake.says.join(" … ");
        text.push_str(&format!("| {} | `{}` | {} | {says} |\n", mistake.name, mistake.code, mistake.code.exit()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::golden;
    use teal_model::fault::Code;

    #[test]
    fn a_fault_says_what_happened_what_was_seen_and_what_to_do() {
        let fault = Fault::new(Code::NeverReady, "shop/web@4 was not ready within 180 s").detail(vec![
            "waited for: HTTP GET /up on port 8080".to_owned(),
            "last probe: 503 Service Unavailable".to_owned(),
        ]);
        golden("fault.txt", &text(&fault, Paint::NONE));
        golden("fault-colors.txt", &text(&fault, Paint(true)));
    }

    #[test]
    fn problems_name_file_line_key_and_remedy() {
        let problem = |line, key: &str, what: &str, hint: Option<&str>| Problem {
            file: "compose.yaml".to_owned(),
            line,
            column: 5,
            key: key.to_owned(),
            what: what.to_owned(),
            hint: hint.map(str::to_owned),
        };
        let problems = [
            problem(4, "services.web.prots", "unknown key", Some("Did you mean `ports`?")),
            problem(
                9,
                "services.db.privileged",
                "not supported",
                Some("Give the capabilities that are needed: `cap_add`."),
            ),
        ];
        let fault = crate::project::invalid("compose.yaml", &problems);
        let warned = warnings(&[problem(2, "version", "has no meaning any more", None)], Paint::NONE);
        golden(
            "problems.txt",
            &format!("{warned}{}\n{}\n", text(&fault, Paint::NONE), sound("compose.yaml", "shop", 2, 1, Paint::NONE)),
        );
    }
}
