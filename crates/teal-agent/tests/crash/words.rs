//! What is said fits what was there.

use crate::shop::{self, project};
use crate::stage::{exits, good, life, request, start, until_ended};
use teal_agent::runtime::fake::{App, FakeRuntime};
use teal_agent::traffic::fake::FakeTraffic;
use teal_model::api::RemoveRequest;
use teal_model::config::{Judge, JudgeAsks, Smoke, SmokeCheck};
use teal_model::deployment::State;
use teal_model::fault::Code;

/// Deploys v1, then v2 that exits, then asks for names that nobody has.
fn hints(first: App) -> (State, State, Vec<String>) {
    let (dir, engine, traffic) = (tempfile::tempdir().unwrap(), FakeRuntime::new(), FakeTraffic::default());
    engine.add_image("app:v1", good());
    engine.add_image("app:v2", good());
    let (one, two) = (engine.add_image("web:v1", first), engine.add_image("web:v2", exits()));
    for web in [one, two] {
        engine.change_image(&web.id, |image| image.has_healthcheck = true);
    }
    life(async {
        let agent = start(dir.path(), &engine, &traffic).await;
        let mut states = Vec::new();
        for version in ["v1", "v2"] {
            let accepted = agent.deploy(request(version)).await.unwrap();
            states.push(until_ended(&agent, accepted.deployment).await);
        }
        let mut said = Vec::new();
        for (project, service) in [("shpo", None), ("shop", Some("wbe")), ("shop", Some("nothing"))] {
            let services = service.into_iter().map(str::to_owned).collect();
            let asked = RemoveRequest {
                project: project.to_owned(),
                services,
                volumes: Default::default(),
                who: "test".to_owned(),
            };
            let fault = agent.remove(&asked).await.unwrap_err();
            assert_eq!(fault.code, Code::NotFound);
            said.push(fault.what);
        }
        let second = states.remove(1);
        (states.remove(0), second, said)
    })
}

#[test]
fn the_live_release_is_spoken_of_where_there_is_one() {
    let (first, second, said) = hints(good());
    assert!(matches!(first, State::Done), "{first:?}");
    let State::Reverted { why } = second else { panic!("{second:?}") };
    assert!(why.hint.contains("the live release serves as before"), "{why:?}");
    assert_eq!(
        said,
        [
            "there is no project `shpo` here. Did you mean `shop`?",
            "the project shop has no service `wbe` here. Did you mean `web`?",
            "the project shop has no service `nothing` here",
        ]
    );
    let (first, ..) = hints(exits());
    let State::Reverted { why } = first else { panic!("{first:?}") };
    assert_eq!(why.code, Code::ReplicaExited);
    assert!(!why.hint.contains("live release"), "{why:?}");
}

#[test]
fn commands_that_this_host_has_not_are_said_before_they_are_needed() {
    let (dir, engine, traffic) = (tempfile::tempdir().unwrap(), FakeRuntime::new(), FakeTraffic::default());
    engine.add_image("web:v1", good());
    let mut web = shop::web("web:v1");
    let command = |program: &str| vec![program.to_owned()];
    let (every_ms, timeout_ms) = (Judge::EVERY_MS, Judge::TIMEOUT_MS);
    let judge = |program| {
        let asks = JudgeAsks::Command { command: command(program) };
        Judge { name: "errors".to_owned(), asks, every_ms, timeout_ms, failures: 1 }
    };
    web.teal.rollback.judges = vec![judge("./no-judge.sh"), judge("true")];
    web.teal.smoke = Some(Smoke { checks: vec![SmokeCheck::Command { command: command("no-smoke") }], timeout_ms });
    let mut request = project(vec![web]);
    request.project.directory = dir.path().display().to_string();
    let wanted = [
        format!("web: the judge errors cannot be asked: there is no {}/no-judge.sh on this host", dir.path().display()),
        "web: its smoke test will fail, and take the deployment back: there is no no-smoke in the agent's PATH"
            .to_owned(),
    ];
    life(async {
        let agent = start(dir.path(), &engine, &traffic).await;
        assert_eq!(agent.preview(&request).await.unwrap().warnings, wanted);
        assert_eq!(agent.deploy(request).await.unwrap().plan.warnings, wanted);
    });
}
