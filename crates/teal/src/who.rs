//! Who deploys, for the journal: a person at a host, or what CI says of itself.

pub fn who() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let uid = rustix::process::getuid().as_raw();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    from(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()), &host, &login(&passwd, uid))
}

/// Not every service manager and container sets USER.
fn login(passwd: &str, uid: u32) -> String {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.into_iter().find(|fields| fields.get(2) == Some(&uid.to_string().as_str()));
    found.map_or_else(|| format!("uid {uid}"), |fields| fields[0].to_owned())
}

/// Variable that says who started a run, what its number is called, variable of the number.
const CI: &[(&str, &str, &str, &str)] = &[
    ("GITHUB_ACTIONS", "GITHUB_ACTOR", "GitHub run", "GITHUB_RUN_ID"),
    ("GITLAB_CI", "GITLAB_USER_LOGIN", "GitLab job", "CI_JOB_ID"),
    ("BUILDKITE", "BUILDKITE_BUILD_CREATOR", "Buildkite build", "BUILDKITE_BUILD_NUMBER"),
    ("CIRCLECI", "CIRCLE_USERNAME", "CircleCI build", "CIRCLE_BUILD_NUM"),
    ("TF_BUILD", "BUILD_REQUESTEDFOR", "Azure build", "BUILD_BUILDID"),
    ("JENKINS_URL", "BUILD_USER_ID", "Jenkins build", "BUILD_TAG"),
];

fn from(env: &dyn Fn(&str) -> Option<String>, host: &str, login: &str) -> String {
    if let Some(who) = env("TEAL_WHO") {
        return who;
    }
    // Under sudo the person is who called it; root has no name in a log.
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| env(name)).unwrap_or_else(|| login.to_owned());
    for (mark, actor, what, number) in CI {
        if env(mark).is_some() {
            let actor = env(actor).unwrap_or_else(|| format!("{user}@{host}"));
            return match env(number) {
                Some(number) => format!("{actor} ({what} {number})"),
                None => actor,
            };
        }
    }
    format!("{user}@{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(env: &[(&str, &str)]) -> String {
        from(&|name| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()), "web1", "bo")
    }

    #[test]
    fn a_person_is_named_with_their_host_and_ci_with_its_run() {
        assert_eq!(who(&[("USER", "ana")]), "ana@web1");
        assert_eq!(who(&[("USER", "root"), ("SUDO_USER", "ana")]), "ana@web1");
        assert_eq!(who(&[]), "bo@web1");
        assert_eq!(login("root:x:0:0:root:/root:/bin/sh\nana:x:70:7::/:/bin/sh\n", 70), "ana");
        assert_eq!(login("root:x:0:0:root:/root:/bin/sh\n", 7), "uid 7");
        assert_eq!(
            who(&[("GITHUB_ACTIONS", "true"), ("GITHUB_ACTOR", "ana"), ("GITHUB_RUN_ID", "42")]),
            "ana (GitHub run 42)"
        );
        assert_eq!(who(&[("GITLAB_CI", "true"), ("GITLAB_USER_LOGIN", "bo"), ("CI_JOB_ID", "9")]), "bo (GitLab job 9)");
        assert_eq!(
            who(&[("JENKINS_URL", "x"), ("USER", "jenkins"), ("BUILD_TAG", "shop-3")]),
            "jenkins@web1 (Jenkins build shop-3)"
        );
        assert_eq!(who(&[("GITHUB_ACTIONS", "true"), ("TEAL_WHO", "release bot")]), "release bot");
    }
}
