//! Listening sockets with a path: made under another name and renamed, so that whoever connects finds the one before or the
//! new one, and never none.

use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{DirBuilder, FileType, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use teal_model::fault::{Code, Fault};
use teal_model::wire::UnixSocket;

/// Folders that are missing are made so that everybody can go through them; who may connect is the socket's matter.
const FOLDER_MODE: u32 = 0o755;

/// Takes the path over from a socket where nobody listens any more. `ours`: the one that is there is another listener of our own.
pub fn bind(wanted: &UnixSocket, ours: bool, backlog: i32) -> Result<OwnedFd, Fault> {
    let path = Path::new(&wanted.path);
    refuse_taken(path, ours)?;
    let group = wanted.group.as_deref().map(group_id).transpose()?;
    let made = make(path, wanted.mode, group, backlog);
    made.map(Into::into).map_err(|error| refused(wanted, &error))
}

/// Takes the file away, if it is a socket.
pub fn unlink(socket: &UnixSocket) {
    match kind(Path::new(&socket.path)) {
        Ok(Some(kind)) if kind.is_socket() => {
            if let Err(error) = std::fs::remove_file(&socket.path) {
                tracing::warn!(path = socket.path, %error, "a socket stays behind");
            }
        }
        Ok(_) => tracing::warn!(path = socket.path, "the socket was taken away by somebody else"),
        Err(error) => tracing::warn!(path = socket.path, %error, "a socket may stay behind"),
    }
}

fn make(path: &Path, mode: u32, group: Option<u32>, backlog: i32) -> io::Result<Socket> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_folder(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.new"));
    // Of an agent that ended between the two names.
    if kind(&beside)?.is_some_and(|kind| kind.is_socket()) {
        std::fs::remove_file(&beside)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::unix(&beside)?)?;
    let furnished = (|| {
        chown(&beside, None, group)?;
        std::fs::set_permissions(&beside, Permissions::from_mode(mode))?;
        socket.listen(backlog)?;
        std::fs::rename(&beside, path)
    })();
    if furnished.is_err() {
        // What went wrong is told already.
        let _ = std::fs::remove_file(&beside);
    }
    furnished.map(|()| socket)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<PathBuf> = folder.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
    for folder in missing.iter().rev() {
        DirBuilder::new().mode(FOLDER_MODE).create(folder)?;
        // The agent's umask keeps everybody out.
        std::fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))?;
    }
    Ok(())
}

fn refuse_taken(path: &Path, ours: bool) -> Result<(), Fault> {
    let taken = |what: &str| Fault::new(Code::PortInUse, format!("unix:{}: {what}", path.display()));
    match kind(path) {
        Ok(None) => Ok(()),
        Ok(Some(kind)) if !kind.is_socket() => {
            Err(taken("a file is there that is no socket").hint("take it away, or write another path"))
        }
        Ok(Some(_)) if !ours && is_served(path) => {
            Err(taken("another process listens there").hint("`ss -xlp` names it; end it, or write another path"))
        }
        Ok(Some(_)) => Ok(()),
        Err(error) => Err(taken(&error.to_string())),
    }
}

fn kind(path: &Path) -> io::Result<Option<FileType>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Somebody takes connections there, or lets them wait.
fn is_served(path: &Path) -> bool {
    let connected = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)
        .and_then(|socket| socket.connect(&SockAddr::unix(path)?));
    !matches!(connected, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

fn group_id(group: &str) -> Result<u32, Fault> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups = std::fs::read_to_string("/etc/group")
        .map_err(|error| Fault::new(Code::Usage, format!("/etc/group cannot be read: {error}")))?;
    let fields = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.into_iter().find(|fields| fields.first() == Some(&group));
    let number = found.and_then(|fields| fields.get(2)?.parse().ok());
    number.ok_or_else(|| {
        Fault::new(Code::Usage, format!("there is no group {group} on this host (`x-teal.listen`)"))
            .hint("write the group of the process that connects: `ps -o group= -C nginx`; or a group's number")
    })
}

fn refused(wanted: &UnixSocket, error: &io::Error) -> Fault {
    let fault = Fault::new(Code::PortInUse, format!("unix:{} cannot be opened: {error}", wanted.path));
    match (error.kind(), &wanted.group) {
        (io::ErrorKind::PermissionDenied, Some(group)) => fault
            .hint(format!("run the agent as root, or as a member of {group} that may write to the socket's folder")),
        (io::ErrorKind::PermissionDenied, None) => fault.hint("write a path in a folder where the agent may write"),
        _ => fault,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn wanted(path: &Path) -> UnixSocket {
        UnixSocket { path: path.to_str().unwrap().to_owned(), mode: 0o660, group: None }
    }

    #[test]
    fn the_folder_is_made_and_the_permissions_are_those_that_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/shop.sock");
        let _socket = bind(&wanted(&path), false, 5).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, FOLDER_MODE);
        UnixStream::connect(&path).unwrap();
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing lies beside it");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_one_that_is_served_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.sock");
        drop(UnixListener::bind(&path).unwrap());
        let own = bind(&wanted(&path), false, 5).unwrap();
        let refusal = bind(&wanted(&path), false, 5).unwrap_err();
        assert!(refusal.to_string().contains("another process listens there"), "{refusal}");
        // With another group, say: the one before goes on with what it has accepted.
        let next = bind(&wanted(&path), true, 5).unwrap();
        drop(own);
        UnixStream::connect(&path).unwrap();
        drop(next);
        unlink(&wanted(&path));
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.sock");
        std::fs::write(&path, "mine").unwrap();
        let refusal = bind(&wanted(&path), false, 5).unwrap_err();
        assert!(refusal.to_string().contains("no socket"), "{refusal}");
        unlink(&wanted(&path));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_group_that_is_not_here_is_told() {
        assert_eq!(group_id("root").unwrap(), 0);
        assert_eq!(group_id("4711").unwrap(), 4711);
        assert!(group_id("nobody-has-this").unwrap_err().to_string().contains("no group"));
    }
}
