//! Is the process that an Engine names the one of that number here? An Engine in a virtual machine, or in another pid namespace,
//! counts its own: the process of that number here is somebody else's.

use rustix::io::Errno;
use std::io;
use std::path::PathBuf;

/// What the system says of the process names the container: its cgroup, its mounts (an Engine without cgroups has those
/// alone), or its parent (whose command line an unprivileged agent may read).
pub fn is_of(pid: i32, container: &str) -> bool {
    let proc = |pid: &str, file: &str| PathBuf::from("/proc").join(pid).join(file);
    let own = pid.to_string();
    let parent = || {
        let stat = std::fs::read_to_string(proc(&own, "stat"))?;
        // The name in field 2 may hold anything, a `)` too.
        let number = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)).unwrap_or_default();
        std::fs::read(proc(number, "cmdline"))
    };
    let places: [&dyn Fn() -> io::Result<Vec<u8>>; 3] =
        [&|| std::fs::read(proc(&own, "cgroup")), &|| std::fs::read(proc(&own, "mountinfo")), &parent];
    let names = |said: &[u8]| said.windows(container.len()).any(|window| window == container.as_bytes());
    places.iter().any(|place| match place() {
        Ok(said) => !container.is_empty() && names(&said),
        Err(error) => !says_no(&error),
    })
}

/// There is no such process, or it is kept from us. What is wrong otherwise (no descriptor is left) says nothing.
fn says_no(error: &io::Error) -> bool {
    let no_such_process = error.raw_os_error() == Some(Errno::SRCH.raw_os_error());
    no_such_process || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_of_the_same_number_is_told_from_the_container_s_own() {
        let id = "5e".repeat(32);
        // What starts a container's process has its id among its arguments.
        let mut shim = Command::new("sh")
            .args(["-c", "sleep 600 & echo $!; wait", "shim", &id])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(shim.stdout.take().unwrap()), &mut line).unwrap();
        let pid: i32 = line.trim().parse().unwrap();
        let (own, other) = (is_of(pid, &id), is_of(pid, &"ab".repeat(32)));
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
        shim.wait().unwrap();
        assert!(own && !other);
        assert!(!is_of(pid, &id), "it has ended");
        assert!(!is_of(1, &id));
    }
}
