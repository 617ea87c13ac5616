//! Everything that is wrong is told at once, with its place, and without secrets.

use crate::common::{Input, file, show, web_and};
use std::path::Path;

/// Compares with the file, or writes it when `UPDATE_GOLDEN` is set.
pub fn golden(path: &Path, got: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, got).unwrap();
        return;
    }
    let want = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(got, want, "{} differs; UPDATE_GOLDEN=1 rewrites it", path.display());
}

#[test]
fn one_very_bad_file_is_told_in_full() {
    let input = Input {
        text: include_str!("bad.yaml"),
        dotenv: Some("OK=1\nBROKEN=\"sesame\n"),
        environment: &[("SECRET", "sesame")],
        files: &[("bad.env", "A=1\nnot a line sesame\nPASSWORD='sesame' sesame\n")],
        ..Input::default()
    };
    let said = input.fail();
    assert!(!said.contains("sesame"), "{said}");
    golden(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/bad.txt"), &said);
}

#[test]
fn every_problem_has_file_line_key_and_words() {
    let problems = Input { text: include_str!("bad.yaml"), ..Input::default() }.read().unwrap_err();
    for problem in &problems {
        assert!(!problem.file.is_empty() && problem.line > 0 && problem.column > 0, "{problem:?}");
        assert!(!problem.key.is_empty() && !problem.what.is_empty(), "{problem:?}");
        assert!(!problem.what.ends_with('.'), "{problem}");
        assert!(problem.hint.as_ref().is_none_or(|hint| hint.ends_with(['.', '?'])), "{problem}");
    }
}

#[test]
fn problems_point_at_the_text_that_is_wrong() {
    let text = "services:\n  web:\n    image: a\n    ports:\n      - \"80:80\"\n      - \"+81:81\"\n    prots: []\n";
    let problems = file(text).read().unwrap_err();
    let places: Vec<_> = problems.iter().map(|p| (p.line, p.column, p.key.as_str())).collect();
    assert_eq!(places, [(6, 9, "services.web.ports[1]"), (7, 5, "services.web.prots")]);
}

#[test]
fn a_key_at_the_wrong_level_is_told_its_place() {
    for (lines, want) in [
        ("replicas: 2", "services.web.replicas: unknown key. Did you mean `services.web.deploy.replicas`?"),
        ("health: /up", "services.web.health: unknown key. Did you mean `services.web.x-teal.health`?"),
        ("bake: 5m", "Did you mean `services.web.x-teal.bake`?"),
        ("retain: 5m", "Did you mean `services.web.x-teal.retain`?"),
        ("canary: 10%", "Did you mean `services.web.x-teal.canary`?"),
        ("strategy: canary", "Did you mean `services.web.x-teal.strategy`?"),
        ("interval: 5s", "Did you mean `services.web.healthcheck.interval`?"),
        ("mode: tcp", "Did you mean `services.web.deploy.mode` or `services.web.x-teal.mode`?"),
        ("memory: 1g", "Did you mean `services.web.deploy.resources.limits.memory` or"),
        ("dockerfile: x", "Did you mean `services.web.build.dockerfile`?"),
        (
            "x-teal: {replicas: 2}",
            "services.web.x-teal.replicas: unknown key. Did you mean `services.web.deploy.replicas`?",
        ),
        ("x-teal: {ports: []}", "Did you mean `services.web.ports` or `services.web.x-teal.nginx.ports`?"),
        ("deploy: {canary: 10%}", "Did you mean `services.web.x-teal.canary`?"),
        ("x-teal: {health: {bake: 0}}", "Did you mean `services.web.x-teal.bake`?"),
        ("img: a", "services.web.img: unknown key. Did you mean `image`?"),
        ("env: []", "Did you mean `environment`?"),
        ("cmd: a", "Did you mean `command`?"),
        ("port: []", "Did you mean `ports`?"),
        ("networks: {default: {image: a}}", "services.web.networks.default.image: unknown key\n"),
    ] {
        let said = file(&web_and(lines, "")).fail();
        assert!(said.contains(want), "{lines}\nwants: {want}\nsays:  {said}");
    }
    for (top, want) in [
        ("x-teal: {strategy: canary}", "x-teal.strategy: unknown key. Did you mean `services.<name>.x-teal.strategy`?"),
        ("bake: 5m", "bake: unknown key. Did you mean `x-teal.bake`?"),
        ("ports: []", "ports: unknown key. Did you mean `services.<name>.ports`?"),
        ("networks: {default: {ports: []}}", "networks.default.ports: unknown key\n"),
    ] {
        let said = file(&web_and("", &format!("{top}\n"))).fail();
        assert!(said.contains(want), "{top}\nwants: {want}\nsays:  {said}");
    }
}

#[test]
fn a_variable_without_its_sign_is_told_and_not_shown() {
    let list = web_and("environment: [A=1, VERSION sesame]", "");
    let want = "services.web.environment[1]: a blank in a name that has no value. Write `NAME=value`.\n";
    assert!(file(&list).fail().ends_with(want), "{}", file(&list).fail());
    let over = [("over.yaml", "services: {web: {environment: {B: c}}}\n")];
    let said = Input { text: &list, over: &over, ..Input::default() }.fail();
    assert_eq!(
        said,
        "compose.yaml:4: services.web.environment: a blank in a name that has no value. Write `NAME=value`.\n"
    );
    for fine in ["[A=b c, D]", "{A: b c}", "['A B=c']"] {
        file(&web_and(&format!("environment: {fine}"), "")).ok();
    }
    assert!(file(&web_and("labels: [a b]", "")).fail().contains("a blank in a name"));
}

#[test]
fn broken_yaml_and_a_broken_dotenv_are_told_together() {
    let said = Input { text: "services: [\n", dotenv: Some("A=\"x\n"), ..Input::default() }.fail();
    assert!(said.contains(".env:1: A: a quote that is never closed"), "{said}");
    assert!(said.contains("broken YAML"), "{said}");
}

#[test]
fn a_file_without_services_says_so() {
    for (text, want) in [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("name: x\n", "no services"),
        ("services:\n", "no services"),
        ("services: {}\n", "services: no services"),
        ("services: [web]\n", "services: expected a map, found a list"),
        ("- a\n", "expected a map, found a list"),
        ("services: {web: }\n", "services.web: an empty service"),
        ("services: {web: 1}\n", "services.web: expected a map, found a number"),
        ("services: {'a b': {image: x}}\n", "not a service name"),
        ("servces: {web: {image: x}}\n", "Did you mean `services`?"),
    ] {
        let said = file(text).fail();
        assert!(said.contains(want), "{text:?}\n{said}");
    }
}

#[test]
fn a_value_from_the_environment_is_in_no_problem() {
    let keys = [
        "image",
        "command",
        "entrypoint",
        "environment",
        "env_file",
        "ports",
        "volumes",
        "depends_on",
        "labels",
        "user",
        "working_dir",
        "restart",
        "healthcheck",
        "stop_signal",
        "stop_grace_period",
        "deploy",
        "scale",
        "mem_limit",
        "cpus",
        "logging",
        "networks",
        "pull_policy",
        "x-teal",
        "build",
        "expose",
        "tmpfs",
        "volumes_from",
        "secrets",
        "configs",
        "extends",
        "profiles",
        "label_file",
        "annotations",
        "group_add",
        "container_name",
        "hostname",
        "network_mode",
        "mac_address",
        "links",
        "external_links",
        "extra_hosts",
        "dns",
        "dns_search",
        "mem_reservation",
        "memswap_limit",
        "shm_size",
        "cpuset",
        "cpu_shares",
        "cpu_period",
        "cpu_quota",
        "pids_limit",
        "ulimits",
        "oom_score_adj",
        "blkio_config",
        "storage_opt",
        "devices",
        "device_cgroup_rules",
        "gpus",
        "privileged",
        "cap_add",
        "security_opt",
        "sysctls",
        "read_only",
        "init",
        "ipc",
        "pid",
        "uts",
        "userns_mode",
        "cgroup",
        "cgroup_parent",
        "platform",
        "runtime",
        "develop",
        "attach",
    ];
    for key in keys {
        for shape in ["$SECRET", "[$SECRET]", "{a: $SECRET}", "[{a: $SECRET}]"] {
            let text = format!("services:\n  web:\n    image: a\n    {key}: {shape}\n")
                .replace("    image: a\n    image", "    image")
                .replace("    image: a\n    build", "    build");
            let input = Input { text: &text, environment: &[("SECRET", "open sesame'")], ..Input::default() };
            if let Err(problems) = input.read() {
                let said = show(&problems);
                // Names of other things (services, volumes, options) must be shown to be found again.
                let names = [
                    "volumes",
                    "depends_on",
                    "labels",
                    "networks",
                    "secrets",
                    "configs",
                    "extends",
                    "profiles",
                    "links",
                    "volumes_from",
                    "ulimits",
                ]
                .contains(&key);
                assert!(names || !said.contains("open sesame"), "{text}\n{said}");
            }
        }
    }
}
