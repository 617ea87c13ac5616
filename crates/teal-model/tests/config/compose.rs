//! Compose's own keys keep Compose's meaning.

use crate::common::{Input, each_is_refused, file, show, web, web_and, web_problems, web_warnings};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use teal_model::config::{Condition, MountKind, PullPolicy, Restart, UpdateOrder, find_file, find_override};

fn strings(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|w| (*w).to_owned()).collect())
}

#[test]
fn a_plain_compose_file_is_a_project() {
    let parsed = file(include_str!("shop.yaml")).ok();
    assert_eq!(parsed.warnings, []);
    let project = parsed.project;
    assert_eq!((project.name.as_str(), project.directory.as_str()), ("shop", "/srv/shop"));
    assert_eq!(project.services.keys().collect::<Vec<_>>(), ["api", "cache", "web"]);
    let web = &project.services["web"];
    assert_eq!(web.ports[0].published, 80);
    assert_eq!(web.ports[0].target, 8080);
    assert_eq!(web.depends_on["api"].condition, Condition::ServiceHealthy);
    assert_eq!(web.replicas, 2);
    let api = &project.services["api"];
    assert_eq!(api.container.environment["LOG_LEVEL"], "info", "merged from an extension by `<<`");
    assert_eq!(api.container.stop_grace_period_ms, 30_000);
    assert_eq!(project.services["cache"].container.mounts[0].source.as_deref(), Some("shop_cache"));
    assert_eq!(project.volumes["cache"].name, "shop_cache");
}

#[test]
fn a_project_travels_as_json_unchanged() {
    let project = file(include_str!("shop.yaml")).ok().project;
    let text = serde_json::to_string(&project).unwrap();
    assert_eq!(serde_json::from_str::<teal_model::config::Project>(&text).unwrap(), project);
}

#[test]
fn settings_that_are_not_written_have_composes_defaults() {
    let web = web("");
    assert_eq!(web.container.image, "app:1");
    assert_eq!(web.container.command, None);
    assert_eq!(web.container.restart, Restart::No);
    assert_eq!(web.container.stop_grace_period_ms, 10_000);
    assert_eq!((web.replicas, web.order, web.pull_policy), (1, None, PullPolicy::Default));
}

#[test]
fn the_projects_name_comes_from_flag_environment_file_and_folder_in_this_order() {
    let named = "name: from-file\nservices: {web: {image: a}}\n";
    let plain = "services: {web: {image: a}}\n";
    let env: &[(&str, &str)] = &[("COMPOSE_PROJECT_NAME", "from-env")];
    for (input, want) in [
        (Input { text: named, environment: env, project_name: Some("flag"), ..Input::default() }, "flag"),
        (Input { text: named, environment: env, ..Input::default() }, "from-env"),
        (Input { text: named, dotenv: Some("COMPOSE_PROJECT_NAME=dot"), ..Input::default() }, "dot"),
        (file(named), "from-file"),
        (file(plain), "shop"),
        (Input { text: plain, directory: Some("/srv/_My Shop.v2"), ..Input::default() }, "myshopv2"),
        (file("name: ${N:-x}1\nservices: {web: {image: a}}\n"), "x1"),
    ] {
        assert_eq!(input.ok().project.name, want);
    }
    assert!(file("name: My Shop\nservices: {web: {image: a}}\n").fail().contains("name: not a project name"));
    assert!(Input { text: plain, directory: Some("/"), ..Input::default() }.fail().contains("has no name"));
    assert!(Input { text: plain, project_name: Some("A"), ..Input::default() }.fail().contains("`-p` says is not"));
    let inside = "services: {web: {image: 'a:$COMPOSE_PROJECT_NAME'}}\n";
    assert_eq!(file(inside).ok().project.services["web"].container.image, "a:shop");
}

#[test]
fn the_compose_file_is_found_in_composes_order() {
    let dir = Path::new("/x");
    let with = |names: &'static [&'static str]| find_file(dir, &|path| names.iter().any(|name| path == dir.join(name)));
    assert_eq!(with(&["docker-compose.yml", "compose.yml"]), Some(PathBuf::from("/x/compose.yml")));
    assert_eq!(with(&["docker-compose.yaml", "docker-compose.yml"]), Some(PathBuf::from("/x/docker-compose.yml")));
    assert_eq!(with(&["compose.yaml", "compose.yml"]), Some(PathBuf::from("/x/compose.yaml")));
    assert_eq!(with(&["other.yaml"]), None);
    assert!(find_override(dir, &|path| path == dir.join("compose.override.yml")).is_some());
}

#[test]
fn commands_are_split_without_a_shell_and_null_keeps_the_images_own() {
    for (lines, want) in [
        ("command: nginx -g 'daemon off;'", strings(&["nginx", "-g", "daemon off;"])),
        ("command: [sleep, 60]", strings(&["sleep", "60"])),
        ("command: []", strings(&[])),
        ("command: ''", strings(&[])),
        ("command:", None),
        ("command: null", None),
        ("command: ${NOTHING:-}", strings(&[])),
        ("command: echo $$HOME", strings(&["echo", "$HOME"])),
    ] {
        assert_eq!(web(lines).container.command, want, "{lines}");
        let lines = lines.replace("command", "entrypoint");
        assert_eq!(web(&lines).container.entrypoint, want, "{lines}");
    }
    each_is_refused(&[
        ("command: a && b", "`&` needs a shell"),
        ("command: it's", "a quote that is never closed"),
        ("command: {a: b}", "expected a string, found a map"),
        ("command: [[a], {b: c}]", "web.command[1]: expected a string, found a map"),
    ]);
}

#[test]
fn environment_takes_maps_lists_and_the_callers_own_variables() {
    let text = web_and(
        "environment:\n  NUMBER: 1.10\n  YES: yes\n  TRUE: true\n  EMPTY: ''\n  PASSED:\n  DOT:\n  ABSENT:\n  USES: <${PASSED}>",
        "",
    );
    let input =
        Input { text: &text, environment: &[("PASSED", "p")], dotenv: Some("DOT=d\nPASSED=no"), ..Input::default() };
    let env = input.ok().project.services["web"].container.environment.clone();
    let want = [
        ("DOT", "d"),
        ("EMPTY", ""),
        ("NUMBER", "1.10"),
        ("PASSED", "p"),
        ("TRUE", "true"),
        ("USES", "<p>"),
        ("YES", "yes"),
    ];
    assert_eq!(env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), want);

    let list = web("environment:\n  - A=1=2\n  - B=\n  - ABSENT\n  - A=3");
    assert_eq!(list.container.environment["A"], "3");
    assert_eq!(list.container.environment["B"], "");
    assert!(!list.container.environment.contains_key("ABSENT"));
}

#[test]
fn env_files_come_below_environment_and_later_ones_win() {
    let text = web_and(
        "env_file:\n  - one.env\n  - path: two.env\n    format: raw\n  - path: none.env\n    required: false\nenvironment:\n  C: own\n  GONE:",
        "",
    );
    let input = Input {
        text: &text,
        files: &[("one.env", "A=1\nB=1\nC=1\nGONE=1\nREF=\"${A}x\"\nexport Q='a $b'\n"), ("two.env", "B=\"2\"\n")],
        ..Input::default()
    };
    let env = input.ok().project.services["web"].container.environment.clone();
    for (name, want) in [("A", "1"), ("B", "\"2\""), ("C", "own"), ("REF", "1x"), ("Q", "a $b")] {
        assert_eq!(env[name], want, "{name}");
    }
    assert!(!env.contains_key("GONE"), "a name without a value takes the file's away, as in Compose");

    let single =
        Input { text: &web_and("env_file: ./one.env", ""), files: &[("./one.env", "A=1")], ..Input::default() }.ok();
    assert_eq!(single.project.services["web"].container.environment["A"], "1");
}

#[test]
fn env_files_that_cannot_be_used_are_problems_without_their_content() {
    let text = web_and("env_file: [none.env, closed.env, bad.env, {required: true}, {path: x.env, format: yaml}]", "");
    let files: &[(&str, &str)] = &[("closed.env", "denied"), ("bad.env", "A=1\nTOKEN=\"sesame\n"), ("x.env", "")];
    let problems = Input { text: &text, files, ..Input::default() }.fail();
    for want in [
        "env_file[0]: the file does not exist",
        "env_file[1]: the file cannot be read: permission denied",
        "bad.env:2: TOKEN: a quote that is never closed",
        "env_file[3]: `path` is missing",
        "env_file[4].format: not one of `raw`",
    ] {
        assert!(problems.contains(want), "{want}\n{problems}");
    }
    assert!(!problems.contains("sesame"));
}

#[test]
fn unset_variables_are_empty_with_one_warning_each() {
    let text = web_and("user: \"${WHO}\"\nworking_dir: /$WHO", "").replace("app:1", "app:${TAG}1");
    let parsed = file(&text).ok();
    assert_eq!(parsed.project.services["web"].container.user, None, "empty counts as not written");
    let text = web_and("labels:\n  a: $WHO\n  b: $WHO", "").replace("app:1", "app:${TAG}1");
    let warnings = file(&text).ok().warnings;
    assert_eq!(warnings.len(), 2, "{}", show(&warnings));
    assert_eq!((warnings[0].line, warnings[0].key.as_str()), (3, "services.web.image"));
    assert!(warnings[0].what.contains("`TAG` is not set"));
}

#[test]
fn required_variables_and_stray_dollars_are_problems_at_their_place() {
    let problems = web_problems("user: ${WHO:?who runs it}\nworking_dir: /a$1\ncpus: ${C?}\nmem_limit: ${M:?}");
    for want in [
        "compose.yaml:4: services.web.user: variable `WHO` is required: who runs it.",
        "compose.yaml:5: services.web.working_dir: a `$` that starts no variable.",
        "compose.yaml:6: services.web.cpus: variable `C` is required.",
        "compose.yaml:7: services.web.mem_limit: variable `M` is required.",
    ] {
        assert!(problems.contains(want), "{want}\n{problems}");
    }
    assert_eq!(problems.lines().count(), 4, "a value that is unknown is not blamed twice\n{problems}");
}

#[test]
fn interpolation_leaves_keys_and_unused_extensions_alone() {
    let text = "x-unused: ${NOPE:?never}\nservices:\n  web:\n    image: app\n    labels: {$KEY: a}\n";
    let parsed = file(text).ok();
    assert_eq!(parsed.warnings, []);
    assert!(parsed.project.services["web"].container.labels.contains_key("$KEY"));
}

#[test]
fn ports_are_read_in_every_form() {
    for (port, want) in [
        ("80:8080", (None, 80, 8080)),
        ("\"80:8080\"", (None, 80, 8080)),
        ("22:22", (None, 22, 22)),
        ("80:8080/tcp", (None, 80, 8080)),
        ("127.0.0.1:80:8080", (Some("127.0.0.1"), 80, 8080)),
        ("\"[::1]:80:8080\"", (Some("::1"), 80, 8080)),
        ("\"::1:80:8080\"", (Some("::1"), 80, 8080)),
        ("0.0.0.0:80:8080", (Some("0.0.0.0"), 80, 8080)),
        ("{target: 8080, published: 80}", (None, 80, 8080)),
        (
            "{target: 8080, published: '80', host_ip: 127.0.0.1, protocol: tcp, mode: host, app_protocol: http, name: w}",
            (Some("127.0.0.1"), 80, 8080),
        ),
    ] {
        let web = web(&format!("ports:\n  - {port}"));
        let got = &web.ports[0];
        let want_ip: Option<IpAddr> = want.0.map(|ip| ip.parse().unwrap());
        assert_eq!((got.host_ip, got.published, got.target), (want_ip, want.1, want.2), "{port}");
    }
}

#[test]
fn ports_that_no_proxy_can_hold_are_refused_with_the_reason() {
    for (port, want) in [
        ("\"53:53/sctp\"", "SCTP ports are not supported"),
        ("\"53:53/quic\"", "not a protocol"),
        ("8000-8010:8000-8005", "ranges of different length"),
        ("8010-8000:8010-8000", "the published port is no range"),
        ("1-2000:1-2000", "the published port is no range"),
        ("0:80", "the published port is not a number from 1 to 65535"),
        ("80:70000", "the container's port is not a number"),
        ("+80:80", "the published port is not a number"),
        ("http:80", "the published port is not a number"),
        ("localhost:80:80", "the address is not an IP address"),
        ("{published: 80}", "`target` is missing"),
        ("{target: 80, published: 80-x}", "the published port is not a number"),
        ("{target: 80, published: 80, mode: hosst}", "Did you mean `host`?"),
        ("{target: 80, publishd: 80}", "Did you mean `published`?"),
        ("{target: 80, published: 80, host_ip: here}", "not an IP address"),
        ("[80]", "expected a string, found a list"),
    ] {
        let problems = web_problems(&format!("ports:\n  - {port}"));
        assert!(problems.contains(want), "{port}\nwants: {want}\nsays:  {problems}");
        assert!(problems.contains("services.web.ports[0]"), "{problems}");
    }
    each_is_refused(&[
        ("ports: ['80:80', '80:81']", "ports[1]: port 80 is published twice"),
        ("ports: ['80:80', '127.0.0.1:80:80']", "ports[1]: port 80 is published twice"),
        ("ports: 80:80", "expected a list, found a string"),
    ]);
    assert_eq!(web("ports: ['127.0.0.1:80:80', '127.0.0.2:80:80']").ports.len(), 2);
}

#[test]
fn volumes_are_read_in_every_form() {
    let more =
        "volumes:\n  data:\n  shared: {name: all-data}\n  old: {external: true}\n  older: {external: true, name: o}\n";
    let env: &[(&str, &str)] = &[("HOME", "/home/me")];
    for (volume, want) in [
        ("data:/d", (MountKind::Volume, Some("shop_data"), "/d", false, "")),
        ("shared:/d:ro", (MountKind::Volume, Some("all-data"), "/d", true, "")),
        ("old:/d:nocopy", (MountKind::Volume, Some("old"), "/d", false, "nocopy")),
        ("older:/d:rw", (MountKind::Volume, Some("o"), "/d", false, "")),
        ("/d/", (MountKind::Volume, None, "/d", false, "")),
        ("./a/../b:/d:ro,Z", (MountKind::Bind, Some("/srv/shop/b"), "/d", true, "Z")),
        ("..:/d", (MountKind::Bind, Some("/srv"), "/d", false, "")),
        (".:/d", (MountKind::Bind, Some("/srv/shop"), "/d", false, "")),
        ("/etc/x:/d:rslave", (MountKind::Bind, Some("/etc/x"), "/d", false, "rslave")),
        ("~/x:/d:z", (MountKind::Bind, Some("/home/me/x"), "/d", false, "z")),
        ("~:/d", (MountKind::Bind, Some("/home/me"), "/d", false, "")),
        (
            "{type: volume, source: data, target: /d, volume: {nocopy: true}}",
            (MountKind::Volume, Some("shop_data"), "/d", false, "nocopy"),
        ),
        ("{type: volume, target: /d}", (MountKind::Volume, None, "/d", false, "")),
        (
            "{type: bind, source: b, target: /d, read_only: true, bind: {propagation: shared, selinux: z}}",
            (MountKind::Bind, Some("/srv/shop/b"), "/d", true, "shared z"),
        ),
        (
            "{type: tmpfs, target: /d, tmpfs: {size: 1m, mode: 0o1777}}",
            (MountKind::Tmpfs, None, "/d", false, "size=1048576 mode=1777"),
        ),
    ] {
        let text = web_and(&format!("volumes:\n  - {volume}"), more);
        let parsed = Input { text: &text, environment: env, ..Input::default() }.ok();
        let mount = &parsed.project.services["web"].container.mounts[0];
        let got =
            (mount.kind, mount.source.as_deref(), mount.target.as_str(), mount.read_only, &*mount.options.join(" "));
        assert_eq!(got, want, "{volume}");
        assert_eq!(mount.create_host_path, mount.kind == MountKind::Bind, "{volume}");
    }
    let off = web("volumes: [{type: bind, source: /a, target: /d, bind: {create_host_path: false}}]");
    assert!(!off.container.mounts[0].create_host_path);
}

#[test]
fn volumes_that_cannot_be_mounted_are_refused_with_the_reason() {
    each_is_refused(&[
        ("volumes: ['data:/d']", "volume `data` is not defined. Write `data:` under top-level `volumes`, or `./data`"),
        ("volumes: ['./a:d']", "the path in the container is not absolute"),
        ("volumes: ['a:/b:ro:x']", "more than three parts"),
        ("volumes: ['a::ro']", "an empty part"),
        ("volumes: ['./a:/b:rx']", "unknown option `rx`"),
        ("volumes: ['/b:/c:nocopy']", "unknown option `nocopy`"),
        ("volumes: ['~/a:/b']", "`~` without a HOME"),
        ("volumes: ['~you/a:/b']", "the home folder of another user"),
        ("volumes: ['./a:/b', './c:/b/']", "volumes[1]: two mounts at `/b`"),
        ("volumes: [{target: /a}]", "`type` is missing"),
        ("volumes: [{type: bind, target: /a}]", "`source` is missing"),
        ("volumes: [{type: volume}]", "`target` is missing"),
        ("volumes: [{type: image, target: /a}]", "`source` is missing. Name the image"),
        ("volumes: [{type: bnd, target: /a}]", "Did you mean `bind`?"),
        ("volumes: [{type: tmpfs, source: x, target: /a}]", "a tmpfs has no source"),
        ("volumes: [{type: tmpfs, target: /a, bind: {selinux: z}}]", "settings of another type of mount"),
        ("volumes: [{type: tmpfs, target: /a, tmpfs: {mode: 999}}]", "not an octal file mode"),
        ("volumes: [{type: volume, target: /a, volume: {subpath: ../x}}]", "volume.subpath: not a path inside of it"),
        (
            "volumes: [{type: bind, source: /x, target: /a, bind: {recursive: sometimes}}]",
            "bind.recursive: not one of `enabled`",
        ),
    ]);
    assert!(web_warnings("volumes: ['./a:/b:cached']").contains("does nothing on Linux"));
    let near = file(&web_and("volumes: ['date:/d']", "volumes: {data: }\n")).fail();
    assert!(near.contains("Did you mean `data`?"), "{near}");
    let old = file(&web_and("volumes: ['a:/d']", "volumes: {a: {external: {name: x}}}")).ok();
    assert!(show(&old.warnings).contains("the old form of `external`"));
    assert_eq!(old.project.services["web"].container.mounts[0].source.as_deref(), Some("x"));
    for (volumes, want) in [
        ("volumes: {a b: }", "not a volume name"),
        ("volumes: {a: {external: true, driver: nfs}}", "volumes.a.driver: an external volume has no settings"),
        ("volumes: {a: {drivr: x}}", "Did you mean `driver`?"),
        ("volumes: [a]", "volumes: expected a map, found a list"),
    ] {
        let problems = file(&web_and("", volumes)).fail();
        assert!(problems.contains(want), "{volumes}\n{problems}");
    }
}

#[test]
fn dependencies_are_read_checked_and_free_of_cycles() {
    let text = "services:\n  a: {image: x, depends_on: [b]}\n  b:\n    image: x\n    depends_on:\n      c: {condition: service_healthy, restart: false}\n      d: {condition: service_started, required: false}\n      zz: {condition: service_started, required: false}\n  c: {image: x}\n  d: {image: x}\n";
    let parsed = file(text).ok();
    assert_eq!(parsed.project.services["a"].depends_on["b"].condition, Condition::ServiceStarted);
    let b = &parsed.project.services["b"].depends_on;
    assert_eq!(b["c"].condition, Condition::ServiceHealthy);
    assert_eq!(b["d"].condition, Condition::ServiceStarted);
    let job = text.replace("service_healthy", "service_completed_successfully");
    let job = file(&job).ok().project.services;
    assert_eq!(job["b"].depends_on["c"].condition, Condition::ServiceCompletedSuccessfully);
    assert!(job["c"].is_job && !job["b"].is_job, "what is waited for until it completes is a job");
    assert!(!b.contains_key("zz"));
    assert!(show(&parsed.warnings).contains("there is no service `zz`, and it is not required"));

    let ring = "services:\n  a: {image: x, depends_on: [c]}\n  b: {image: x, depends_on: [a]}\n  c: {image: x, depends_on: [b, d]}\n  d: {image: x, depends_on: [e]}\n  e: {image: x, depends_on: [d]}\n";
    let problems = file(ring).fail();
    assert!(
        problems.contains("services.a.depends_on[0]: services that wait for each other: a -> c -> b -> a"),
        "{problems}"
    );
    assert!(problems.contains("d -> e -> d"), "{problems}");
    assert_eq!(problems.lines().count(), 2, "{problems}");

    each_is_refused(&[
        ("depends_on: [wbe]", "there is no service `wbe`. Did you mean `web`?"),
        ("depends_on: [web]", "a service cannot depend on itself"),
        ("depends_on: {web: {}}", "`condition` is missing"),
        ("depends_on: {x: {condition: healthy}}", "not one of `service_started`"),
        ("depends_on: {x: {condition: service_started, restart: perhaps}}", "restart: not a boolean"),
    ]);
}

#[test]
fn healthchecks_are_read_in_every_form() {
    for (check, want) in [
        ("{test: curl -f http://x}", strings(&["CMD-SHELL", "curl -f http://x"])),
        ("{test: [CMD, curl, x]}", strings(&["CMD", "curl", "x"])),
        ("{test: [CMD-SHELL, curl x]}", strings(&["CMD-SHELL", "curl x"])),
        ("{test: [NONE]}", strings(&["NONE"])),
        ("{disable: true}", strings(&["NONE"])),
        ("{interval: 5s}", None),
    ] {
        assert_eq!(web(&format!("healthcheck: {check}")).container.healthcheck.unwrap().test, want, "{check}");
    }
    let check = web("healthcheck: {interval: 1m30s, timeout: 500ms, start_period: 0s, retries: 5}");
    let check = check.container.healthcheck.unwrap();
    assert_eq!((check.interval_ms, check.timeout_ms), (Some(90_000), Some(500)));
    assert_eq!((check.start_period_ms, check.retries), (None, Some(5)), "Docker reads 0 as the image's own");
    assert!(web_warnings("healthcheck: {test: [CMD-SHELL, curl, x]}").contains("only the word after `CMD-SHELL`"));
    each_is_refused(&[
        ("healthcheck: {test: [curl]}", "not a test that Docker can run"),
        ("healthcheck: {test: [CMD]}", "not a test that Docker can run"),
        ("healthcheck: {test: []}", "not a test that Docker can run"),
        ("healthcheck: {test: ''}", "test: empty"),
        ("healthcheck: {test: [CMD, a], disable: true}", "a test beside `disable: true`"),
        ("healthcheck: {start_interval: 1}", "start_interval: not a duration"),
        ("healthcheck: {interval: 10}", "not a duration. Write a number with its unit"),
    ]);
}

#[test]
fn container_settings_are_read() {
    let web = web(
        "labels: [a=1, b]\nuser: 1000:1000\nworking_dir: /srv\nstop_signal: SIGQUIT\nstop_grace_period: 1m\nmem_limit: 512m\ncpus: 0.5\nlogging: {driver: local, options: {max-size: 10m, max-file: 3}}",
    );
    let c = web.container;
    assert_eq!((c.labels["a"].as_str(), c.labels["b"].as_str()), ("1", ""));
    assert_eq!((c.user.as_deref(), c.working_dir.as_deref()), (Some("1000:1000"), Some("/srv")));
    assert_eq!((c.stop_signal.as_deref(), c.stop_grace_period_ms), (Some("SIGQUIT"), 60_000));
    assert_eq!((c.mem_limit_bytes, c.cpus_milli), (Some(512 << 20), Some(500)));
    let logging = c.logging.unwrap();
    assert_eq!((logging.driver.as_deref(), logging.options["max-file"].as_str()), (Some("local"), "3"));
    each_is_refused(&[
        ("labels: {teal.color: blue}", "belong to Teal"),
        ("labels: [com.docker.compose.project=x]", "belong to Compose"),
        ("labels: {a: [b]}", "labels.a: expected a string, found a list"),
        ("working_dir: srv", "not an absolute path"),
        ("mem_limit: 1m", "less than Docker's minimum of 6m"),
        ("mem_limit: lots", "not a size"),
        ("cpus: half", "not a number of cores"),
        ("stop_grace_period: soon", "not a duration"),
        ("logging: {drivr: x}", "Did you mean `driver`?"),
        ("user:\n  - a", "expected a string, found a list"),
    ]);
}

#[test]
fn a_setting_that_a_variable_leaves_empty_counts_as_not_written() {
    let lines: String =
        ["user", "working_dir", "restart", "stop_signal", "pull_policy", "stop_grace_period", "mem_limit", "cpus"]
            .iter()
            .map(|key| format!("{key}: ${{NOTHING:-}}\n"))
            .collect();
    assert_eq!(web(&lines), web(""));
}

#[test]
fn values_that_variables_blow_up_are_stopped() {
    let labels: String = (0..100).map(|n| format!("  l{n}: $BIG\n")).collect();
    let big = "x".repeat(1 << 19);
    let text = web_and(&format!("labels:\n{labels}"), "");
    let said = Input { text: &text, environment: &[("BIG", &big)], ..Input::default() }.fail();
    assert!(said.contains("the file grows beyond"), "{}", &said[..200]);
    assert!(!said.contains("xxxx"));
}

#[test]
fn restart_policies_and_signals_are_validated() {
    for (word, want) in [
        ("no", Restart::No),
        ("\"no\"", Restart::No),
        ("false", Restart::No),
        ("always", Restart::Always),
        ("unless-stopped", Restart::UnlessStopped),
        ("on-failure", Restart::OnFailure(0)),
        ("on-failure:3", Restart::OnFailure(3)),
    ] {
        assert_eq!(web(&format!("restart: {word}")).container.restart, want, "{word}");
    }
    for signal in ["SIGTERM", "term", "QUIT", "15", "SIGRTMIN+3", "SIGRTMAX-1", "SIGXFSZ"] {
        assert_eq!(web(&format!("stop_signal: {signal}")).container.stop_signal.as_deref(), Some(signal));
    }
    each_is_refused(&[
        ("restart: sometimes", "not a restart policy"),
        ("restart: on-failure:x", "not a restart policy"),
        ("stop_signal: SIGNOPE", "not a signal"),
        ("stop_signal: 0", "not a signal"),
        ("stop_signal: RTMIN+99", "not a signal"),
    ]);
}

#[test]
fn replicas_and_the_order_of_updates_are_read() {
    assert_eq!(web("scale: 3").replicas, 3);
    assert_eq!(web("deploy: {replicas: 2, mode: replicated}").replicas, 2);
    assert_eq!(web("scale: 2\ndeploy: {replicas: 2}").replicas, 2);
    assert_eq!(web("deploy: {replicas: '${N:-4}'}").replicas, 4);
    assert_eq!(web("deploy: {update_config: {order: start-first}}").order, Some(UpdateOrder::StartFirst));
    assert_eq!(web("deploy: {update_config: {order: stop-first}}").order, Some(UpdateOrder::StopFirst));
    each_is_refused(&[
        ("scale: 3\ndeploy: {replicas: 2}", "`scale` and `deploy.replicas` differ"),
        ("scale: 0", "no replica at all. Take the service out, or give it `profiles`"),
        ("scale: -1", "not a whole number"),
        ("deploy: {mode: everywhere}", "not one of `replicated`, `global`"),
        ("deploy: {mode: global, replicas: 2}", "`global` is one container a host"),
        ("deploy: {resources: {limits: {memory: 1g}}}\nmem_limit: 2g", "differs from `deploy.resources.limits.memory`"),
        ("deploy: {update_config: {parallelism: many}}", "update_config.parallelism: not a whole number"),
        ("deploy: {update_config: {order: start}}", "not one of `start-first`, `stop-first`"),
        ("deploy: {replica: 2}", "Did you mean `replicas`?"),
    ]);
}

#[test]
fn pull_policies_are_read() {
    for (word, want) in [
        ("always", PullPolicy::Always),
        ("never", PullPolicy::Never),
        ("missing", PullPolicy::Missing),
        ("if_not_present", PullPolicy::Missing),
        ("daily", PullPolicy::Always),
        ("every_12h", PullPolicy::Always),
    ] {
        assert_eq!(web(&format!("pull_policy: {word}")).pull_policy, want);
    }
    each_is_refused(&[
        ("pull_policy: build", "`build` without a `build`"),
        ("pull_policy: every_day", "not a pull policy"),
        ("pull_policy: allways", "Did you mean `always`?"),
    ]);
}

#[test]
fn a_variable_that_is_not_set_is_named_before_what_is_wrong_on_its_line() {
    let problems = file("services:\n  web:\n    image: app:${TAGG}\n    user: ${NOBODY}\n").fail();
    let lines: Vec<&str> = problems.lines().collect();
    assert!(lines[0].starts_with("compose.yaml:3: services.web.image: variable `TAGG` is not set"), "{problems}");
    assert!(lines[1].contains("not an image reference: there is no tag"), "{problems}");
    assert_eq!(lines.len(), 2, "of other lines it is a warning: {problems}");
}

#[test]
fn an_image_is_named_or_built() {
    let built = file("services:\n  web:\n    build: .\n").ok().project.services["web"].clone();
    assert_eq!((built.container.image.as_str(), built.pull_policy), ("shop-web", PullPolicy::Never));
    let none = file("services:\n  web:\n    user: x\n").fail();
    assert!(none.contains("services.web: `image` is missing"), "{none}");
    assert!(file("services: {web: {image: 'a b'}}").fail().contains("not an image reference"));
    assert!(
        file("services: {web: {image: 'app:$NONE'}}")
            .fail()
            .contains("compose.yaml:1: services.web.image: not an image")
    );
    let digest = format!("localhost:5000/team/app@sha256:{}", "0a".repeat(32));
    let text = format!("services: {{web: {{image: '{digest}'}}}}");
    assert_eq!(file(&text).ok().project.services["web"].container.image, digest);
}

#[test]
fn the_old_version_key_is_a_warning() {
    let parsed = file("version: '3.8'\nservices: {web: {image: a}}\n").ok();
    assert!(show(&parsed.warnings).contains("version: `version` is obsolete"));
}
