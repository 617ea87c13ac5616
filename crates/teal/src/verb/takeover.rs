//! `teal takeover`: ports that nginx, or another process of this host, listens on become Teal's while both are served.

use crate::cli::number;
use crate::print::plan;
use crate::verb::Context;
use crate::verb::adopt::confirmed;
use crate::verb::deploy::{self, Selection};
use clap::Args;
use std::collections::BTreeSet;
use std::time::Duration;
use teal_model::api::Holder;
use teal_model::fault::{Code, Fault};
use teal_model::plan::{Plan, Take};

/// Between two looks at who listens.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub struct Arguments {
    /// Published ports of the project; the other process listens on them now
    #[arg(required = true, value_name = "PORT", value_parser = number::<u16>("a port, such as 80"))]
    pub ports: Vec<u16>,
    /// The name of that process
    #[arg(long, default_value = "nginx", value_name = "NAME")]
    pub from: String,
    /// Show what would happen; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Give the ports back to that process, which listens there as well; the file does not publish them any more
    #[arg(long, conflicts_with = "no_wait")]
    pub undo: bool,
    /// Return when Teal answers there, too, instead of waiting until the other process does not listen any more
    #[arg(long)]
    pub no_wait: bool,
    /// Only these services are deployed; without any, all of the project
    #[arg(long, value_name = "SERVICE")]
    pub service: Vec<String>,
    #[command(flatten)]
    pub files: crate::cli::Files,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Fault> {
    let client = context.client()?;
    let Arguments { ports, from, dry_run, undo, no_wait, service, files } = arguments;
    let selection = Selection { services: service, files, ..Selection::default() };
    let mut request = selection.request(context, deploy::make)?;
    request.choice.take = Some(Take { ports: ports.clone(), from: from.clone(), undo });
    let planned: Plan = client.post("/v1/plan", &request).await?;
    if dry_run {
        context.out.show(&planned, plan::text);
        return Ok(0);
    }
    if !context.global.yes {
        context.out.text(&plan::text(&planned, context.out.paint()));
        context.out.blank();
        if !confirmed(context, "Do it?").await? {
            context.out.note("nothing was changed");
            return Ok(Code::Aborted.exit());
        }
    }
    let exit = deploy::follow(context, &client, client.post("/v1/deployments", &request).await?).await?;
    if exit != 0 || no_wait || undo {
        return Ok(exit);
    }
    for port in ports {
        let mut said = String::new();
        loop {
            let sharing: Vec<Holder> = client.get(&format!("/v1/sharing?port={port}")).await?;
            if sharing.is_empty() {
                break;
            }
            let words = what_to_do(port, &from, &sharing);
            if words != said {
                context.out.note(&words);
                said = words;
            }
            tokio::time::sleep(LOOK).await;
        }
        context.out.note(&format!("port {port} is Teal's alone"));
    }
    Ok(0)
}

/// What the operator does now. To wait for it can be given up: nothing is undone by that.
fn what_to_do(port: u16, from: &str, sharing: &[Holder]) -> String {
    let on_port = |listens: &&String| listens.ends_with(&format!(":{port}"));
    let others: BTreeSet<&str> =
        sharing.iter().flat_map(|holder| &holder.listens).filter(|one| !on_port(one)).map(String::as_str).collect();
    let who: Vec<String> = sharing.iter().map(|holder| format!("{} ({})", holder.name, holder.pid)).collect();
    let next = match (from, others.is_empty()) {
        ("nginx", true) => "It has no other port: `nginx -s quit` ends it when its requests are done".to_owned(),
        ("nginx", false) => format!(
            "It listens on {} as well: take `listen {port}` out of its configuration, then `nginx -t && nginx -s reload`",
            others.into_iter().collect::<Vec<_>>().join(", ")
        ),
        _ => format!("Let it stop listening on {port}"),
    };
    format!(
        "port {port} is served by Teal, and by {} as before. {next}. Waiting for it; Ctrl-C ends the waiting alone",
        who.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(pid: u32, listens: &[&str]) -> Holder {
        Holder { pid, name: "nginx".into(), listens: listens.iter().map(|one| (*one).to_owned()).collect() }
    }

    #[test]
    fn what_is_to_be_done_depends_on_what_else_it_serves() {
        let alone = what_to_do(80, "nginx", &[holder(7, &["0.0.0.0:80", "[::]:80"]), holder(8, &["0.0.0.0:80"])]);
        assert!(alone.contains("nginx (7), nginx (8)") && alone.contains("`nginx -s quit`"), "{alone}");
        let also = what_to_do(80, "nginx", &[holder(7, &["0.0.0.0:443", "0.0.0.0:80", "0.0.0.0:8080"])]);
        assert!(also.contains("on 0.0.0.0:443, 0.0.0.0:8080 as well: take `listen 80` out"), "{also}");
        assert!(what_to_do(80, "haproxy", &[holder(7, &[])]).contains("Let it stop listening on 80"));
    }
}
