//! What an engine is too old for is refused by key, never left out in silence.

use super::super::{Result, RuntimeError};
use bollard::ClientVersion;

/// The API version that both sides speak, and the call that needs to know.
#[derive(Debug, Clone)]
pub struct Speaks {
    pub api: ClientVersion,
    /// `create container web-blue-1`.
    pub what: String,
}

impl Speaks {
    pub fn new(api: ClientVersion, what: impl Into<String>) -> Self {
        Self { api, what: what.into() }
    }

    /// API 1.`minor` or newer.
    pub fn at_least(&self, minor: usize) -> bool {
        (self.api.major_version, self.api.minor_version) >= (1, minor)
    }

    /// `key` as the compose file calls it, `docker` the first version that can do it, with API 1.`minor`.
    pub fn needs(&self, key: &str, docker: &str, minor: usize) -> Result<()> {
        match self.at_least(minor) {
            true => Ok(()),
            false => Err(self.refused(format!(
                "`{key}` needs Docker {docker} (API 1.{minor}), and this one speaks API {}; upgrade Docker, or take the key out",
                self.api
            ))),
        }
    }

    pub fn refused(&self, why: impl Into<String>) -> RuntimeError {
        RuntimeError::Refused { what: self.what.clone(), why: why.into() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_new_is_refused_with_key_and_version() {
        let speaks = |minor| {
            Speaks::new(ClientVersion { major_version: 1, minor_version: minor }, "create container `web-blue-1`")
        };
        assert!(speaks(43).needs("annotations", "24.0", 43).is_ok());
        let text = speaks(41).needs("annotations", "24.0", 43).unwrap_err().to_string();
        assert!(text.contains("web-blue-1") && text.contains("annotations") && text.contains("24.0"), "{text}");
        assert!(text.contains("1.41"), "{text}");
    }
}
