//! The same port and the same alias on two networks: a call from a container of each lands where Compose's would.

use super::{CALLER_IMAGE, IMAGE, calls};
use crate::stage::Stage;
use std::time::Duration;

const PAUSE: Duration = Duration::from_secs(1);

/// Each answers `<its own name>-<version>`.
fn compose() -> String {
    let app = |name: &str, networks: &str| {
        format!(
            "  {name}:
    image: {IMAGE}
    environment: {{ VERSION: \"{name}-${{VERSION:-0}}\", SIGTERM: drain }}
    expose: [\"8080\"]
    healthcheck: {{ test: [CMD, /sample-app, healthcheck], interval: 1s }}
    networks: {networks}
"
        )
    };
    let caller = |name: &str, network: &str, targets: &str| {
        format!(
            "  {name}:
    image: {CALLER_IMAGE}
    environment: {{ TARGETS: \"{targets}\", CONNECTIONS: \"2\", RATE: \"10\" }}
    networks: [{network}]
    depends_on: [red, green, blue, both]
"
        )
    };
    let one =
        "http://red:8080/#red- http://api:8080/#red- http://green:8080/#green- http://both:8080/#both- absent://blue";
    let two = "http://blue:8080/#blue- http://api:8080/#blue- http://both:8080/#both- absent://red absent://green";
    [
        "services:\n".to_owned(),
        app("red", "{ one: { aliases: [api] } }"),
        app("green", "[one]"),
        app("blue", "{ two: { aliases: [api] } }"),
        app("both", "[one, two]"),
        caller("from-one", "one", one),
        caller("from-two", "two", two),
        "networks:\n  one: {}\n  two: {}\n".to_owned(),
    ]
    .concat()
}

/// The calls of both networks, while all four that are called are deployed together again and again.
pub fn run(stage: &Stage, deployments: usize) -> std::io::Result<Vec<calls::Calls>> {
    stage.compose(&compose()).up();
    stage.must_deploy("0");
    for version in 1..=deployments {
        std::thread::sleep(PAUSE);
        let deployed = stage.deploy(&version.to_string(), &["red", "green", "blue", "both"]);
        assert!(deployed.done(), "{deployed:#?}\n{}", stage.logs());
    }
    std::thread::sleep(PAUSE);
    let mut calls = calls::now(stage, "from-one")?;
    calls.extend(calls::now(stage, "from-two")?);
    Ok(calls)
}
