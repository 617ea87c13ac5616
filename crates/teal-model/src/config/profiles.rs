//! Which services are wanted: those without profiles, those with one that was chosen, and those that were named.

use super::load::section;
use super::read::Item;
use super::yaml::{Node, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Takes every profile.
const ALL: &str = "*";

/// The services that are left alone, with their profiles.
pub(super) fn disabled(
    root: &Node,
    chosen: &[String],
    from_environment: Option<&str>,
    named: &[String],
) -> BTreeMap<String, Vec<String>> {
    let of_services: BTreeMap<String, Vec<String>> =
        section(root, "services").iter().map(|entry| (entry.key.clone(), profiles_of(&entry.node))).collect();
    let mut active: BTreeSet<&str> = chosen.iter().map(String::as_str).collect();
    active.extend(from_environment.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty()));
    // A service that is named brings its own profiles along.
    active.extend(named.iter().filter_map(|name| of_services.get(name)).flatten().map(String::as_str));
    let is_wanted = |profiles: &[String]| {
        profiles.is_empty() || active.contains(ALL) || profiles.iter().any(|profile| active.contains(profile.as_str()))
    };
    of_services
        .iter()
        .filter(|(_, profiles)| !is_wanted(profiles))
        .map(|(name, profiles)| (name.clone(), profiles.clone()))
        .collect()
}

fn profiles_of(service: &Node) -> Vec<String> {
    let Value::Map(entries) = &service.value else { return Vec::new() };
    let Some(entry) = entries.iter().find(|entry| entry.key == "profiles") else { return Vec::new() };
    let text = |node: &Node| match &node.value {
        Value::Scalar { text, .. } if !node.is_null() => Some(text.clone()),
        _ => None,
    };
    match &entry.node.value {
        Value::List(items) => items.iter().filter_map(text).collect(),
        _ => Vec::new(),
    }
}

/// Says what is wrong with `profiles`.
pub(super) fn check(item: &Item<'_>) {
    let fits = |text: &str| {
        let known = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        known.then_some(())
    };
    for item in item.list().unwrap_or_default() {
        item.parsed(fits, "the name of a profile", "A name is letters, digits, `.`, `_` and `-`.");
    }
}
