//! What a container shares with the host or with another one, and what it may do there.

use super::parse::Context;
use super::project::{Isolation, Namespace};
use super::read::{Item, MapReader};

/// Beside what is read, the services whose namespaces are joined: they come first.
pub(super) fn read<'a>(map: &MapReader<'a>, context: &Context<'_>) -> (Isolation, Vec<(String, Item<'a>)>) {
    let mut joined = Vec::new();
    let mut namespace = |key: &str, words: &[(&str, Namespace)], others: bool| {
        let item = map.take_filled(key)?;
        let namespace = read_namespace(&item, words, others)?;
        if let Namespace::Service(name) = &namespace {
            joined.push((name.clone(), item));
        }
        Some(namespace)
    };
    let ipc = namespace(
        "ipc",
        &[
            ("host", Namespace::Host),
            ("private", Namespace::Private),
            ("shareable", Namespace::Shareable),
            ("none", Namespace::None),
        ],
        true,
    );
    let pid = namespace("pid", &[("host", Namespace::Host), ("private", Namespace::Private)], true);
    let uts = namespace("uts", &[("host", Namespace::Host)], false);
    let userns = namespace("userns_mode", &[("host", Namespace::Host)], false);
    let cgroup = namespace("cgroup", &[("host", Namespace::Host), ("private", Namespace::Private)], false);
    let capabilities = |key: &str| {
        let list = map.take(key).and_then(|list| list.list()).unwrap_or_default();
        list.iter().filter_map(read_capability).collect()
    };
    let isolation = Isolation {
        privileged: map.take_filled("privileged").and_then(|v| v.boolean()).unwrap_or(false),
        cap_add: capabilities("cap_add"),
        cap_drop: capabilities("cap_drop"),
        security_opt: map.take("security_opt").map(|v| read_security(&v, context)).unwrap_or_default(),
        sysctls: map.take("sysctls").and_then(|v| v.string_map()).unwrap_or_default(),
        ipc,
        pid,
        uts,
        userns,
        cgroup,
        cgroup_parent: map.take_filled("cgroup_parent").and_then(|v| v.word()).map(str::to_owned),
    };
    (isolation, joined)
}

fn read_namespace(item: &Item<'_>, words: &[(&str, Namespace)], others: bool) -> Option<Namespace> {
    let text = item.text()?;
    if let Some((_, namespace)) = words.iter().find(|(word, _)| *word == text) {
        return Some(namespace.clone());
    }
    match text.split_once(':') {
        Some(("service", name)) if others && !name.is_empty() => return Some(Namespace::Service(name.to_owned())),
        Some(("container", name)) if others && !name.is_empty() => return Some(Namespace::Container(name.to_owned())),
        _ => {}
    }
    let mut known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    if others {
        known.extend(["`service:NAME`".to_owned(), "`container:NAME`".to_owned()]);
    }
    item.problem(format!("not one of {}", known.join(", ")), "");
    None
}

/// `NET_ADMIN`, `CAP_NET_ADMIN`, `net_admin`, `ALL`: Docker takes all of them.
fn read_capability(item: &Item<'_>) -> Option<String> {
    let fits = |text: &str| {
        let word = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        word.then(|| text.to_owned())
    };
    item.parsed(fits, "a capability", "Write it as `NET_ADMIN`, or `ALL`.")
}

/// The profile of seccomp is a file here and its text for Docker.
fn read_security(item: &Item<'_>, context: &Context<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for item in item.list().unwrap_or_default() {
        let Some(text) = item.word() else { continue };
        let (name, value) = match text.find([':', '=']) {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => (text, ""),
        };
        if name != "seccomp" || matches!(value, "unconfined" | "builtin" | "") {
            out.push(text.to_owned());
            continue;
        }
        match (context.sources.read)(&context.directory(item.mark()).join(value)) {
            Ok(profile) => match serde_json::from_str::<serde_json::Value>(&profile) {
                Ok(profile) => out.push(format!("seccomp={profile}")),
                Err(_) => item.problem("the seccomp profile is no JSON", "Docker takes profiles as JSON."),
            },
            Err(error) => item.problem(format!("the seccomp profile cannot be read: {}", error.kind()), ""),
        }
    }
    out
}
