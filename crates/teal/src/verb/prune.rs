//! `teal prune`: removes the images of releases that nobody can go back to any more.

use crate::cli::Files;
use crate::client::LONG_PATIENCE;
use crate::print::words::{bytes, counted, short_id};
use crate::terminal;
use crate::verb::Context;
use crate::who::who;
use clap::Args;
use teal_model::api::{PruneRequest, Pruned};
use teal_model::fault::{Code, Fault};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Of every project of this host
    #[arg(long)]
    pub all: bool,
    /// Show what would be removed; remove nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub files: Files,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let project = if arguments.all { None } else { Some(context.needed_project_name(arguments.files)?) };
    let client = context.client()?.patience(LONG_PATIENCE);
    let would = PruneRequest { project, dry_run: true, who: who() };
    if arguments.dry_run || !context.global.yes {
        let found: Pruned = client.post("/v1/prune", &would).await?;
        if arguments.dry_run || found.images.is_empty() {
            context.out.show(&found, |found, _| text(found, "would remove"));
            return Ok(0);
        }
        if !context.out.is_interactive() {
            return Err(Fault::new(Code::Usage, "nobody is here to confirm that images are to be removed")
                .hint("say it with --yes; `teal prune --dry-run` lists them"));
        }
        context.out.note_lines(&text(&found, "would remove"));
        context.out.ask("Remove them? [y/N]");
        if !terminal::confirmed().await {
            context.out.note("nothing was removed");
            return Ok(Code::Aborted.exit());
        }
    }
    let pruned: Pruned = client.post("/v1/prune", &PruneRequest { dry_run: false, ..would }).await?;
    context.out.show(&pruned, |pruned, _| text(pruned, "removed"));
    Ok(0)
}

fn text(pruned: &Pruned, did: &str) -> String {
    let mut text = match pruned.images.len() as u64 {
        0 if pruned.left.is_empty() => {
            "no image is to be removed: each is of a release that can be gone back to\n".to_owned()
        }
        0 => "no image is to be removed\n".to_owned(),
        n => format!("{did} {}, {}\n", counted(n, "image"), bytes(pruned.images.iter().map(|image| image.bytes).sum())),
    };
    for image in &pruned.images {
        let releases: Vec<String> = image.releases.iter().map(ToString::to_string).collect();
        let name = if image.names.is_empty() { short_id(&image.id) } else { image.names.join(", ") };
        text.push_str(&format!("  {name}, {}: {}\n", bytes(image.bytes), releases.join(", ")));
    }
    for left in &pruned.left {
        text.push_str(&format!("left: {left}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use teal_model::api::PrunedImage;
    use teal_model::ids::{ReleaseKey, ServiceKey};

    #[test]
    fn each_image_is_named_with_its_releases() {
        let release = |number| ReleaseKey { service: ServiceKey::new("shop", "web"), number };
        let id = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef".to_owned();
        let one = PrunedImage {
            names: vec!["app:1".to_owned()],
            id,
            bytes: 61_300_000,
            releases: vec![release(1), release(2)],
        };
        let nameless = PrunedImage { names: Vec::new(), bytes: 1_400, releases: vec![release(3)], ..one.clone() };
        let pruned =
            Pruned { images: vec![one, nameless], left: vec!["app:4: a container of another uses it".to_owned()] };
        let none = text(&Pruned::default(), "would remove");
        crate::print::golden("pruned.txt", &format!("{}\n{none}", text(&pruned, "removed")));
    }
}
