//! `teal completions`: a completion script on stdout.

use crate::cli::shown;
use crate::verb::Context;
use clap::Args;
use clap_complete::Shell;
use teal_model::fault::Fault;

#[derive(Debug, Args)]
pub struct Arguments {
    #[arg(value_enum)]
    pub shell: Shell,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<u8, Fault> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut shown(), "teal", &mut script);
    context.out.raw(&script);
    Ok(0)
}
