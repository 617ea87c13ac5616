//! `x-teal.route`: host and path that lead to a service.

use super::keys;
use super::project::RouteRule;
use super::read::Item;

pub(super) fn read<'a>(item: &Item<'a>) -> Vec<(RouteRule, Item<'a>)> {
    let mut routes: Vec<(RouteRule, Item<'a>)> = Vec::new();
    for item in item.one_or_list().unwrap_or_default() {
        let Some(rule) = (if item.is_map() { long_route(&item) } else { short_route(&item) }) else { continue };
        if routes.iter().any(|(other, _)| *other == rule) {
            item.problem("the same route twice", "Keep one of the two.");
        } else {
            routes.push((rule, item));
        }
    }
    routes
}

fn short_route(item: &Item<'_>) -> Option<RouteRule> {
    const SHAPE: &str = "Write `example.com`, `/path` or `example.com/path`; a port goes into `{host, path, port}`.";
    let read = |text: &str| {
        let at = text.find('/').unwrap_or(text.len());
        let (host, path) = text.split_at(at);
        let host = if host.is_empty() { None } else { Some(host_name(host)?) };
        let path = if path.is_empty() { (host.is_some()).then(|| "/".to_owned())? } else { path_prefix(path)? };
        Some(RouteRule { host, path, port: None })
    };
    item.parsed(read, "a route", SHAPE)
}

fn long_route(item: &Item<'_>) -> Option<RouteRule> {
    let map = item.map(&keys::ROUTE)?;
    let host = map.take("host");
    let path = map.take("path");
    let port = map.take("port");
    map.finish();
    if host.is_none() && path.is_none() && port.is_none() {
        item.problem("an empty route", "Give a `host`, a `path` or both.");
        return None;
    }
    let host = host.map(|host| {
        host.parsed(host_name, "a host name", "Write `example.com` or `*.example.com`, without scheme and port.")
    });
    let path = path.map(|path| {
        path.parsed(path_prefix, "a path", "Start it with `/`, without query; other letters are written `%xx`.")
    });
    let port = port.map(|port| port.port());
    // A part that is there but wrong was reported; a part that is absent is no restriction.
    let flat = |part: Option<Option<String>>| match part {
        Some(None) => Err(()),
        Some(Some(text)) => Ok(Some(text)),
        None => Ok(None),
    };
    let (host, path) = (flat(host).ok()?, flat(path).ok()?);
    let port = match port {
        Some(port) => Some(port?),
        None => None,
    };
    Some(RouteRule { host, path: path.unwrap_or_else(|| "/".to_owned()), port })
}

/// Lower case, `*.` at most at the start (RFC 1123 labels, and `_` that some internal names have).
fn host_name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let labels = text.strip_prefix("*.").unwrap_or(&text);
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (text.len() <= 253 && labels.split('.').all(fits)).then_some(text)
}

/// A prefix of whole segments, so a slash at the end says nothing and goes.
pub(super) fn path_prefix(text: &str) -> Option<String> {
    let plain = text.starts_with('/')
        && !text.contains("//")
        && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '*' | '\\'))
        && text.split('/').all(|segment| segment != "." && segment != "..");
    let trimmed = text.trim_end_matches('/');
    plain.then(|| if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() })
}
