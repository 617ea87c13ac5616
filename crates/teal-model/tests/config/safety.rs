//! How a release proves itself, and what takes it back: bake, rollback, canary, preview and what runs before.

use crate::common::{Input, each_is_refused, file, show, web, web_and, web_warnings};
use teal_model::config::{
    CanaryStep, FailureAction, Judge, JudgeAsks, Migrate, PRIVATE_RANGES, Pace, Preview, Retain, Rollback, RollbackOn,
    Service, ServiceSettings, Smoke, SmokeCheck, Sticky, Strategy, Warmup,
};

fn teal(settings: &str) -> ServiceSettings {
    web(&format!("ports: ['80:8080']\nx-teal: {settings}")).teal
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn step(share: u32, ms: u64) -> CanaryStep {
    CanaryStep { share, pace: Pace::For { ms }, replicas: None }
}

fn with_token(token: &str) -> Option<Preview> {
    Some(Preview { networks: Vec::new(), token: Some(token.to_owned()) })
}

#[test]
fn a_file_that_says_nothing_bakes_five_minutes_and_retains_ten() {
    let teal = web("").teal;
    assert_eq!((teal.bake_ms, teal.retain, teal.keep), (300_000, Retain::For { ms: 600_000 }, 5));
    assert_eq!(teal.rollback.on, RollbackOn { errors: true, latency: false, facts: true, history: false });
    assert_eq!((teal.strategy, teal.canary.len(), teal.preview), (None, 0, None));
}

#[test]
fn what_stays_of_a_release_is_a_time_and_a_number() {
    for (retain, want) in [
        ("0", Retain::For { ms: 0 }),
        ("10m", Retain::For { ms: 600_000 }),
        ("1h30m", Retain::For { ms: 5_400_000 }),
        ("until-next", Retain::UntilNext),
    ] {
        assert_eq!(teal(&format!("{{retain: {retain}, keep: 9}}")).retain, want, "{retain}");
    }
    assert_eq!(teal("{keep: 100, bake: 1m}").keep, 100);
    assert_eq!(teal("{bake: 0}").bake_ms, 0);
    each_is_refused(&[
        ("x-teal: {retain: forever}", "x-teal.retain: not a duration. Write `10m`, `0` or `until-next`."),
        ("x-teal: {retain: 10}", "not a duration"),
        ("x-teal: {keep: 0}", "x-teal.keep: not a whole number from 1 to 100"),
        ("x-teal: {keep: 101}", "from 1 to 100"),
        ("x-teal: {bake: 5}", "x-teal.bake: not a duration"),
    ]);
}

#[test]
fn a_canary_is_blue_green_in_steps() {
    let plain = teal("{strategy: canary}");
    assert_eq!(plain.strategy, Some(Strategy::BlueGreen));
    let minutes = |share| step(share, 120_000);
    assert_eq!(plain.canary, [minutes(100), minutes(500), minutes(2_500), minutes(5_000)]);
    for (canary, want) in [
        ("10%", vec![minutes(1_000)]),
        ("[10%, 50%]", vec![minutes(1_000), minutes(5_000)]),
        ("[0.5% 30s, '33.33% 1h']", vec![step(50, 30_000), step(3_333, 3_600_000)]),
        ("[25% 5m, 100%]", vec![step(2_500, 300_000)]),
        ("{percent: 10, for: 5m}", vec![step(1_000, 300_000)]),
        (
            "[{percent: 0.01, for: manual}, 50% manual, {percent: 100}]",
            vec![1, 5_000].into_iter().map(|share| CanaryStep { pace: Pace::Manual, ..minutes(share) }).collect(),
        ),
    ] {
        for strategy in ["", "strategy: canary, "] {
            let read = teal(&format!("{{{strategy}canary: {canary}}}"));
            assert_eq!((read.strategy, read.canary), (Some(Strategy::BlueGreen), want.clone()), "{canary}");
        }
    }
    let some = web("x-teal: {canary: [0% manual, 50%]}").teal.canary;
    assert_eq!(some.iter().map(|step| step.share).collect::<Vec<_>>(), [0, 5_000], "previews alone");
}

#[test]
fn a_canary_that_does_not_grow_is_refused() {
    for (canary, want) in [
        ("[10%, 10%]", "x-teal.canary[1]: not more than the step before"),
        ("[50%, 10%]", "not more than the step before"),
        ("[100%, 50%]", "not more than the step before"),
        ("[half]", "not a step of a canary. Write `10%`, `\"10% 5m\"`"),
        ("[10%, 0%]", "not more than the step before"),
        ("[101%]", "x-teal.canary[0]: more than 100 %, which is all requests. Write `10%`"),
        ("[5%, 150% 2m]", "x-teal.canary[1]: more than 100 %"),
        ("{percent: 150}", "canary.percent: more than 100 %"),
        ("[0.001%]", "not a step"),
        ("[10]", "not a step"),
        ("[10% 5]", "not a step"),
        ("[10% 0s]", "not a step"),
        ("true", "x-teal.canary: not a step"),
        ("[50%, 100% 5m]", "all requests are the last step, and it lasts as long as `bake`"),
        ("[]", "x-teal.canary: no step below 100%"),
        ("100%", "no step below 100%"),
        ("{for: 5m}", "`percent` is missing"),
        ("{percent: many}", "canary.percent: not a share of the requests"),
        ("{percent: 5, for: ever}", "canary.for: not a duration. Write `5m` or `manual`."),
        ("{steps: [10%]}", "canary.steps: not supported. Write the list itself"),
    ] {
        each_is_refused(&[(&format!("x-teal: {{canary: {canary}}}"), want)]);
    }
    each_is_refused(&[
        ("x-teal: {strategy: recreate, canary: 10%}", "x-teal.canary: contradicts the `strategy`"),
        ("x-teal: {strategy: blue-green, canary: 10%}", "Write `strategy: canary`, or take this out."),
        ("container_name: one\nx-teal: {canary: 10%}", "x-teal.canary: two releases cannot run side by side"),
    ]);
    let problems = file(&web_and("x-teal: {canary: {steps: [10%]}}", "")).fail();
    assert_eq!(problems.lines().count(), 1, "one slip is told once: {problems}");
}

#[test]
fn the_candidates_replicas_grow_with_the_steps() {
    let of_four = |canary: &str| -> Vec<Option<u32>> {
        let settings = web(&format!("deploy: {{replicas: 4}}\nx-teal: {{canary: {canary}}}")).teal;
        settings.canary.iter().map(|step| step.replicas).collect()
    };
    for (canary, want) in [
        ("[5%, 50%]", vec![None, None]),
        ("{percent: 5, replicas: 1}", vec![Some(1)]),
        (
            "[{percent: 5, replicas: 1}, 25%, {percent: 50, replicas: 3}, '75% 1h']",
            vec![Some(1), Some(1), Some(3), Some(3)],
        ),
        ("[{percent: 5, replicas: 2, for: manual}, {percent: 50, replicas: 2}, 100%]", vec![Some(2), Some(2)]),
        ("[5%, {percent: 50, replicas: 4}]", vec![None, Some(4)]),
    ] {
        assert_eq!(of_four(canary), want, "{canary}");
    }
    let one = "x-teal: {canary: {percent: 5, replicas: 1}}";
    assert_eq!(web(one).teal.canary[0].replicas, Some(1), "of one");
    assert_eq!(
        web(&format!("scale: 3\n{}", one.replace("replicas: 1", "replicas: 3"))).teal.canary[0].replicas,
        Some(3)
    );
}

#[test]
fn replicas_that_a_service_does_not_have_or_that_would_go_again_are_refused() {
    for (canary, want) in [
        (
            "{percent: 5, replicas: 5}",
            "x-teal.canary.replicas: not a number of replicas from 1 to 4. How many the service has",
        ),
        ("[{percent: 5, replicas: 0}]", "x-teal.canary[0].replicas: not a number of replicas from 1 to 4"),
        ("{percent: 5, replicas: half}", "canary.replicas: not a number of replicas"),
        ("{percent: 5, replicas: [1]}", "canary.replicas: "),
        (
            "[{percent: 5, replicas: 3}, {percent: 50, replicas: 2}]",
            "x-teal.canary[1].replicas: 2 of 4 replicas, and the step before runs 3. Let no step run fewer",
        ),
        (
            "[{percent: 5, replicas: 2}, 10%, {percent: 50, replicas: 1}]",
            "canary[2].replicas: 1 of 4 replicas, and the step before runs 2",
        ),
        ("[5%, {percent: 50, replicas: 2}]", "canary[1].replicas: 2 of 4 replicas, and the step before runs 4"),
        (
            "[5%, {percent: 100, replicas: 2}]",
            "canary[1].replicas: all requests are the last step, and all replicas run in it. Take it out.",
        ),
    ] {
        each_is_refused(&[(&format!("deploy: {{replicas: 4}}\nx-teal: {{canary: {canary}}}"), want)]);
    }
    each_is_refused(&[("x-teal: {canary: {percent: 5, replicas: 2}}", "not a number of replicas from 1 to 1")]);
}

#[test]
fn a_canary_over_a_writable_volume_counts_as_written() {
    for way in ["strategy: canary", "canary: 10%"] {
        let said = web_warnings(&format!("volumes: ['./a:/data']\nx-teal: {{{way}}}"));
        assert!(said.contains("two releases will write to the volume at `/data`"), "{said}");
    }
}

#[test]
fn users_are_told_apart_by_cookie_header_or_address() {
    for (sticky, want) in [
        ("cookie", Sticky::Cookie { name: "teal".to_owned() }),
        ("{cookie: release}", Sticky::Cookie { name: "release".to_owned() }),
        ("{header: X-User-Id}", Sticky::Header { name: "X-User-Id".to_owned() }),
        ("address", Sticky::Address),
    ] {
        assert_eq!(teal(&format!("{{sticky: {sticky}}}")).sticky, Some(want), "{sticky}");
    }
    each_is_refused(&[
        ("x-teal: {sticky: header}", "x-teal.sticky: not something that tells users apart. Write `cookie`"),
        ("x-teal: {sticky: {}}", "neither one cookie nor one header"),
        ("x-teal: {sticky: {cookie: a, header: b}}", "neither one cookie nor one header"),
        ("x-teal: {sticky: {cookie: 'a;b'}}", "sticky.cookie: not a name"),
        ("x-teal: {sticky: {coookie: a}}", "Did you mean `cookie`?"),
    ]);
}

#[test]
fn a_preview_is_for_those_that_it_names() {
    assert_eq!(teal("{preview: false}").preview, None);
    let some = teal("{preview: {networks: [10.1.2.3/8, '::1'], token: 0123456789abcdef}}").preview;
    let networks = ["10.0.0.0/8", "::1/128"].map(str::to_owned).to_vec();
    assert_eq!(some, Some(Preview { networks, token: Some("0123456789abcdef".to_owned()) }));
    let private = teal("{preview: {networks: private}}").preview.unwrap_or_default();
    let loopback = |range: &&str| ["127.0.0.0/8", "::1/128"].contains(range);
    let all: Vec<&str> = PRIVATE_RANGES.into_iter().filter(|range| !loopback(range)).collect();
    assert_eq!(private.networks, all, "a proxy of this host is no neighbour");
    let this_host = teal("{preview: {networks: [private, 127.0.0.1]}}").preview.unwrap_or_default();
    assert_eq!(this_host.networks.last().map(String::as_str), Some("127.0.0.1/32"), "unless it is named");
    each_is_refused(&[
        ("x-teal: {preview: yes please}", "x-teal.preview: not a boolean"),
        ("x-teal: {preview: true}", "x-teal.preview: does not say who may ask. Write `{token: "),
        ("x-teal: {preview: {}}", "x-teal.preview: does not say who may ask"),
        ("x-teal: {preview: {networks: office}}", "preview.networks: not an address or a range"),
        ("x-teal: {preview: {token: short}}", "preview.token: not a word that nobody guesses"),
        ("x-teal: {preview: {token: 'sixteen and more blanks'}}", "not a word that nobody guesses"),
    ]);
}

#[test]
fn the_token_of_a_preview_is_in_no_problem() {
    let text = web_and("x-teal: {preview: {token: $TOKEN}}", "");
    for token in ["open sesame, open", "sesame", ""] {
        let said = Input { text: &text, environment: &[("TOKEN", token)], ..Input::default() }.fail();
        assert!(said.contains("preview.token: not a word that nobody guesses") && !said.contains("sesame"), "{said}");
    }
    let input = Input { text: &text, environment: &[("TOKEN", "a-word-that-nobody-guesses")], ..Input::default() };
    assert_eq!(input.ok().project.services["web"].teal.preview, with_token("a-word-that-nobody-guesses"));
}

#[test]
fn assets_are_found_under_prefixes() {
    assert_eq!(teal("{skew_guard: /assets/}").skew_guard, ["/assets"]);
    assert_eq!(teal("{skew_guard: [/assets, /static/js]}").skew_guard, ["/assets", "/static/js"]);
    each_is_refused(&[
        ("x-teal: {skew_guard: /}", "x-teal.skew_guard: every request that finds nothing would be asked twice"),
        ("x-teal: {skew_guard: [assets]}", "skew_guard[0]: not a path"),
        ("x-teal: {skew_guard: true}", "not a path. Write the folder of your assets: `/assets`."),
    ]);
}

#[test]
fn what_needs_requests_is_refused_where_the_proxy_sees_none() {
    each_is_refused(&[
        ("x-teal: {mode: tcp, sticky: cookie}", "x-teal.sticky: with `mode: tcp` the proxy passes bytes"),
        ("x-teal: {mode: tcp, preview: {networks: private}}", "x-teal.preview: with `mode: tcp`"),
        ("x-teal: {mode: direct, skew_guard: /a}", "x-teal.skew_guard: with `mode: direct` no request passes"),
        (
            "expose: [80]\nx-teal: {traffic: nginx, preview: {networks: private}}",
            "x-teal.preview: nginx carries the requests",
        ),
    ]);
    assert_eq!(teal("{mode: tcp, sticky: address}").sticky, Some(Sticky::Address));
    let text = web_and("x-teal: {mode: tcp}", "x-teal: {preview: {networks: private}}\n");
    assert_eq!(file(&text).ok().project.services["web"].teal.preview, None, "the project's is for the others");
}

#[test]
fn a_migration_is_a_command_with_a_time() {
    let want = |command: &str, timeout_ms| Some(Migrate { command: words(command), timeout_ms });
    for (migrate, want) in [
        ("rails db:migrate", want("rails db:migrate", 600_000)),
        ("[rails, 'db:migrate']", want("rails db:migrate", 600_000)),
        ("{command: rails db:migrate, timeout: 1h}", want("rails db:migrate", 3_600_000)),
        ("{command: [./migrate]}", want("./migrate", 600_000)),
    ] {
        assert_eq!(teal(&format!("{{migrate: {migrate}}}")).migrate, want, "{migrate}");
    }
    each_is_refused(&[
        ("x-teal: {migrate: a && b}", "x-teal.migrate: `&` needs a shell, and none runs here"),
        ("x-teal: {migrate: []}", "an empty command"),
        ("x-teal: {migrate: ''}", "an empty command"),
        ("x-teal: {migrate: {timeout: 1m}}", "`command` is missing"),
        ("x-teal: {migrate: {command: a, timeout: 0}}", "migrate.timeout: must be longer than 0"),
    ]);
}

#[test]
fn smoke_tests_are_paths_and_commands() {
    let http = |path: &str, status, host: Option<&str>| SmokeCheck::Http {
        path: path.to_owned(),
        status,
        host: host.map(str::to_owned),
    };
    let command = |text| SmokeCheck::Command { command: words(text) };
    for (smoke, checks, timeout_ms) in [
        ("/up", vec![http("/up", None, None)], 60_000),
        (
            "{path: '/up?x=1', status: 204, host: a.example}",
            vec![http("/up?x=1", Some(204), Some("a.example"))],
            60_000,
        ),
        ("{command: ./smoke.sh --fast}", vec![command("./smoke.sh --fast")], 60_000),
        ("[/up, {command: [./a, b]}]", vec![http("/up", None, None), command("./a b")], 60_000),
        ("{checks: /up, timeout: 10s}", vec![http("/up", None, None)], 10_000),
        ("{checks: [/a, {path: /b}]}", vec![http("/a", None, None), http("/b", None, None)], 60_000),
    ] {
        assert_eq!(teal(&format!("{{smoke: {smoke}}}")).smoke, Some(Smoke { checks, timeout_ms }), "{smoke}");
    }
    each_is_refused(&[
        (
            "x-teal: {smoke: ./smoke.sh}",
            "x-teal.smoke: not a path. Start it with `/`; a program is written `{command: [./smoke.sh]}`.",
        ),
        ("x-teal: {smoke: []}", "x-teal.smoke: no checks"),
        ("x-teal: {smoke: {timeout: 1m}}", "x-teal.smoke: no checks"),
        ("x-teal: {smoke: {}}", "neither one path nor one command"),
        ("x-teal: {smoke: [{path: /a, command: b}]}", "smoke[0]: neither one path nor one command"),
        ("x-teal: {smoke: {command: a, status: 200}}", "smoke.status: means nothing to a command"),
        ("x-teal: {smoke: {path: /a, status: 2}}", "a whole number from 100 to 599"),
    ]);
}

#[test]
fn replicas_are_warmed_with_what_health_asks_for() {
    let want = |requests, paths: &[&str], concurrency, timeout_ms| {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Some(Warmup { requests, paths, concurrency, timeout_ms })
    };
    for (health, want) in [
        ("{warmup: 50}", want(50, &["/"], 4, 60_000)),
        ("{warmup: 0}", None),
        ("{warmup: {}}", want(100, &["/"], 4, 60_000)),
        ("{path: /healthz, warmup: 50}", want(50, &["/healthz"], 4, 60_000)),
        ("{path: /healthz, warmup: {path: /}}", want(100, &["/"], 4, 60_000)),
        ("{warmup: {requests: 500, paths: [/, /a], concurrency: 8, timeout: 30s}}", want(500, &["/", "/a"], 8, 30_000)),
    ] {
        assert_eq!(teal(&format!("{{health: {health}}}")).health.warmup, want, "{health}");
    }
    each_is_refused(&[
        ("x-teal: {health: {warmup: yes}}", "health.warmup: not a whole number from 0 to 100000"),
        ("x-teal: {health: {warmup: {path: a}}}", "warmup.path: not a path"),
        ("x-teal: {health: {warmup: {path: /a, paths: [/b]}}}", "Keep one of the two."),
        ("x-teal: {health: {warmup: {paths: []}}}", "no paths"),
        ("x-teal: {health: {warmup: {requests: 0}}}", "a whole number from 1 to 100000"),
    ]);
}

fn rollback(text: &str) -> Rollback {
    teal(&format!("{{rollback: {text}}}")).rollback
}

#[test]
fn a_rollback_says_what_it_listens_to() {
    let none = RollbackOn { errors: false, latency: false, facts: false, history: false };
    for (text, on) in [
        ("{}", RollbackOn::default()),
        ("none", none),
        ("{on: none}", none),
        ("{on: errors}", RollbackOn { errors: true, ..none }),
        (
            "{on: [errors, latency, facts, history]}",
            RollbackOn { errors: true, latency: true, facts: true, history: true },
        ),
    ] {
        assert_eq!(rollback(text), Rollback { on, ..Rollback::default() }, "{text}");
    }
    let full =
        rollback("{action: pause, evidence: 500, contain: 50, ratio: 2, margin: 0.5%, min_requests: 100, extend: 1h}");
    let want = Rollback {
        action: FailureAction::Pause,
        revert_at: 500.0,
        contain_at: 50.0,
        ratio: 2.0,
        margin: 0.005,
        min_requests: 100,
        extend_ms: 3_600_000,
        ..Rollback::default()
    };
    assert_eq!(full, want);
}

#[test]
fn others_may_judge_a_release() {
    let judges = rollback(
        "{judges: [{name: ping, command: ./judge.sh -x, every: 5s, timeout: 2s, failures: 3}, \
         {name: orders, prometheus: 'http://127.0.0.1:9090/prom/', query: 'rate(failed[1m]) > 1'}]}",
    )
    .judges;
    let command = JudgeAsks::Command { command: words("./judge.sh -x") };
    let ping = Judge { name: "ping".to_owned(), asks: command, every_ms: 5_000, timeout_ms: 2_000, failures: 3 };
    let asks = JudgeAsks::Prometheus {
        url: "http://127.0.0.1:9090/prom".to_owned(),
        query: "rate(failed[1m]) > 1".to_owned(),
    };
    let orders = Judge { name: "orders".to_owned(), asks, every_ms: 10_000, timeout_ms: 10_000, failures: 1 };
    assert_eq!(judges, [ping, orders]);
}

#[test]
fn a_rollback_that_makes_no_sense_is_refused() {
    for (text, want) in [
        ("always", "x-teal.rollback: not a map. Write `none`, or a map such as"),
        (
            "{on: error}",
            "rollback.on: not one of `errors`, `latency`, `facts`, `history`, `none`. Did you mean `errors`?",
        ),
        ("{on: [errors, none]}", "`none` beside others"),
        ("{on: []}", "nothing is named"),
        ("{action: stop}", "rollback.action: not one of `rollback`, `pause`, `continue`"),
        ("{evidence: 1}", "rollback.evidence: not a number from 10 to 1000000000"),
        ("{contain: NaN}", "rollback.contain: not a number from 2"),
        ("{evidence: 50}", "the share would be turned down only after the release was taken back"),
        ("{ratio: 0.5}", "rollback.ratio: not a number from 1 to 100"),
        ("{margin: 0.2}", "rollback.margin: not a share of the requests. Write `0.2%`."),
        ("{min_requests: 0}", "min_requests: not a whole number from 1"),
        ("{extend: x}", "rollback.extend: not a duration"),
        ("{judges: [{command: a}]}", "judges[0]: `name` is missing"),
        ("{judges: [{name: a b, command: a}]}", "judges[0].name: not a name"),
        ("{judges: [{name: a}]}", "neither a command nor a question for Prometheus"),
        ("{judges: [{name: a, prometheus: 'http://x'}]}", "neither a command nor a question for Prometheus"),
        (
            "{judges: [{name: a, prometheus: 'https://x', query: q}]}",
            "judges[0].prometheus: Prometheus is asked without TLS. Give",
        ),
        ("{judges: [{name: a, prometheus: 'x:9090', query: q}]}", "not an address of a Prometheus"),
        ("{judges: [{name: a, prometheus: 'http://u:p@x', query: q}]}", "without a user"),
        ("{judges: [{name: a, command: b, query: q}]}", "neither a command nor a question"),
        ("{judges: [{name: a, command: b}, {name: a, command: c}]}", "judges[1]: another judge has this name"),
        ("{judges: {name: a, command: b, every: 0}}", "judges.every: must be longer than 0"),
        ("{judge: []}", "Did you mean `judges`?"),
    ] {
        each_is_refused(&[(&format!("x-teal: {{rollback: {text}}}"), want)]);
    }
}

#[test]
fn what_the_project_says_holds_for_services_that_do_not() {
    let text = "services:
  web: {image: a}
  own:
    image: b
    x-teal: {bake: 0, retain: until-next, keep: 3, rollback: {on: facts}, preview: false}
x-teal: {bake: 1m, retain: 0, keep: 9, rollback: {action: continue, ratio: 3}, preview: {token: a-word-that-nobody-guesses}}
";
    let project = file(text).ok().project;
    let web = &project.services["web"].teal;
    assert_eq!((web.bake_ms, web.retain, web.keep), (60_000, Retain::For { ms: 0 }, 9));
    assert_eq!((web.rollback.action, web.rollback.ratio), (FailureAction::Continue, 3.0));
    assert_eq!(web.preview, with_token("a-word-that-nobody-guesses"));
    let own = &project.services["own"].teal;
    assert_eq!((own.bake_ms, own.retain, own.keep), (0, Retain::UntilNext, 3));
    assert_eq!((own.rollback.action, own.rollback.ratio), (FailureAction::Rollback, 1.5), "its map replaces");
    assert!(own.rollback.on.facts && !own.rollback.on.errors);
    assert_eq!(own.preview, None);
    let said = file(&web_and("", "x-teal: {bake: x, keep: 0, rollback: {on: all}, preview: {token: a}}\n")).fail();
    for want in ["x-teal.bake: not a duration", "x-teal.keep: ", "x-teal.rollback.on: ", "x-teal.preview.token: "] {
        assert!(said.contains(want), "{said}");
    }
}

#[test]
fn composes_own_words_of_a_rollback_are_heeded() {
    let update = "deploy: {update_config: {failure_action: pause, monitor: 30s, max_failure_ratio: 0.2}}";
    let read = web(update).teal;
    assert_eq!(
        (read.bake_ms, read.rollback.action, read.rollback.max_failure_ratio),
        (30_000, FailureAction::Pause, 0.2)
    );
    assert_eq!(web("deploy: {update_config: {parallelism: 2}}").teal, ServiceSettings::default());
    let both = web(&format!("{update}\nx-teal: {{bake: 1m, rollback: {{action: continue}}}}")).teal;
    assert_eq!((both.bake_ms, both.rollback.action), (60_000, FailureAction::Continue));
    assert_eq!(both.rollback.max_failure_ratio, 0.2);
    assert_eq!(web_warnings(&format!("{update}\nx-teal: {{bake: 1m}}")), "");
    let some = web(&format!("{update}\nx-teal: {{rollback: {{on: facts}}}}")).teal.rollback;
    assert_eq!(some.action, FailureAction::Pause, "what the map does not say");
    let text = web_and(update, "x-teal: {bake: 2m, rollback: {action: continue, ratio: 2}}\n");
    let over = file(&text).ok().project.services["web"].teal.clone();
    assert_eq!((over.bake_ms, over.rollback.action, over.rollback.ratio), (30_000, FailureAction::Pause, 2.0));
}

#[test]
fn the_full_example_of_the_manual_is_a_project() {
    let manual = include_str!("../../../../docs/configuration.md");
    let chapter = &manual[manual.find("## Rollback, canary, verdict").expect("the chapter")..];
    let start = chapter.find("```yaml\n").expect("an example") + "```yaml\n".len();
    let text = &chapter[start..start + chapter[start..].find("```").expect("its end")];
    let environment = [("PREVIEW_TOKEN", "0123456789abcdef")];
    let parsed = Input { text, environment: &environment, ..Input::default() }.ok();
    assert_eq!(show(&parsed.warnings), "");
    let web = &parsed.project.services["web"].teal;
    assert!(web.sticky.is_some() && web.preview.is_some() && web.migrate.is_some() && web.smoke.is_some());
    assert!(!web.canary.is_empty() && !web.skew_guard.is_empty() && !web.rollback.judges.is_empty());
    assert!(web.health.warmup.is_some());
}

#[test]
fn settings_of_later_files_replace_or_merge() {
    let base = web_and(
        "x-teal: {canary: [5%, 50%], sticky: {cookie: a}, rollback: {ratio: 2, on: [errors, facts]}, smoke: /a, migrate: [a, b]}",
        "x-teal: {rollback: {ratio: 4}}\n",
    );
    let over = "services: {web: {x-teal: {canary: [10% 1m], sticky: {header: b}, rollback: {on: facts}, smoke: [/b], migrate: {command: c}}}}\n";
    let files = [("over.yaml", over)];
    let teal = Input { text: &base, over: &files, ..Input::default() }.ok().project.services["web"].teal.clone();
    assert_eq!(teal.canary, [step(1_000, 60_000)]);
    assert_eq!(teal.sticky, Some(Sticky::Header { name: "b".to_owned() }));
    assert_eq!((teal.rollback.ratio, teal.rollback.on.errors, teal.rollback.on.facts), (2.0, false, true));
    assert_eq!(teal.smoke.map(|smoke| smoke.checks.len()), Some(1));
    assert_eq!(teal.migrate.map(|migrate| migrate.command), Some(words("c")));
}

#[test]
fn how_a_release_arrives_is_no_reason_for_a_new_one() {
    let plain = web("ports: ['80:8080']");
    let same = [
        "bake: 0",
        "retain: until-next",
        "keep: 9",
        "rollback: none",
        "migrate: a",
        "smoke: /a",
        "health: {warmup: 5}",
    ];
    let read = |settings: &str| web(&format!("ports: ['80:8080']\nx-teal: {{{settings}}}"));
    for settings in same {
        assert_ne!(read(settings), plain, "{settings}");
        assert_eq!(read(settings).as_released(), plain.as_released(), "{settings}");
    }
    assert_eq!(read("canary: 10%").as_released(), read("strategy: blue-green").as_released());
    let update =
        web("ports: ['80:8080']\ndeploy: {update_config: {monitor: 5s, failure_action: pause, max_failure_ratio: 1}}");
    assert_eq!(update.as_released(), plain.as_released());
    for settings in [
        "sticky: cookie",
        "preview: {networks: private}",
        "skew_guard: /a",
        "drain: 1m",
        "health: {path: /x, warmup: 5}",
    ] {
        assert_ne!(read(settings).as_released(), plain.as_released(), "{settings}");
    }
}

#[test]
fn the_settings_travel_as_json() {
    let all = teal(
        "{canary: [{percent: 5, for: manual}, 50%], sticky: cookie, preview: {token: 0123456789abcdef}, retain: until-next, \
         migrate: a, smoke: [/a, {command: b}], skew_guard: /a, health: {warmup: 5}, \
         rollback: {judges: [{name: a, command: b}, {name: c, prometheus: 'http://d', query: e}]}}",
    );
    let service = Service { teal: all, ..Service::default() };
    let text = serde_json::to_string(&service).unwrap();
    assert_eq!(serde_json::from_str::<Service>(&text).unwrap(), service);
}
