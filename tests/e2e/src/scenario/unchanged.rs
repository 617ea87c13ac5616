//! A project of many services, deployed again with nothing changed: how long it takes to find that out.

use super::IMAGE;
use crate::stage::Stage;
use std::time::Instant;

pub const SERVICES: usize = 20;

pub struct Unchanged {
    /// Wall time of each `teal deploy`.
    pub millis: Vec<f64>,
    /// Whether the containers are the ones of before.
    pub untouched: bool,
}

pub fn run(stage: &Stage, times: usize) -> Unchanged {
    stage.compose(&compose()).up();
    stage.must_deploy("0");
    let before = stage.containers();
    let millis = (0..times)
        .map(|_| {
            let began = Instant::now();
            stage.must(&["deploy"]);
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    Unchanged { millis, untouched: stage.containers() == before }
}

/// One service is published, the others are called by their names.
fn compose() -> String {
    let mut text = "services:\n".to_owned();
    for number in 1..=SERVICES {
        let ports = if number == 1 { "ports: [\"PORT:8080\"]" } else { "expose: [\"8080\"]" };
        text.push_str(&format!(
            "  s{number:02}:\n    image: {IMAGE}\n    environment: {{ VERSION: \"s{number}\", SIGTERM: drain }}\n    {ports}\n"
        ));
    }
    text
}
