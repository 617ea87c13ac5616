//! `teal check`: everything that is wrong with the compose file, without an agent.

use crate::cli::Files;
use crate::print::fault;
use crate::project;
use crate::verb::Context;
use clap::Args;
use serde_json::json;
use teal_model::fault::Fault;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub files: Files,
}

pub fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let loaded = project::load(&arguments.files.or(context.before.clone()), &[])?;
    let project = &loaded.project;
    if context.out.is_json() {
        context.out.json(&json!({ "file": loaded.file, "project": project.name, "services": project.services.keys().collect::<Vec<_>>(), "warnings": loaded.warnings }));
        return Ok(0);
    }
    context.out.note_lines(&fault::warnings(&loaded.warnings, context.out.paint_errors()));
    context.out.text(&fault::sound(
        &loaded.file,
        &project.name,
        project.services.len(),
        loaded.warnings.len(),
        context.out.paint(),
    ));
    Ok(0)
}
