//! The file that Teal gives to nginx: its upstreams, what of their requests is logged, and a server that tells which
//! generation of the file its worker has read.

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use teal_model::fault::{Code, Fault};
use teal_model::ids::{Color, ReleaseKey, ServiceKey};

const MARK: &str = "# Written by Teal: do not edit, `teal deploy` writes it again.";
const CHECKSUM: &str = "# sha256 of the lines below: ";

/// What one nginx is to know, by the upstream's name.
pub type Upstreams = BTreeMap<String, Upstream>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    pub service: ServiceKey,
    /// Empty: nobody serves, and nginx answers 502.
    pub servers: Vec<Server>,
    pub keepalive: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub addr: SocketAddr,
    pub release: ReleaseKey,
    pub color: Color,
    pub weight: u32,
}

/// A whole file. The same upstreams make the same text, and the generation is of the text, so that it can be told from the
/// file alone what it was written for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub generation: String,
    pub whole: String,
}

pub fn render(agent: &str, log: &str, confirm_port: u16, upstreams: &Upstreams) -> Text {
    let mut body = format!("# agent {agent}\n");
    let mut releases = String::new();
    for (name, upstream) in upstreams {
        let _ = writeln!(body, "upstream {name} {{");
        for server in &upstream.servers {
            let weight = if server.weight == 1 { String::new() } else { format!(" weight={}", server.weight) };
            let _ = writeln!(body, "    server {}{weight}; # {}, {}", server.addr, server.release, server.color);
            // The last one that was asked; an address may end another.
            let _ = writeln!(releases, "    \"~(^| ){}$\" \"{}\";", escaped(&server.addr.to_string()), server.release);
        }
        match upstream.servers.first() {
            None => body.push_str("    server 127.0.0.1:9 down; # nobody serves\n"),
            Some(first) => {
                // What found no server counts for whoever should have been one.
                let _ = writeln!(releases, "    \"~(^| ){}$\" \"{}\";", escaped(name), first.release);
            }
        }
        if upstream.keepalive > 0 {
            let _ = writeln!(body, "    keepalive {};", upstream.keepalive);
        }
        body.push_str("}\n");
    }
    let _ = write!(
        body,
        "map $upstream_addr $teal_release {{\n    default \"\";\n{releases}}}\n\
         log_format teal '$teal_release\\t$msec\\t$request_time\\t$upstream_header_time\\t$status\\t$upstream_connect_time\\t\
         $request_completion';\n\
         access_log {log} teal if=$teal_release;\n"
    );
    let generation = short(&body);
    let _ = write!(
        body,
        "server {{\n    listen 127.0.0.1:{confirm_port};\n    access_log off;\n    return 200 \"{generation}\";\n}}\n"
    );
    let whole = format!("{MARK}\n{CHECKSUM}{}\n{body}", sha(&body));
    Text { generation, whole }
}

/// For a regular expression, and for a place in double quotes.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if matches!(c, '.' | '[' | ']' | '-') { vec!['\\', c] } else { vec![c] }).collect()
}

fn sha(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn short(text: &str) -> String {
    sha(text)[..16].to_owned()
}

/// What is at the place of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// As it was written, by this agent.
    Ours(String),
    /// Ours, and changed by somebody.
    Edited(String),
    /// Written by somebody else, or by another agent.
    Foreign(String),
}

impl Found {
    pub fn read(path: &Path, agent: &str) -> io::Result<Self> {
        let text = match read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        let Some(rest) = text.strip_prefix(MARK) else { return Ok(Found::Foreign(text)) };
        if !rest.contains(&format!("\n# agent {agent}\n")) {
            return Ok(Found::Foreign(text));
        }
        let whole = rest.strip_prefix('\n').and_then(|rest| rest.strip_prefix(CHECKSUM));
        let body = whole.and_then(|rest| rest.split_once('\n'));
        Ok(match body {
            Some((checksum, body)) if checksum == sha(body) => Found::Ours(text),
            _ => Found::Edited(text),
        })
    }
}

/// In one step, and with the text before it kept beside: to go back to that needs no room on the disk.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let previous = beside(path, "previous");
    let is_kept = read(&previous).is_ok_and(|kept| kept == text) && path.exists();
    // Where the file system cannot exchange two names it is written anew.
    if is_kept && renameat_with(CWD, &previous, CWD, path, RenameFlags::EXCHANGE).is_ok() {
        return sync_folder(path);
    }
    let fresh = beside(path, "new");
    let written = write(&fresh, text);
    let placed = written.and_then(|()| {
        if path.exists() {
            remove(&previous)?;
            std::fs::hard_link(path, &previous)?;
        }
        std::fs::rename(&fresh, path)
    });
    if placed.is_err() {
        // It is the first error that is told.
        let _ = std::fs::remove_file(&fresh);
    }
    placed?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Out of nginx's sight; `put_back` or `clear` follows.
pub fn put_aside(path: &Path) -> io::Result<()> {
    match std::fs::rename(path, beside(path, "aside")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub fn put_back(path: &Path) -> io::Result<()> {
    match std::fs::rename(beside(path, "aside"), path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// No link is followed: of a container's files, it would lead out of the container.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// With all that was kept beside it.
pub fn clear(path: &Path) -> io::Result<()> {
    for path in [path, &beside(path, "previous"), &beside(path, "new"), &beside(path, "aside")] {
        remove(path)?;
    }
    Ok(())
}

/// Gone already is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    remove(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    // The agent's files are nobody else's otherwise; whoever runs `nginx -t` has to read this one.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A name that `include conf.d/*.conf` does not match.
fn beside(path: &Path, what: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{what}"))
}

/// A file that is not as it was left: what somebody has changed, or that it is somebody else's.
pub fn edited(path: &Path, found: &Found, left: Option<&str>) -> Option<Fault> {
    let at = path.display();
    match found {
        Found::Nothing | Found::Ours(_) => None,
        Found::Foreign(_) => Some(
            Fault::new(Code::NginxFile, format!("{at} was not written by this agent, so it is left alone"))
                .hint("name another file in `x-teal.nginx.file`, or move this one away"),
        ),
        Found::Edited(now) => {
            let fault = Fault::new(Code::NginxFile, format!("{at} was edited by hand"));
            Some(fault.detail(left.map(|left| difference(left, now)).unwrap_or_default()))
        }
    }
}

/// The lines that were taken out and put in, each block with the line before it.
pub fn difference(before: &str, now: &str) -> Vec<String> {
    let (before, now): (Vec<&str>, Vec<&str>) = (before.lines().collect(), now.lines().collect());
    // The longest common subsequence, by its length from each pair of places on; these files are short.
    let mut common = vec![vec![0_u32; now.len() + 1]; before.len() + 1];
    for i in (0..before.len()).rev() {
        for j in (0..now.len()).rev() {
            common[i][j] = match before[i] == now[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    let mut context = None;
    while i < before.len() || j < now.len() {
        if i < before.len() && j < now.len() && before[i] == now[j] {
            context = Some(before[i]);
            (i, j) = (i + 1, j + 1);
            continue;
        }
        lines.extend(context.take().map(|line| format!("  {line}")));
        match j == now.len() || i < before.len() && common[i + 1][j] >= common[i][j + 1] {
            true => {
                lines.push(format!("- {}", before[i]));
                i += 1;
            }
            false => {
                lines.push(format!("+ {}", now[j]));
                j += 1;
            }
        }
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn release_of() -> ServiceKey {
        ServiceKey::new("shop", "web")
    }

    fn upstreams(port: u16) -> Upstreams {
        let release = ReleaseKey::new(ServiceKey::new("shop", "web"), 3);
        let server = Server { addr: SocketAddr::from(([127, 0, 0, 1], port)), release, color: Color::Green, weight: 1 };
        BTreeMap::from([(
            "shop_web".to_owned(),
            Upstream { service: release_of(), servers: vec![server], keepalive: 8 },
        )])
    }

    #[test]
    fn the_same_upstreams_make_the_same_text_and_others_another_generation() {
        let one = render("a1", "/var/log/teal.log", 29_000, &upstreams(20_001));
        assert_eq!(one, render("a1", "/var/log/teal.log", 29_000, &upstreams(20_001)));
        let other = render("a1", "/var/log/teal.log", 29_000, &upstreams(20_002));
        assert_ne!(one.generation, other.generation);
        assert!(one.whole.contains("server 127.0.0.1:20001; # shop/web@3, green"), "{}", one.whole);
        assert!(one.whole.contains(r#""~(^| )127\.0\.0\.1:20001$" "shop/web@3";"#), "{}", one.whole);
        let nobody =
            BTreeMap::from([("app".to_owned(), Upstream { service: release_of(), servers: Vec::new(), keepalive: 0 })]);
        let nobody = render("a1", "/l", 29_000, &nobody).whole;
        assert!(nobody.contains(" down;") && !nobody.contains("keepalive"), "{nobody}");
    }

    #[test]
    fn a_share_is_a_weight_and_another_share_another_text() {
        let mut shared = upstreams(20_001);
        let upstream = shared.get_mut("shop_web").unwrap();
        let live = ReleaseKey::new(release_of(), 2);
        let addr = SocketAddr::from(([127, 0, 0, 1], 20_002));
        upstream.servers.push(Server { addr, release: live, color: Color::Blue, weight: 19 });
        let text = render("a1", "/l", 29_000, &shared);
        assert!(text.whole.contains("server 127.0.0.1:20001; # shop/web@3, green\n"), "{}", text.whole);
        assert!(text.whole.contains("server 127.0.0.1:20002 weight=19; # shop/web@2, blue\n"), "{}", text.whole);
        // Each step, and each share that is turned down, is a reload.
        shared.get_mut("shop_web").unwrap().servers[1].weight = 9;
        assert_ne!(render("a1", "/l", 29_000, &shared).generation, text.generation);
    }

    #[test]
    fn an_edited_file_is_told_from_one_of_ours_and_from_anothers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("teal.conf");
        assert_eq!(Found::read(&path, "a1").unwrap(), Found::Nothing);
        let text = render("a1", "/l", 29_000, &upstreams(20_001)).whole;
        replace(&path, &text).unwrap();
        let found = Found::read(&path, "a1").unwrap();
        assert_eq!(found, Found::Ours(text.clone()));
        assert!(edited(&path, &found, Some(&text)).is_none());
        let found = Found::read(&path, "a2").unwrap();
        assert!(edited(&path, &found, None).unwrap().what.contains("was not written by this agent"));
        std::fs::write(&path, text.replace("keepalive 8", "keepalive 9")).unwrap();
        let fault = edited(&path, &Found::read(&path, "a1").unwrap(), Some(&text)).unwrap();
        assert!(fault.what.ends_with("was edited by hand"), "{}", fault.what);
        assert_eq!(fault.detail.len(), 3, "{:?}", fault.detail);
        assert_eq!(fault.detail[1..], ["-     keepalive 8;", "+     keepalive 9;"]);
    }

    #[test]
    fn the_text_before_comes_back_without_being_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("teal.conf");
        for text in ["one", "two", "three"] {
            replace(&path, text).unwrap();
        }
        let kept = beside(&path, "previous");
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "two");
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
        let before = inode(&kept);
        replace(&path, "two").unwrap();
        assert_eq!((inode(&path), std::fs::read_to_string(&kept).unwrap()), (before, "three".to_owned()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        clear(&path).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
