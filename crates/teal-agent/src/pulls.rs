//! Images on their way: started once each, and looked at until they are here.

use crate::agent::{Agent, fault_of};
use crate::planning::is_pulled;
use crate::runtime::PullProgress;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use teal_model::config::PullPolicy;
use teal_model::deployment::Pull;
use teal_model::fault::{Code, Fault};
use tokio::sync::{Notify, mpsc};

/// What is known of the pulls of this run of the agent.
#[derive(Default)]
pub struct Pulls {
    by_image: Mutex<BTreeMap<String, Pull>>,
    words: Mutex<BTreeMap<String, String>>,
    pub changed: Notify,
}

impl Pulls {
    pub fn all(&self) -> BTreeMap<String, Pull> {
        self.by_image.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, image: &str, pull: Pull) {
        self.by_image.lock().unwrap_or_else(PoisonError::into_inner).insert(image.to_owned(), pull);
        self.changed.notify_one();
    }

    pub fn say(&self, image: &str, progress: &PullProgress) {
        let words = format!(
            "pull {image}: {} of {} layers, {} of {} MB",
            progress.layers_done,
            progress.layers,
            progress.bytes_done >> 20,
            progress.bytes >> 20
        );
        self.words.lock().unwrap_or_else(PoisonError::into_inner).insert(image.to_owned(), words);
        self.changed.notify_one();
    }

    pub fn words(&self) -> String {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect::<Vec<_>>().join("; ")
    }
}

impl Agent {
    /// The image is here, pulled where it has to be.
    pub async fn ensure_image(
        &self,
        reference: &str,
        policy: PullPolicy,
        progress: mpsc::Sender<PullProgress>,
    ) -> Result<(), Fault> {
        let here = self.runtime.image(reference).await.map_err(fault_of)?;
        match here {
            Some(image) if !is_pulled(policy, reference, !image.repo_digests.is_empty()) => return Ok(()),
            None if policy == PullPolicy::Never => {
                return Err(Fault::new(
                    Code::ImageMissing,
                    format!("the image {reference} is not here, and pull_policy is `never`"),
                )
                .hint("build or load it first, or change pull_policy"));
            }
            _ => {}
        }
        self.runtime.pull(reference, progress).await.map(drop).map_err(fault_of)
    }
}
