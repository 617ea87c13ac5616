//! `teal prune`: images of releases that nobody can go back to any more. Nothing else of Teal's removes an image.
//!
//! ```text
//! every release in the journal ─▶ its image ─ less those that a kept release or a container has
//!                                           ─ less those that others name, or are made from ─▶ removed, name by name
//! ```

use crate::agent::{Agent, fault_of};
use crate::kept::Stays;
use crate::runtime::docker::reference::Reference;
use crate::runtime::{ImageOnDisk, Runtime, RuntimeError};
use std::cmp::Reverse;
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
        let all = self.runtime.images().await.map_err(fault_of)?;
        let is_old = |image: &&ImageOnDisk| releases.contains_key(image.id.as_str()) && !kept.contains(&image.id);
        let mut images: Vec<&ImageOnDisk> = all.iter().filter(is_old).collect();
        let recorded: Vec<&str> = history.values().map(|used| used.image.as_str()).collect();
        let stranger = |image: &ImageOnDisk| image.names.iter().find(|name| !is_recorded(name, &recorded)).cloned();
        images.retain(|image| match stranger(image) {
            Some(name) => {
                pruned.left.push(format!("{}: no release was deployed by the name {name}", words(image)));
                false
            }
            None => true,
        });
        let family = Family::of(&*self.runtime, &all).await.map_err(fault_of)?;
        while let Some((at, child)) = family.kept_by(&images) {
            let image = images.remove(at);
            pruned.left.push(format!("{}: {} is made from it", words(image), words(child)));
        }
        family.children_first(&mut images);
        for image in images {
            let gone = match request.dry_run {
                true => Ok(true),
                false => self.prune_image(image, &history).await,
            };
            match gone {
                Ok(true) => pruned.images.push(PrunedImage {
                    id: image.id.clone(),
                    names: image.names.clone(),
                    bytes: image.bytes,
                    releases: releases.remove(image.id.as_str()).unwrap_or_default(),
                }),
                Ok(false) => pruned.left.push(format!("{}: it is in use", words(image))),
                Err(fault) => pruned.left.push(format!("{}: {fault}", words(image))),
            }
        }
        if !request.dry_run {
            tracing::info!(who = request.who, images = pruned.images.len(), left = pruned.left.len(), "pruned");
        }
        Ok(pruned)
    }

    /// All of it, or nothing; false: it is still there.
    async fn prune_image(&self, image: &ImageOnDisk, history: &History) -> Result<bool, Fault> {
        // A deployment that has looked which images are here is in the journal before this goes on.
        let _claims = self.claims.lock().await;
        if self.needed_images(history).await?.contains(&image.id) {
            return Ok(false);
        }
        let gone = self.remove_by_names(image).await;
        if self.runtime.image(&image.id).await.map_err(fault_of)?.is_some() {
            // The engine takes the last name off before it finds that the image has to stay.
            for name in image.names.iter().filter(|name| !name.contains('@')) {
                if self.runtime.image(name).await.map_err(fault_of)?.is_none() {
                    self.runtime.tag_image(&image.id, name).await.map_err(fault_of)?;
                }
            }
        }
        gone.map_err(fault_of)
    }

    async fn remove_by_names(&self, image: &ImageOnDisk) -> Result<bool, RuntimeError> {
        for name in &image.names {
            if self.has_name(image, name).await? {
                self.runtime.remove_image(name).await?;
            }
        }
        if self.runtime.image(&image.id).await?.is_none() {
            return Ok(true);
        }
        self.runtime.remove_image(&image.id).await
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

fn words(image: &ImageOnDisk) -> String {
    if image.names.is_empty() { image.id.clone() } else { image.names.join(", ") }
}

/// Has a release been deployed by this name? A digest is one of a name that has moved on.
fn is_recorded(name: &str, recorded: &[&str]) -> bool {
    let Ok(name) = Reference::parse(name) else { return false };
    recorded.iter().filter_map(|one| Reference::parse(one).ok()).any(|one| match name.digest {
        Some(_) => one.name() == name.name(),
        None => (one.name(), &one.tag) == (name.name(), &name.tag),
    })
}

/// Which image is made from which: by what the builder says, or by its layers.
struct Family<'a> {
    all: BTreeMap<&'a str, &'a ImageOnDisk>,
    layers: BTreeMap<&'a str, Vec<String>>,
}

impl<'a> Family<'a> {
    async fn of(runtime: &dyn Runtime, images: &'a [ImageOnDisk]) -> Result<Self, RuntimeError> {
        let mut layers = BTreeMap::new();
        for image in images {
            // What was removed meanwhile is nobody's child.
            let Some(seen) = runtime.image(&image.id).await? else { continue };
            layers.insert(image.id.as_str(), seen.layers);
        }
        Ok(Self { all: images.iter().map(|image| (image.id.as_str(), image)).collect(), layers })
    }

    /// One of these that has to stay, and the image that is made from it and stays.
    fn kept_by(&self, going: &[&'a ImageOnDisk]) -> Option<(usize, &'a ImageOnDisk)> {
        let goes = |image: &&&ImageOnDisk| going.iter().any(|one| one.id == image.id);
        let staying = || self.all.values().filter(|image| !goes(image) && !self.is_step(image));
        going.iter().enumerate().find_map(|(at, image)| {
            let child = staying().find(|child| self.is_made_from(child, image))?;
            Some((at, *child))
        })
    }

    /// A builder's step between two images: the engine removes it with the last one that is made from it.
    fn is_step(&self, image: &ImageOnDisk) -> bool {
        image.names.is_empty() && self.all.values().any(|child| child.parent.as_ref() == Some(&image.id))
    }

    fn is_made_from(&self, child: &ImageOnDisk, image: &ImageOnDisk) -> bool {
        let layers = |image: &ImageOnDisk| self.layers.get(image.id.as_str()).map_or(&[][..], Vec::as_slice);
        let (of_child, of_image) = (layers(child), layers(image));
        let by_layers = !of_image.is_empty() && of_child.len() > of_image.len() && of_child.starts_with(of_image);
        by_layers || self.parents(child).any(|parent| parent.id == image.id)
    }

    fn parents(&self, image: &ImageOnDisk) -> impl Iterator<Item = &'a ImageOnDisk> {
        let parent = |image: &ImageOnDisk| self.all.get(image.parent.as_deref()?).copied();
        std::iter::successors(parent(image), move |image| parent(image))
    }

    fn children_first(&self, images: &mut [&'a ImageOnDisk]) {
        images.sort_by_cached_key(|image| Reverse(self.parents(image).count()));
    }
}
