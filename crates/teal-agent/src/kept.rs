//! Which releases stay, and what of each: the one answer for containers, stored settings and images.
//!
//! ```text
//! live, routed, warm ─▶ containers    in a deployment, may be gone back to ─▶ settings    came after what is live ─▶ image
//!                       and settings                                          and image
//! ```

use crate::agent::Agent;
use std::collections::{BTreeMap, BTreeSet};
use teal_model::fault::Fault;
use teal_model::ids::{ReleaseKey, ServiceKey};

/// What of a release stays: each includes what is named before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stays {
    /// It came after what is live and is not live: its file may be deployed again.
    Image,
    /// It is part of a deployment, or may be gone back to.
    Settings,
    /// It serves, may be asked by the proxy, or is warm.
    Containers,
}

/// What is known of releases.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Every one that the journal has; was it ever live?
    pub releases: BTreeMap<ReleaseKey, bool>,
    /// Of each service that runs.
    pub live: BTreeMap<ServiceKey, Live>,
    pub routed: BTreeSet<ReleaseKey>,
    /// Also those that are being ended.
    pub warm: BTreeSet<ReleaseKey>,
    /// Of deployments that have not ended: their candidates, and what was live before them.
    pub deployed: BTreeSet<ReleaseKey>,
}

#[derive(Debug, Clone, Copy)]
pub struct Live {
    pub number: u64,
    /// So many releases of it may be gone back to; None: its settings do not say, so all of them.
    pub keep: Option<u32>,
}

#[derive(Debug, Default)]
pub struct KeptReleases(BTreeMap<ReleaseKey, Stays>);

impl KeptReleases {
    pub fn of(known: &Known) -> Self {
        let mut kept = Self::default();
        kept.keep(known.routed.iter().chain(&known.warm).cloned(), Stays::Containers);
        kept.keep(known.deployed.iter().cloned(), Stays::Settings);
        for (service, live) in &known.live {
            kept.keep([ReleaseKey::new(service.clone(), live.number)], Stays::Containers);
            let window = live.keep.map_or(usize::MAX, |keep| keep as usize);
            let all = || known.releases.iter().rev().filter(|(release, _)| &release.service == service);
            let were_live = all().filter(|(_, was_live)| **was_live).map(|(release, _)| release.clone());
            // What somebody went back from stays as well, beside those before what is live.
            let (newer, rest): (Vec<_>, Vec<_>) = were_live.partition(|release| release.number > live.number);
            kept.keep(newer.into_iter().take(window).chain(rest.into_iter().take(window)), Stays::Settings);
            let after = all().map(|(release, _)| release).filter(|release| release.number > live.number);
            kept.keep(after.cloned(), Stays::Image);
        }
        kept
    }

    /// Those of which at least this stays.
    pub fn with(&self, part: Stays) -> BTreeSet<ReleaseKey> {
        self.0.iter().filter(|(_, stays)| **stays >= part).map(|(release, _)| release.clone()).collect()
    }

    fn keep(&mut self, releases: impl IntoIterator<Item = ReleaseKey>, part: Stays) {
        for release in releases {
            let stays = self.0.entry(release).or_insert(part);
            *stays = part.max(*stays);
        }
    }
}

impl Agent {
    pub async fn kept_releases(&self) -> Result<KeptReleases, Fault> {
        let mut known = Known { releases: self.journal.releases()?, ..Known::default() };
        for record in self.journal.services()? {
            // The proxy may go by what was journaled last, or by what could not be journaled.
            known.routed.extend(record.routing.into_iter().flat_map(|routing| routing.names()));
            let Some(live) = record.live else { continue };
            let keep = self.store.release(&live.release).ok().map(|stored| stored.service.teal.keep);
            known.live.insert(record.service, Live { number: live.release.number, keep });
        }
        known.routed.extend(self.publisher.routings().await.into_values().flat_map(|routing| routing.names()));
        known.warm.extend(self.journal.retained()?.into_iter().map(|warm| warm.release));
        known.warm.extend(self.cooling().iter().cloned());
        for member in self.journal.unfinished()?.into_iter().flat_map(|kept| kept.deployment.plan.members) {
            known.deployed.extend(member.live.map(|live| live.release));
            known.deployed.insert(member.candidate);
        }
        Ok(KeptReleases::of(&known))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use Stays::{Containers, Image, Settings};

    fn release(number: u64) -> ReleaseKey {
        ReleaseKey::new(ServiceKey::new("shop", "web"), number)
    }

    fn some(numbers: &[u64]) -> BTreeSet<ReleaseKey> {
        numbers.iter().map(|number| release(*number)).collect()
    }

    /// Releases 1 to 9, of which 5 never was live.
    fn known(live: u64, keep: Option<u32>) -> Known {
        Known {
            releases: (1..=9).map(|number| (release(number), number != 5)).collect(),
            live: BTreeMap::from([(release(live).service, Live { number: live, keep })]),
            ..Known::default()
        }
    }

    fn kept(known: &Known) -> Vec<(u64, Stays)> {
        KeptReleases::of(known).0.into_iter().map(|(release, stays)| (release.number, stays)).collect()
    }

    #[test]
    fn as_many_as_are_kept_may_be_gone_back_to_and_those_that_never_were_live_do_not_count() {
        assert_eq!(kept(&known(9, Some(3))), [(7, Settings), (8, Settings), (9, Containers)]);
        assert_eq!(kept(&known(6, Some(3)))[..3], [(3, Settings), (4, Settings), (6, Containers)]);
        assert_eq!(kept(&known(9, Some(0))), [(9, Containers)]);
    }

    #[test]
    fn what_somebody_went_back_from_stays_beside_those_before() {
        let expected = [
            (2, Settings),
            (3, Containers),
            (4, Image),
            (5, Image),
            (6, Image),
            (7, Image),
            (8, Settings),
            (9, Settings),
        ];
        assert_eq!(kept(&known(3, Some(2))), expected);
    }

    #[test]
    fn where_the_settings_do_not_say_how_many_all_stay() {
        assert_eq!(kept(&known(9, None)).len(), 8);
    }

    #[test]
    fn what_never_was_live_stays_as_an_image_until_something_later_is() {
        assert_eq!(kept(&known(4, Some(1)))[..2], [(4, Containers), (5, Image)]);
        assert!(!KeptReleases::of(&known(6, Some(9))).with(Image).contains(&release(5)));
    }

    #[test]
    fn what_is_warm_or_routed_or_deployed_stays_whatever_its_number() {
        let (warm, routed, deployed) = (some(&[1]), some(&[2]), some(&[5]));
        let mut known = Known { warm, routed, deployed, ..known(9, Some(1)) };
        let expected = vec![(1, Containers), (2, Containers), (5, Settings), (9, Containers)];
        assert_eq!(kept(&known), expected);
        known.deployed.insert(release(1));
        assert_eq!(kept(&known), expected, "a candidate that is warm keeps its containers");
    }

    #[test]
    fn each_part_includes_those_before_it() {
        let kept = KeptReleases::of(&Known { warm: some(&[3]), deployed: some(&[1]), ..known(4, Some(1)) });
        assert_eq!(kept.with(Containers), some(&[3, 4]));
        assert_eq!(kept.with(Settings), some(&[1, 3, 4, 9]));
        assert_eq!(kept.with(Image), some(&[1, 3, 4, 5, 6, 7, 8, 9]));
    }

    #[test]
    fn a_service_that_does_not_run_keeps_nothing_and_another_one_is_none_of_its_business() {
        let mut known = known(9, Some(2));
        let other = ReleaseKey::new(ServiceKey::new("shop", "api"), 4);
        known.releases.insert(other.clone(), true);
        known.live.insert(other.service.clone(), Live { number: 4, keep: Some(5) });
        known.live.remove(&release(9).service);
        assert_eq!(KeptReleases::of(&known).with(Image), BTreeSet::from([other]));
    }
}
