//! Several files make one project: `-f`, `include`, `extends`, profiles.

use crate::common::{Input, show, web_and};
use teal_model::config::{Condition, Parsed, Port, Service};

const WEB: &str = "services:\n  web:\n    image: app:1\n";

/// `compose.yaml` with these lines under `web`, and an override with others.
fn merged(base: &str, over: &str) -> Service {
    let over = web_and(over, "").replace("    image: app:1\n", "");
    let input = Input { text: &web_and(base, ""), over: &[("over.yaml", &over)], ..Input::default() };
    input.ok().project.services["web"].clone()
}

fn ports(service: &Service) -> Vec<(u16, u16)> {
    service.ports.iter().map(|Port { published, target, .. }| (*published, *target)).collect()
}

#[test]
fn maps_merge_scalars_are_replaced_and_lists_grow() {
    let web = merged("user: one\ndeploy: {replicas: 2}\ncap_add: [A]", "user: two\nrestart: always\ncap_add: [A, B]");
    assert_eq!((web.container.user.as_deref(), web.replicas), (Some("two"), 2));
    assert_eq!(web.container.isolation.cap_add, ["A", "B"], "what is the same is there once");
    assert_eq!(merged("user: one", "user: null").container.user.as_deref(), Some("one"), "null changes nothing");
}

#[test]
fn commands_and_tests_are_replaced_as_a_whole() {
    let web = merged(
        "command: [a, b]\nentrypoint: [x]\nhealthcheck: {test: [CMD, a], interval: 5s}",
        "command: c\nentrypoint: y z\nhealthcheck: {test: b}",
    );
    assert_eq!(web.container.command.unwrap(), ["c"]);
    assert_eq!(web.container.entrypoint.unwrap(), ["y", "z"]);
    let check = web.container.healthcheck.unwrap();
    assert_eq!((check.test.unwrap(), check.interval_ms), (vec!["CMD-SHELL".to_owned(), "b".to_owned()], Some(5_000)));
}

#[test]
fn environments_and_labels_merge_in_either_form() {
    for (base, over) in [("[A=1, B=1]", "{B: 2, C: 3}"), ("{A: 1, B: 1}", "[B=2, C=3]"), ("[A=1, B=1]", "[B=2, C=3]")] {
        let web =
            merged(&format!("environment: {base}\nlabels: {base}"), &format!("environment: {over}\nlabels: {over}"));
        for map in [&web.container.environment, &web.container.labels] {
            assert_eq!((map["A"].as_str(), map["B"].as_str(), map["C"].as_str()), ("1", "2", "3"), "{base} {over}");
        }
    }
}

#[test]
fn mounts_are_told_apart_by_their_target_and_ports_by_all_they_say() {
    let web = merged(
        "volumes: ['./a:/x', './b:/y']\nports: ['80:80', '81:81/udp']",
        "volumes: [{type: bind, source: ./c, target: /x/}]\nports: ['80:80', '81:81', {target: 81, published: 81, protocol: udp}]",
    );
    let sources: Vec<_> = web.container.mounts.iter().map(|mount| mount.source.clone().unwrap()).collect();
    assert_eq!(sources, ["/srv/shop/c", "/srv/shop/b"]);
    assert_eq!(ports(&web), [(80, 80), (81, 81), (81, 81)]);
}

#[test]
fn dependencies_networks_and_builds_merge_in_either_form() {
    let more = "  db: {image: d}\n  mq: {image: m}\nnetworks: {back: , front: }\n";
    let base = web_and("depends_on: [db]\nnetworks: [back]\nbuild: ./app\ndns: 1.1.1.1", more);
    let over = "services:\n  web:\n    depends_on: {db: {condition: service_healthy}, mq: {condition: service_started}}\n    networks: {back: {aliases: [x]}, front: }\n    build: {target: prod}\n    dns: [8.8.8.8]\n";
    let web = Input { text: &base, over: &[("o.yaml", over)], ..Input::default() }.ok().project.services["web"].clone();
    assert_eq!(web.depends_on["db"].condition, Condition::ServiceHealthy);
    assert_eq!(web.depends_on.len(), 2);
    assert_eq!(web.networks["back"].aliases, ["x"]);
    assert!(web.networks.contains_key("front") && !web.networks.contains_key("default"));
    let build = web.build.unwrap();
    assert_eq!((build.context.as_str(), build.target.as_deref()), ("/srv/shop/app", Some("prod")));
    assert_eq!(web.container.resolver.dns, ["1.1.1.1", "8.8.8.8"]);
}

#[test]
fn reset_takes_out_and_override_replaces() {
    let web = merged("ports: ['80:80']\nuser: x\nenvironment: {A: 1}", "ports: !override ['81:81']\nuser: !reset null");
    assert_eq!(ports(&web), [(81, 81)]);
    assert_eq!((web.container.user, web.container.environment.len()), (None, 1));
    let web = merged("ports: ['80:80']\nenvironment: {A: 1, B: 2}", "ports: !reset []\nenvironment: {A: !reset null}");
    assert_eq!((web.ports.len(), web.container.environment.len()), (0, 1));
}

#[test]
fn a_logging_driver_brings_its_own_options() {
    let base = "logging: {driver: json-file, options: {max-size: 1m}}";
    assert_eq!(merged(base, "logging: {options: {max-file: '3'}}").container.logging.unwrap().options.len(), 2);
    assert!(merged(base, "logging: {driver: local}").container.logging.unwrap().options.is_empty());
}

#[test]
fn a_problem_names_the_file_that_it_is_in() {
    let over = "services:\n  web:\n    restart: sometimes\n    labels: {a: [b]}\n    deploy: 3\n";
    let base = web_and("ports: ['x:80']\ndeploy: {replicas: 1}", "");
    let said = Input { text: &base, over: &[("prod.yaml", over)], ..Input::default() }.fail();
    for want in [
        "compose.yaml:4: services.web.ports[0]: the published port is not a number",
        "prod.yaml:3: services.web.restart: not a restart policy",
        "prod.yaml:4: services.web.labels.a: expected a string",
        "prod.yaml:5: services.web.deploy: a number cannot be merged into a map (compose.yaml:5)",
    ] {
        assert!(said.contains(want), "{want}\n{said}");
    }
    let broken = Input { text: WEB, over: &[("prod.yaml", "a: [\n"), ("more.yaml", "\tb")], ..Input::default() }.fail();
    assert!(broken.contains("prod.yaml:2: a") && broken.contains("more.yaml:1"), "both are told: {broken}");
}

fn with_files(text: &str, files: &[(&str, &str)]) -> Parsed {
    Input { text, files, ..Input::default() }.ok()
}

#[test]
fn an_included_project_keeps_its_own_folder_and_variables() {
    let text = "name: shop\ninclude: [sub/db.yaml]\nservices: {web: {image: 'app:${TAG:-own}', depends_on: [db]}}\n";
    let files: &[(&str, &str)] = &[
        (
            "sub/db.yaml",
            "name: other\nservices:\n  db:\n    image: 'pg:${TAG:-none}'\n    env_file: db.env\n    environment: [TAG]\n    volumes: ['./data:/d', 'v:/v']\nvolumes: {v: }\n",
        ),
        ("sub/.env", "TAG=16\n"),
        ("sub/db.env", "A=1\n"),
    ];
    let project = with_files(text, files).project;
    let db = &project.services["db"].container;
    assert_eq!((db.image.as_str(), project.services["web"].container.image.as_str()), ("pg:16", "app:own"));
    assert_eq!((db.environment["A"].as_str(), db.environment["TAG"].as_str()), ("1", "16"));
    assert_eq!(db.mounts[0].source.as_deref(), Some("/srv/shop/sub/data"));
    assert_eq!(project.volumes["v"].name, "shop_v", "the project's name is the including one's");
    let input = Input { text, files, environment: &[("TAG", "17")], ..Input::default() };
    assert_eq!(
        input.ok().project.services["db"].container.image,
        "pg:17",
        "the including project's variables go first"
    );
}

#[test]
fn what_is_included_may_be_changed_by_an_override_file_but_not_beside_it() {
    let files: &[(&str, &str)] = &[("a.yaml", "services: {db: {image: 'pg:1', user: x}}\n")];
    let text = "include: [a.yaml]\n";
    let over: &[(&str, &str)] = &[("over.yaml", "services: {db: {image: 'pg:2'}}\n")];
    let db = Input { text, files, over, ..Input::default() }.ok().project.services["db"].container.clone();
    assert_eq!((db.image.as_str(), db.user.as_deref()), ("pg:2", Some("x")));
    let text = "include: [a.yaml]\nservices: {db: {image: 'pg:2'}}\n";
    let said = Input { text, files, ..Input::default() }.fail();
    assert!(
        said.contains("compose.yaml:2: services.db: it is in an included file too, and differs there (a.yaml:1)"),
        "{said}"
    );
    let same = "include: [a.yaml, {path: [a.yaml]}]\nservices: {db: {user: x, image: 'pg:1'}}\n";
    assert_eq!(with_files(same, files).project.services.len(), 1, "the same twice is no conflict");
}

#[test]
fn a_file_that_is_not_there_is_told_where_it_is_named() {
    let text = "include:\n  - none.yaml\nservices:\n  web:\n    extends:\n      service: x\n      file: gone.yaml\n    image: a\n";
    let said = Input { text, ..Input::default() }.fail();
    assert!(said.contains("compose.yaml:2: include[0]: the file does not exist"), "{said}");
    assert!(said.contains("compose.yaml:7: services.web.extends: the file does not exist"), "{said}");
    let denied = Input { text: "include: [a.yaml]\n", files: &[("a.yaml", "denied")], ..Input::default() }.fail();
    assert!(denied.contains("the file cannot be read: permission denied"), "{denied}");
}

#[test]
fn a_service_extends_others_over_files_and_steps() {
    let files: &[(&str, &str)] = &[(
        "base/common.yaml",
        "services:\n  root: {restart: always, environment: {A: root, B: root}}\n  app:\n    extends: {service: root}\n    environment: [B=app]\n    volumes: ['./conf:/conf']\n",
    )];
    let text = "services:\n  web:\n    extends: {file: base/common.yaml, service: app}\n    image: app:1\n    environment: {C: web}\n  more: {extends: web, image: 'app:2'}\n";
    let project = with_files(text, files).project;
    let more = &project.services["more"].container;
    assert_eq!((more.image.as_str(), more.mounts[0].source.as_deref()), ("app:2", Some("/srv/shop/base/conf")));
    let environment: Vec<_> = more.environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(environment, ["A=root", "B=app", "C=web"]);
    assert!(!project.services.contains_key("root"), "only what is named comes along");
}

#[test]
fn a_chain_of_extends_without_end_is_stopped() {
    let mut text = "services:\n  s0: {image: a}\n".to_owned();
    for n in 1..500 {
        text += &format!("  s{n}: {{extends: s{}, image: a}}\n", n - 1);
    }
    assert_eq!(
        with_files(&text, &[]).project.services.len(),
        500,
        "each step was made already when the next one needs it"
    );
    let backwards: Vec<&str> = text.lines().skip(1).collect();
    let text = backwards.into_iter().rev().fold("services:\n".to_owned(), |text, line| text + line + "\n");
    let said = Input { text: &text, ..Input::default() }.fail();
    assert!(said.contains("more than 100 services that extend each other"), "{}", &said[..300]);
}

#[test]
fn x_teal_of_an_included_project_is_told_to_have_no_effect() {
    let text = "include: [a.yaml]\nservices: {web: {image: x}}\n";
    let parsed = with_files(text, &[("a.yaml", "x-teal: {trusted_proxies: private}\n")]);
    assert!(show(&parsed.warnings).contains("a.yaml:1: x-teal: has no effect in an included file"));
    assert!(parsed.project.trusted_proxies.is_empty());
}

#[test]
fn an_override_file_may_extend_what_an_earlier_file_defines() {
    let over = "services:\n  copy: {extends: web, user: x}\n";
    let project = Input { text: WEB, over: &[("o.yaml", over)], ..Input::default() }.ok().project;
    assert_eq!(project.services["copy"].container.image, "app:1");
}

#[test]
fn circles_of_extends_and_includes_are_told_once() {
    let text = "services:\n  a: {extends: b, image: x}\n  b: {extends: {service: a, file: ./compose.yaml}, image: x}\n";
    let said = Input { text, ..Input::default() }.fail();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("services that extend each other: b -> a -> b") || said.contains("a -> b -> a"), "{said}");
    let files: &[(&str, &str)] = &[("a.yaml", "include: [b.yaml]\n"), ("b.yaml", "include: [a.yaml]\n")];
    let said = Input { text: "include: [a.yaml]\nservices: {web: {image: x}}\n", files, ..Input::default() }.fail();
    assert!(said.contains("b.yaml:1: include[0]: files that include each other"), "{said}");
}

const PROFILES: &str = "services:\n  web: {image: a}\n  debug: {image: d, profiles: [dev, test]}\n  tools: {image: t, profiles: [tools], depends_on: [debug], env_file: none.env}\n";

#[test]
fn a_service_with_profiles_waits_for_one_of_them() {
    let names = |input: Input<'_>| input.ok().project.services.keys().cloned().collect::<Vec<_>>();
    let base = || Input { text: PROFILES, ..Input::default() };
    assert_eq!(names(base()), ["web"]);
    assert_eq!(base().ok().project.disabled["debug"], ["dev", "test"]);
    assert_eq!(names(Input { profiles: &["test"], ..base() }), ["debug", "web"]);
    assert_eq!(names(Input { dotenv: Some("COMPOSE_PROFILES=x,dev"), ..base() }), ["debug", "web"]);
    assert_eq!(names(Input { services: &["debug"], ..base() }), ["debug", "web"], "a named one brings its own");
    let all = Input { profiles: &["*"], files: &[("none.env", "")], ..base() };
    assert_eq!(names(all), ["debug", "tools", "web"]);
    let said = Input { services: &["tools"], files: &[("none.env", "")], ..base() }.fail();
    assert!(
        said.contains("depends_on[0]: `debug` waits for a profile that was not chosen. Choose it with `--profile dev`"),
        "{said}"
    );
    let only = "services:\n  web: {image: a, profiles: [x]}\n";
    assert!(Input { text: only, ..Input::default() }.fail().contains("every service waits for a profile"));
}

#[test]
fn a_service_that_waits_is_still_read() {
    let text = "services:\n  web: {image: a}\n  debug: {imagge: d, profiles: [dev]}\n";
    let said = Input { text, ..Input::default() }.fail();
    assert!(said.contains("services.debug.imagge: unknown key. Did you mean `image`?"), "{said}");
}

#[test]
fn the_last_file_that_has_a_name_gives_it() {
    let input = Input { text: &format!("name: one\n{WEB}"), over: &[("o.yaml", "name: two\n")], ..Input::default() };
    assert_eq!(input.ok().project.name, "two");
}

#[test]
fn a_warning_of_an_unset_variable_names_its_file() {
    let over = "services: {web: {user: 'a$WHO'}}\n";
    let parsed = Input { text: WEB, over: &[("o.yaml", over)], ..Input::default() }.ok();
    assert!(show(&parsed.warnings).starts_with("o.yaml:1: services.web.user: variable `WHO` is not set"));
}
