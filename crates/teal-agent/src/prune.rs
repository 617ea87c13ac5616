//! `teal prune`: images of releases that nobody can go back to any more. Nothing else of Teal's removes an image.
//!
//! ```text
//! every release in the journal ─▶ its image ─ less those that a kept release or a container has ─▶ removed, name by name
//! ```

use crate::agent::{Agent, fault_of};
use crate::kept::Stays;
use crate::runtime::{ImageOnDisk, RuntimeError};
use std::collections::{BTreeMap, BTreeSet};
use teal_model::api::{PruneRequest, Pruned, PrunedImage};
use teal_model::fault::Fault;
use teal_model::ids::{ReleaseKey, ServiceKey};

/// A release that was, or is: what it needs to run.
#[derive(Debug, Clone)]
struct Used {
    image: String,
    image_id: Option<String>,
}

type History = BTreeMap<ReleaseKey, Used>;

impl Agent {
    /// # Errors
    /// The journal or the engine does not answer, or there is no such project. What becomes of a single image is no error.
    pub async fn prune(&self, request: &PruneRequest) -> Result<Pruned, Fault> {
        let history = self.history_of_images()?;
        let asked = |service: &ServiceKey| request.project.as_ref().is_none_or(|project| *project == service.project);
        if let Some(project) = request.project.as_ref().filter(|_| !history.keys().any(|one| asked(&one.service))) {
            return Err(self.not_here(project, None));
        }
        let mut releases: BTreeMap<&str, Vec<ReleaseKey>> = BTreeMap::new();
        for (release, used) in history.iter().filter(|(release, _)| asked(&release.service)) {
            if let Some(id) = &used.image_id {
                releases.entry(id).or_default().push(release.clone());
            }
        }
        let mut pruned = Pruned::default();
        let kept = self.needed_images(&history).await?;
        for image in self.runtime.images().await.map_err(fault_of)? {
            let Some(releases) = releases.get(image.id.as_str()).filter(|_| !kept.contains(&image.id)) else {
                continue;
            };
            let gone = match request.dry_run {
                true => Ok(true),
                false => self.prune_image(&image, &history).await,
            };
            let words = || match image.names.is_empty() {
                true => image.id.clone(),
                false => image.names.join(", "),
            };
            match gone {
                Ok(true) => pruned.images.push(PrunedImage {
                    id: image.id,
                    names: image.names,
                    bytes: image.bytes,
                    releases: releases.clone(),
                }),
                Ok(false) => pruned.left.push(format!("{}: it is in use, or another image is made from it", words())),
                Err(fault) => pruned.left.push(format!("{}: {fault}", words())),
            }
        }
        if !request.dry_run {
            tracing::info!(who = request.who, images = pruned.images.len(), left = pruned.left.len(), "pruned");
        }
        Ok(pruned)
    }

    /// Name by name; false: it is still there.
    async fn prune_image(&self, image: &ImageOnDisk, history: &History) -> Result<bool, Fault> {
        // A deployment that has looked which images are here is in the journal before this goes on.
        let _claims = self.claims.lock().await;
        if self.needed_images(history).await?.contains(&image.id) {
            return Ok(false);
        }
        for name in &image.names {
            if self.has_name(image, name).await.map_err(fault_of)? {
                self.runtime.remove_image(name).await.map_err(fault_of)?;
            }
        }
        if self.runtime.image(&image.id).await.map_err(fault_of)?.is_none() {
            return Ok(true);
        }
        self.runtime.remove_image(&image.id).await.map_err(fault_of)
    }

    /// A name may have moved to another image since it was read.
    async fn has_name(&self, image: &ImageOnDisk, name: &str) -> Result<bool, RuntimeError> {
        Ok(self.runtime.image(name).await?.is_some_and(|named| named.id == image.id))
    }

    /// Every release of the journal.
    fn history_of_images(&self) -> Result<History, Fault> {
        let mut history = History::new();
        for kept in self.journal.history(None, u32::MAX)? {
            for member in kept.deployment.plan.members {
                history.insert(member.candidate, Used { image: member.image, image_id: member.image_id });
                if let Some(live) = member.live {
                    let id = Some(live.image_id).filter(|id| !id.is_empty());
                    history.insert(live.release, Used { image: live.image, image_id: id });
                }
            }
        }
        for live in self.journal.services()?.into_iter().filter_map(|record| record.live) {
            history.insert(live.release, Used { image: live.image, image_id: live.image_id });
        }
        Ok(history)
    }

    /// Ids of the images that containers have, and those that kept releases are made of or name.
    async fn needed_images(&self, history: &History) -> Result<BTreeSet<String>, Fault> {
        let (mut needed, mut names) = (BTreeSet::new(), BTreeSet::new());
        for container in self.runtime.list(&[]).await.map_err(fault_of)? {
            needed.insert(container.image_id);
        }
        let mut add = |image: &str, id: Option<&String>| {
            needed.extend(id.cloned());
            names.insert(image.to_owned());
        };
        let kept = self.kept_releases().await?.with(Stays::Image);
        // One without an id never had an image.
        for (_, used) in history.iter().filter(|(release, used)| kept.contains(*release) && used.image_id.is_some()) {
            add(&used.image, used.image_id.as_ref());
        }
        for member in self.journal.unfinished()?.into_iter().flat_map(|kept| kept.deployment.plan.members) {
            add(&member.image, member.image_id.as_ref());
            if let Some(live) = &member.live {
                add(&live.image, Some(&live.image_id));
            }
        }
        for name in names {
            let image = self.runtime.image(&name).await.map_err(fault_of)?;
            needed.extend(image.map(|image| image.id));
        }
        Ok(needed)
    }
}
