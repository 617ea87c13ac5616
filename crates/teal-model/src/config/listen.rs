//! `x-teal.listen`: a socket with a path beside a service's published ports, or instead of them.

use super::check::Services;
use super::files::read_mode;
use super::keys;
use super::project::{ExposedPort, Listen, Mode, NetworkMode, Protocol};
use super::read::Item;
use super::service::ReadService;
use crate::wire::UnixSocket;

/// `sockaddr_un` has 108 bytes, and the file is made under a longer name first.
const PATH_MAX: usize = 100;
const MODE: u32 = 0o660;

/// As written: the container port may be left to the published ones.
#[derive(Clone)]
pub(super) struct Wanted<'a> {
    socket: UnixSocket,
    target: Option<u16>,
    item: Item<'a>,
}

pub(super) fn read<'a>(item: &Item<'a>) -> Vec<Wanted<'a>> {
    item.one_or_list().unwrap_or_default().into_iter().filter_map(read_one).collect()
}

fn read_one(item: Item<'_>) -> Option<Wanted<'_>> {
    const SHAPE: &str = "Write `unix:/run/shop.sock`: an absolute path of at most 100 bytes.";
    if !item.is_map() {
        let path = item.parsed(|text| path(text.strip_prefix("unix:")?), "a socket", SHAPE)?;
        return Some(Wanted { socket: UnixSocket { path, mode: MODE, group: None }, target: None, item });
    }
    let map = item.map(&keys::LISTEN)?;
    let place = map.take("unix");
    let mode = map.take("mode").map(|mode| read_mode(&mode));
    let group = map.take("group").map(|group| group.word().map(str::to_owned));
    let target = map.take("port").map(|port| port.port());
    map.finish();
    let Some(place) = place else {
        item.problem("a socket without a path", "Add `unix: /run/shop.sock`.");
        return None;
    };
    let path = place.parsed(path, "a path", SHAPE)?;
    // A part that is there but wrong was reported.
    let group = match group {
        Some(group) => Some(group?),
        None => None,
    };
    let target = match target {
        Some(target) => Some(target?),
        None => None,
    };
    let mode = match mode {
        Some(mode) => mode?,
        None => MODE,
    };
    Some(Wanted { socket: UnixSocket { path, mode, group }, target, item })
}

fn path(text: &str) -> Option<String> {
    let plain = text.starts_with('/') && !text.ends_with('/') && text.len() <= PATH_MAX && !text.contains('\0');
    let whole = text.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    (plain && whole).then(|| text.to_owned())
}

/// Gives each socket its container port. The containers listen there, so it is exposed to others as well.
pub(super) fn settle(services: &mut Services<'_>) {
    let mut taken: Vec<(String, String)> = Vec::new();
    for (name, read) in services.iter_mut() {
        for wanted in &read.teal.listen {
            let path = &wanted.socket.path;
            if let Some((_, other)) = taken.iter().find(|(other, _)| other == path) {
                wanted.item.problem(format!("`{other}` listens on {path} as well"), "Give each its own socket.");
                continue;
            }
            taken.push((path.clone(), name.clone()));
            if let Some(why) = unserved(read) {
                wanted.item.problem(format!("the proxy does not serve this service: {why}"), "Take `listen` out.");
                continue;
            }
            let published = read.ports.iter().map(|(port, _)| port).find(|port| port.protocol == Protocol::Tcp);
            let Some(target) = wanted.target.or_else(|| published.map(|port| port.target)) else {
                wanted.item.problem(
                    "a socket without a port of the container",
                    "The service publishes none: write `listen: { unix: /run/shop.sock, port: 8080 }`.",
                );
                continue;
            };
            read.service.teal.listen.push(Listen { socket: wanted.socket.clone(), target });
            let exposed = ExposedPort { port: target, protocol: Protocol::Tcp };
            if !read.service.expose.contains(&exposed) {
                read.service.expose.push(exposed);
            }
        }
    }
}

fn unserved(read: &ReadService<'_>) -> Option<&'static str> {
    match (&read.service.network_mode, read.service.teal.mode) {
        (_, Mode::Direct) => Some("`mode: direct`"),
        (None | Some(NetworkMode::Bridge), _) => read.service.is_job.then_some("it is a job"),
        _ => Some("it has no network of its own"),
    }
}
