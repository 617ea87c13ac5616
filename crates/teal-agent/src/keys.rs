//! Words that only this agent and its proxy know, made of the salt: the same after a restart.

use sha2::{Digest, Sha256};
use teal_model::ids::ReleaseKey;

#[derive(Clone)]
pub struct Keys {
    salt: String,
}

impl Keys {
    pub fn of(salt: &str) -> Self {
        Self { salt: salt.to_owned() }
    }

    /// Signs the cookies of sticky shares; hex.
    pub fn cookie(&self) -> String {
        self.key("cookie")
    }

    /// By which the agent itself asks for a candidate.
    pub fn preview(&self, release: &ReleaseKey) -> String {
        self.key(&format!("preview of {release}"))
    }

    fn key(&self, of: &str) -> String {
        let digest = Sha256::new().chain_update(&self.salt).chain_update([0]).chain_update(of).finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
