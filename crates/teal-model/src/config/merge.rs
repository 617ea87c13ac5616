//! One tree over another, by the specification's chapter on merging: maps merge, lists grow, scalars are replaced; some
//! keys have a form or a rule of their own.

use super::problem::Report;
use super::yaml::{Entry, How, Node, Value, join};
use std::collections::HashSet;

/// How two values of one key become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// By their kind.
    Kind,
    /// The later one alone counts.
    Replace,
    /// `NAME=value` lists and maps are the same thing.
    Pairs,
    /// Lists of names and maps by name are the same thing; the value is what a bare name stands for.
    Names(Option<(&'static str, &'static str)>),
    /// One string is a list of one.
    Sequence,
    /// `build: .` is `build: {context: .}`.
    Build,
    /// Options of another driver mean nothing.
    Logging,
    /// The later one alone counts, unless both are maps.
    Maps,
}

/// What makes two elements of a list the same, so that the later one takes the place of the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Same {
    /// Every element stands for itself.
    Never,
    Text,
    Port,
    /// Path in the container, behind the first colon in the short form.
    Target,
    /// The name that is granted, or its own target.
    Grant,
    Path,
    Subnet,
}

/// `over` on top of `base`; both stand at `path`. `!reset` nodes stay until [`settle`].
pub(super) fn merge(base: Node, over: Node, path: &str, report: &Report) -> Node {
    let segments: Vec<&str> = path.split('.').filter(|segment| !segment.is_empty()).collect();
    if over.how != How::Merge || base.how == How::Reset {
        return over;
    }
    if over.is_null() {
        return base;
    }
    if base.is_null() || base.value == Value::Unknown || over.value == Value::Unknown {
        return over;
    }
    let (rule, same) = rule_at(&segments);
    let (base, over) = match rule {
        Rule::Replace => return over,
        Rule::Maps if !(is_map(&base) && is_map(&over)) => return over,
        Rule::Pairs if is_map(&base) || is_map(&over) => (pairs_to_map(base), pairs_to_map(over)),
        Rule::Names(value) if is_map(&base) || is_map(&over) => (names_to_map(base, value), names_to_map(over, value)),
        Rule::Sequence => (to_list(base), to_list(over)),
        Rule::Build => (context_to_map(base), context_to_map(over)),
        Rule::Logging if changes_driver(&base, &over) => return over,
        _ => (base, over),
    };
    let (mark, how) = (base.mark, over.how);
    let value = match (base.value, over.value) {
        (Value::Map(base), Value::Map(over)) => Value::Map(merge_entries(base, over, path, report)),
        (Value::List(mut items), Value::List(more)) => {
            items.extend(more);
            Value::List(unique(items, same))
        }
        (Value::Scalar { .. }, value @ Value::Scalar { .. }) => return Node { mark: over.mark, value, how },
        (earlier, value) => {
            let earlier = Node::new(mark, earlier).kind();
            let later = Node { mark: over.mark, value, how };
            let place = report.place(mark);
            report.problem(
                later.mark,
                path,
                format!("{} cannot be merged into {earlier} ({place})", later.kind()),
                Some("Write it in the same form as there, or put `!override` before it.".to_owned()),
            );
            return Node { value: Value::Unknown, ..later };
        }
    };
    Node { mark, value, how }
}

fn merge_entries(base: Vec<Entry>, over: Vec<Entry>, path: &str, report: &Report) -> Vec<Entry> {
    let mut out = base;
    for entry in over {
        match out.iter_mut().find(|known| known.key == entry.key) {
            Some(known) => {
                let earlier = std::mem::replace(&mut known.node, Node::new(entry.key_mark, Value::Unknown));
                known.node = merge(earlier, entry.node, &join(path, &entry.key), report);
            }
            None => out.push(entry),
        }
    }
    out
}

/// Takes out what `!reset` is written before.
pub(super) fn settle(node: &mut Node) {
    match &mut node.value {
        Value::Map(entries) => {
            entries.retain(|entry| entry.node.how != How::Reset);
            entries.iter_mut().for_each(|entry| settle(&mut entry.node));
        }
        Value::List(items) => {
            items.retain(|item| item.how != How::Reset);
            items.iter_mut().for_each(settle);
        }
        Value::Scalar { .. } | Value::Unknown => {}
    }
}

/// Whether two trees say the same, wherever they stand.
pub(super) fn alike(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter().all(|one| b.iter().any(|two| one.key == two.key && alike(&one.node, &two.node)))
        }
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (a, b) => a == b,
    }
}

fn rule_at(path: &[&str]) -> (Rule, Same) {
    match path {
        ["services", _, rest @ ..] => service_rule(rest),
        ["networks", _, "ipam", "config"] => (Rule::Kind, Same::Subnet),
        ["networks" | "volumes" | "secrets" | "configs", _, "labels" | "driver_opts"] => (Rule::Pairs, Same::Never),
        ["x-teal", "trusted_proxies"] => (Rule::Sequence, Same::Text),
        ["x-teal", rest @ ..] => (teal_rule(rest), Same::Never),
        _ => (Rule::Kind, Same::Never),
    }
}

fn service_rule(path: &[&str]) -> (Rule, Same) {
    match path {
        ["command" | "entrypoint"] | ["healthcheck", "test"] => (Rule::Replace, Same::Never),
        ["x-teal", rest @ ..] => (teal_rule(rest), Same::Never),
        ["environment" | "labels" | "annotations" | "sysctls" | "storage_opt"]
        | ["build", "args" | "labels" | "additional_contexts"]
        | ["deploy" | "logging", "labels" | "options"] => (Rule::Pairs, Same::Never),
        ["depends_on"] => (Rule::Names(Some(("condition", "service_started"))), Same::Text),
        ["networks" | "models"] => (Rule::Names(None), Same::Text),
        ["build"] => (Rule::Build, Same::Never),
        ["logging"] => (Rule::Logging, Same::Never),
        ["ulimits", _] => (Rule::Maps, Same::Never),
        ["env_file"] => (Rule::Sequence, Same::Path),
        ["tmpfs" | "dns" | "dns_search" | "label_file" | "extra_hosts"] | ["build", "extra_hosts"] => {
            (Rule::Sequence, Same::Text)
        }
        ["ports"] => (Rule::Kind, Same::Port),
        ["volumes" | "devices"] => (Rule::Kind, Same::Target),
        ["secrets" | "configs"] | ["build", "secrets"] => (Rule::Kind, Same::Grant),
        ["cap_add" | "cap_drop" | "dns_opt" | "expose" | "links" | "external_links" | "profiles" | "group_add"]
        | ["security_opt" | "device_cgroup_rules" | "volumes_from"]
        | ["networks", _, "aliases" | "link_local_ips"]
        | ["build", "tags" | "platforms" | "cache_from" | "cache_to" | "entitlements" | "ssh"] => {
            (Rule::Kind, Same::Text)
        }
        _ => (Rule::Kind, Same::Never),
    }
}

/// What may be written in several forms is replaced where they differ; lists of an order of their own always are.
fn teal_rule(path: &[&str]) -> Rule {
    match path {
        ["route" | "canary" | "sticky" | "skew_guard"]
        | ["migrate", "command"]
        | ["preview", "networks"]
        | ["rollback", "on" | "judges"]
        | ["smoke", "checks" | "command"]
        | ["health", "warmup", "path" | "paths"] => Rule::Replace,
        ["health" | "hold" | "migrate" | "preview" | "rollback" | "smoke"] | ["health", "warmup"] => Rule::Maps,
        _ => Rule::Kind,
    }
}

fn is_map(node: &Node) -> bool {
    matches!(node.value, Value::Map(_))
}

fn field<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
        _ => None,
    }
}

fn field_text<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    field(node, key).and_then(scalar)
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

fn pairs_to_map(node: Node) -> Node {
    into_map(node, |item, text| match text.split_once('=') {
        Some((key, value)) => {
            let value = Value::Scalar { text: value.to_owned(), plain: false };
            (key.trim_end().to_owned(), Node { value, ..item })
        }
        None => (text.to_owned(), Node { value: Value::Scalar { text: String::new(), plain: true }, ..item }),
    })
}

fn names_to_map(node: Node, stands_for: Option<(&str, &str)>) -> Node {
    into_map(node, |item, text| {
        let value = match stands_for {
            Some((key, value)) => Value::Map(vec![Entry {
                key: key.to_owned(),
                key_mark: item.mark,
                node: Node::new(item.mark, Value::Scalar { text: value.to_owned(), plain: true }),
            }]),
            None => Value::Scalar { text: String::new(), plain: true },
        };
        (text.to_owned(), Node { value, ..item })
    })
}

/// A list of scalars as a map, where every element is one; else the list, which its reader will complain of.
fn into_map(node: Node, entry_of: impl Fn(Node, &str) -> (String, Node)) -> Node {
    let Value::List(items) = node.value else { return node };
    if !items.iter().all(|item| scalar(item).is_some()) {
        return Node { value: Value::List(items), ..node };
    }
    let mut entries: Vec<Entry> = Vec::new();
    for item in items {
        let text = scalar(&item).unwrap_or_default().to_owned();
        let key_mark = item.mark;
        let (key, node) = entry_of(item, &text);
        // The last one counts, as within a list.
        entries.retain(|known| known.key != key);
        entries.push(Entry { key, key_mark, node });
    }
    Node { value: Value::Map(entries), ..node }
}

fn to_list(node: Node) -> Node {
    let value = match node.value {
        scalar @ Value::Scalar { .. } => Value::List(vec![Node::new(node.mark, scalar)]),
        // `extra_hosts` as a map.
        Value::Map(entries) if entries.iter().all(|entry| !is_map(&entry.node)) => {
            let mut items = Vec::new();
            for Entry { key, node, .. } in entries {
                let addresses = match node.value {
                    Value::List(items) => items,
                    value => vec![Node::new(node.mark, value)],
                };
                for address in addresses {
                    let text = format!("{key}={}", scalar(&address).unwrap_or_default());
                    items.push(Node::new(address.mark, Value::Scalar { text, plain: false }));
                }
            }
            Value::List(items)
        }
        other => other,
    };
    Node { value, ..node }
}

fn context_to_map(node: Node) -> Node {
    if !matches!(node.value, Value::Scalar { .. }) {
        return node;
    }
    let (mark, how) = (node.mark, node.how);
    let entry = Entry { key: "context".to_owned(), key_mark: mark, node: Node::new(mark, node.value) };
    Node { mark, value: Value::Map(vec![entry]), how }
}

fn changes_driver(base: &Node, over: &Node) -> bool {
    matches!((field_text(base, "driver"), field_text(over, "driver")), (Some(base), Some(over)) if base != over)
}

/// Of elements that are the same the last one stays, at the place of the first.
fn unique(items: Vec<Node>, same: Same) -> Vec<Node> {
    let mut out: Vec<(Option<String>, Node)> = Vec::new();
    let mut seen = HashSet::new();
    for item in items {
        let key = identity(&item, same);
        if let Some(key) = &key
            && !seen.insert(key.clone())
            && let Some((_, known)) = out.iter_mut().find(|(known, _)| known.as_ref() == Some(key))
        {
            *known = item;
            continue;
        }
        out.push((key, item));
    }
    out.into_iter().map(|(_, item)| item).collect()
}

fn identity(item: &Node, same: Same) -> Option<String> {
    let own = |keys: &[&str]| keys.iter().find_map(|key| field_text(item, key)).map(str::to_owned);
    match same {
        Same::Never => None,
        Same::Text => scalar(item).map(str::to_owned),
        Same::Path => scalar(item).map(str::to_owned).or_else(|| own(&["path"])),
        Same::Subnet => own(&["subnet"]),
        Same::Grant => scalar(item).map(str::to_owned).or_else(|| own(&["target", "source"])),
        Same::Target => match scalar(item) {
            Some(text) => {
                let mut parts = text.split(':');
                let first = parts.next().unwrap_or_default();
                Some(parts.next().unwrap_or(first).trim_end_matches('/').to_owned())
            }
            None => own(&["target", "source"]).map(|target| target.trim_end_matches('/').to_owned()),
        },
        Same::Port => match scalar(item) {
            Some(text) => {
                let (text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
                let mut parts: Vec<&str> = text.rsplitn(3, ':').collect();
                parts.resize(3, "");
                Some(format!("{}|{}|{}/{protocol}", parts[2], parts[1], parts[0]))
            }
            None => {
                let part = |key: &str| field_text(item, key).unwrap_or_default();
                let protocol = field_text(item, "protocol").unwrap_or("tcp");
                Some(format!("{}|{}|{}/{protocol}", part("host_ip"), part("published"), part("target")))
            }
        },
    }
}
