//! Commands of the file that run on this host: whether they can, said before anything depends on it.

use crate::host_command::missing;
use std::path::Path;
use teal_model::config::{JudgeAsks, Project, SmokeCheck};
use teal_model::plan::{Member, Plan};

/// Of every service that gets a new release.
pub fn warnings(project: &Project, plan: &Plan) -> Vec<String> {
    plan.members.iter().flat_map(|member| of_member(project, member)).collect()
}

fn of_member(project: &Project, member: &Member) -> Vec<String> {
    let (name, directory) = (&member.service.service, Path::new(&project.directory));
    let judges = member.safety.rollback.judges.iter().filter_map(|judge| match &judge.asks {
        JudgeAsks::Command { command } => {
            let why = missing(command, directory)?;
            Some(format!("{name}: the judge {} cannot be asked: {why}", judge.name))
        }
        JudgeAsks::Prometheus { .. } => None,
    });
    let smoke = project.services.get(name).and_then(|service| service.teal.smoke.as_ref());
    let tests = smoke.iter().flat_map(|smoke| &smoke.checks).filter_map(|check| match check {
        SmokeCheck::Command { command } => {
            let why = missing(command, directory)?;
            Some(format!("{name}: its smoke test will fail, and take the deployment back: {why}"))
        }
        SmokeCheck::Http { .. } => None,
    });
    judges.chain(tests).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_program_is_looked_for_where_it_would_be_run() {
        let dir = tempfile::tempdir().unwrap();
        let said = |program: &str| missing(&[program.to_owned(), "--password=x".to_owned()], dir.path());
        let script = dir.path().join("check.sh");
        let at = script.display().to_string();
        for program in ["./check.sh", &at] {
            assert_eq!(said(program), Some(format!("there is no {at} on this host")));
        }
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&script, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(said(&at), Some(format!("{at} may not be executed")));
        assert!(said("./").unwrap().ends_with("is no program"));
        std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        assert_eq!((said("./check.sh"), said(&at), said("sh")), (None, None, None));
        assert_eq!(said("check.sh"), Some("there is no check.sh in the agent's PATH".to_owned()));
        let nowhere = missing(&["sh".to_owned()], Path::new("/no/such/folder"));
        assert_eq!(nowhere.unwrap(), "the folder /no/such/folder is not there");
    }
}
