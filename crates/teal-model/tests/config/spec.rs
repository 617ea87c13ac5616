//! Teal's tables against the keys of the Compose specification: each is honoured, without effect as in Compose, or refused
//! with what to do instead.

use crate::common::{Input, file, web_and};
use teal_model::config::keys::{LEVELS, Level, Standing};

const KEYS: &str = include_str!("spec/keys.txt");

fn level(name: &str) -> Option<&'static Level> {
    LEVELS.into_iter().find(|level| level.name == name)
}

/// Whether the map is below a key that is refused or has no effect, so that its own keys need no answer.
fn is_below_an_answer(name: &str) -> bool {
    let steps: Vec<usize> = name.match_indices('.').map(|(at, _)| at).chain([name.len()]).collect();
    steps.iter().any(|end| {
        let path = &name[..*end];
        let (parent, key) = path.rsplit_once('.').unwrap_or(("(top level)", path));
        let key = key.trim_end_matches("[]");
        matches!(
            level(parent).and_then(|level| level.standing(key)),
            Some(Standing::Refused(_) | Standing::Accepted { .. })
        )
    })
}

#[test]
fn every_key_of_the_specification_has_an_answer() {
    let mut keys = 0;
    for line in KEYS.lines() {
        let (name, names) = line.split_once(": ").unwrap();
        let Some(level) = level(name) else {
            assert!(is_below_an_answer(name), "no table for {name}");
            continue;
        };
        for key in names.split_whitespace() {
            assert!(level.standing(key).is_some(), "{name} says nothing of `{key}`");
            keys += 1;
        }
    }
    assert!(keys > 250, "only {keys} keys");
}

#[test]
fn the_tables_have_no_key_that_the_specification_does_not_know() {
    for level in LEVELS.into_iter().filter(|level| !level.name.contains("x-teal")) {
        let line = KEYS.lines().find(|line| line.split_once(": ").unwrap().0 == level.name);
        let names: Vec<&str> = line.unwrap_or_else(|| panic!("{}", level.name)).split_whitespace().collect();
        for key in level.keys.iter().filter(|key| key.name != "x-teal") {
            assert!(names.contains(&key.name), "{}.{}", level.name, key.name);
        }
    }
}

#[test]
fn every_answer_that_is_no_says_what_to_do() {
    for level in LEVELS {
        for key in level.keys {
            let text = match key.standing {
                Standing::Honoured(text) | Standing::Refused(text) | Standing::NotBuilt(text) => text,
                Standing::Accepted { why, .. } => why,
            };
            assert!(text.len() > 3 && text.ends_with('.'), "{}.{}: {text}", level.name, key.name);
        }
    }
}

#[test]
fn a_key_that_is_refused_is_refused_by_name() {
    let services = level("services.<name>").unwrap();
    let refused = services.keys.iter().filter(|key| matches!(key.standing, Standing::Refused(_)));
    for key in refused {
        let problems = file(&web_and(&format!("{}: {{a: b}}", key.name), "")).fail();
        assert!(problems.contains(&format!("services.web.{}: not supported. ", key.name)), "{problems}");
    }
}

#[test]
fn what_has_no_effect_is_said_where_people_may_expect_one() {
    let quiet = file(&web_and("attach: false\ndevelop: {watch: []}\ndeploy: {endpoint_mode: vip}", "")).ok();
    assert_eq!(quiet.warnings, []);
    let text = web_and("cpu_count: 2", "");
    let loud = Input { text: &text, ..Input::default() }.ok();
    let said = loud.warnings[0].to_string();
    assert_eq!(
        said,
        "compose.yaml:4: services.web.cpu_count: has no effect here. It is for Windows hosts: use `cpus`."
    );
}
