//! The image of a holder: one program that does nothing, for ever. A holder is a container that owns a service's name and
//! address on its networks, so that neither changes when the replicas do; the proxy listens inside its network namespace.
//!
//! ```text
//! 64 bytes ELF header ─ 56 bytes program header ─ the loop: pause(2), again
//! ```

use super::DockerRuntime;
use super::connection::bounded;
use crate::runtime::{Image, Result, RuntimeError};
use bollard::query_parameters::ImportImageOptions;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

/// The number changes with the program.
pub const IMAGE: &str = "teal-holder:1";

const LOADED_AT: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

/// A machine that holders run on, in Docker's words and in ELF's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    architecture: &'static str,
    elf: u16,
    code: &'static [u8],
}

const MACHINES: [Machine; 2] = [
    Machine {
        architecture: "amd64",
        elf: 62,
        code: &[
            0xb8, 0x22, 0x00, 0x00, 0x00, // mov eax, 34 (pause)
            0x0f, 0x05, // syscall
            0xeb, 0xf7, // jmp to the beginning
        ],
    },
    Machine {
        architecture: "arm64",
        elf: 183,
        code: &[
            0x00, 0x00, 0x80, 0xd2, // mov x0, 0
            0x01, 0x00, 0x80, 0xd2, // mov x1, 0
            0x02, 0x00, 0x80, 0xd2, // mov x2, 0
            0x03, 0x00, 0x80, 0xd2, // mov x3, 0
            0x04, 0x00, 0x80, 0xd2, // mov x4, 0
            0x28, 0x09, 0x80, 0xd2, // mov x8, 73 (ppoll of nothing, without end)
            0x01, 0x00, 0x00, 0xd4, // svc 0
            0xf9, 0xff, 0xff, 0x17, // b to the beginning
        ],
    },
];

impl Machine {
    /// By the engine's own word for itself (`uname -m`).
    fn of_engine(machine: &str) -> Option<Self> {
        let architecture = match machine {
            "x86_64" | "amd64" => "amd64",
            "aarch64" | "arm64" => "arm64",
            _ => return None,
        };
        MACHINES.into_iter().find(|machine| machine.architecture == architecture)
    }

    /// A static program: one segment that is read and run, headers included.
    fn program(self) -> Vec<u8> {
        let size = HEADERS + self.code.len() as u64;
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        let half = |elf: &mut Vec<u8>, value: u16| elf.extend(value.to_le_bytes());
        let word = |elf: &mut Vec<u8>, value: u32| elf.extend(value.to_le_bytes());
        let long = |elf: &mut Vec<u8>, value: u64| elf.extend(value.to_le_bytes());
        half(&mut elf, 2); // an executable
        half(&mut elf, self.elf);
        word(&mut elf, 1); // version
        long(&mut elf, LOADED_AT + HEADERS); // entry
        long(&mut elf, 64); // program headers begin
        long(&mut elf, 0); // no sections
        word(&mut elf, 0); // flags
        for value in [64, 56, 1, 0, 0, 0] {
            half(&mut elf, value); // sizes and counts of the headers
        }
        word(&mut elf, 1); // to be loaded
        word(&mut elf, 5); // to be read and run
        for value in [0, LOADED_AT, LOADED_AT, size, size, 0x1000] {
            long(&mut elf, value); // offset, addresses, sizes, alignment
        }
        elf.extend(self.code);
        elf
    }

    /// As `docker save` writes an image: the same bytes each time, so the same id each time.
    fn archive(self) -> std::io::Result<Vec<u8>> {
        let layer = tar(&[("holder", 0o755, &self.program())])?;
        let config = serde_json::json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": { "Cmd": ["/holder"], "StopSignal": "SIGKILL" },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))] },
        });
        let config = config.to_string().into_bytes();
        let name = format!("{}.json", hex(&config));
        let manifest = serde_json::json!([{ "Config": name, "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
        let manifest = manifest.to_string().into_bytes();
        tar(&[(&name, 0o644, &config), ("layer.tar", 0o644, &layer), ("manifest.json", 0o644, &manifest)])
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files of root, of the beginning of time.
fn tar(files: &[(&str, u32, &[u8])]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, name, *bytes)?;
    }
    archive.into_inner()
}

impl DockerRuntime {
    /// The image that holders run, loaded when it is not here.
    pub(super) async fn holder(&self) -> Result<Image> {
        if let Some(image) = self.image_at(IMAGE).await? {
            return Ok(image);
        }
        let what = || format!("load the image {IMAGE}");
        let refused = |why: String| RuntimeError::Refused { what: what(), why };
        let client = self.connection.client().await?;
        let info = bounded(client.info()).await.map_err(|error| self.connection.fault(what(), error))?;
        let architecture = info.architecture.unwrap_or_default();
        let machine = Machine::of_engine(&architecture)
            .ok_or_else(|| refused(format!("there is none for the architecture `{architecture}`")))?;
        let archive = machine.archive().map_err(|error| refused(error.to_string()))?;
        let mut said = client.import_image(ImportImageOptions::default(), bollard::body_full(archive.into()), None);
        while let Some(line) = said.next().await {
            line.map_err(|error| self.connection.fault(what(), error))?;
        }
        drop(said);
        self.image_at(IMAGE).await?.ok_or_else(|| refused("it was loaded, and is not there".to_owned()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_program_runs_and_does_nothing_until_it_is_killed() {
        let Some(machine) = Machine::of_engine(std::env::consts::ARCH) else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("holder");
        std::fs::write(&path, machine.program()).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(child.try_wait().unwrap(), None, "it goes on");
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn the_archive_is_the_same_each_time() {
        for machine in MACHINES {
            assert_eq!(machine.archive().unwrap(), machine.archive().unwrap());
        }
    }
}
