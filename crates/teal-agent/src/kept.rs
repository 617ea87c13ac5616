//! Which releases stay, and what of each: the one answer for containers, stored settings and images.
//!
//! ```text
//! live, routed, warm ─▶ containers    in a deployment, may be gone back to ─▶ settings    came after what is live ─▶ image
//!                       and settings                                          and image
//! ```

use crate::agent::Agent;
use crate::lineage::Lineage;
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
    pub lineages: BTreeMap<ServiceKey, Lineage>,
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
            let release = |number: u64| ReleaseKey::new(service.clone(), number);
            kept.keep([release(live.number)], Stays::Containers);
            let Some(lineage) = known.lineages.get(service) else { continue };
            kept.keep(gone_back_to(lineage, *live).into_iter().map(release), Stays::Settings);
            kept.keep(lineage.after(live.number).map(release), Stays::Image);
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

/// Of each content the newest release: what can be gone back to step by step, others before what is live, and beside those what
/// somebody went back from.
fn gone_back_to(lineage: &Lineage, live: Live) -> Vec<u64> {
    let window = live.keep.map_or(usize::MAX, |keep| keep as usize);
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    let mut sources = Vec::new();
    for number in lineage.were_live() {
        let source = lineage.source(number);
        newest.entry(source).or_insert_with(|| {
            sources.push(source);
            number
        });
    }
    let way: Vec<u64> = lineage.back_from(live.number).filter(|source| newest.contains_key(source)).collect();
    let beside = sources.into_iter().filter(|source| !way.contains(source));
    let (newer, older): (Vec<u64>, Vec<u64>) = beside.partition(|source| *source > lineage.source(live.number));
    let back = way.iter().chain(&older).take(window);
    back.chain(newer.iter().take(window)).map(|source| newest[source]).collect()
}

impl Agent {
    pub async fn kept_releases(&self) -> Result<KeptReleases, Fault> {
        let mut known = Known { lineages: self.journal.lineages()?, ..Known::default() };
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
    use crate::lineage::Origin;
    use Stays::{Containers, Image, Settings};

    fn release(number: u64) -> ReleaseKey {
        ReleaseKey::new(ServiceKey::new("shop", "web"), number)
    }

    fn some(numbers: &[u64]) -> BTreeSet<ReleaseKey> {
        numbers.iter().map(|number| release(*number)).collect()
    }

    fn lineage(releases: impl IntoIterator<Item = (u64, Origin)>) -> BTreeMap<ServiceKey, Lineage> {
        let mut lineage = Lineage::default();
        releases.into_iter().for_each(|(number, origin)| lineage.add(number, origin));
        BTreeMap::from([(release(1).service, lineage)])
    }

    fn live_after(before: u64) -> Origin {
        Origin { was_live: true, before: Some(before).filter(|before| *before > 0), again: None }
    }

    /// Releases 1 to 9, of which 5 never was live.
    fn known(live: u64, keep: Option<u32>) -> Known {
        let origin = |number: u64| match number {
            5 => Origin { was_live: false, ..live_after(4) },
            6 => live_after(4),
            _ => live_after(number - 1),
        };
        Known {
            lineages: lineage((1..=9).map(|number| (number, origin(number)))),
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
    fn a_release_made_again_counts_with_the_one_that_it_was_made_from() {
        let again = |before, again| Origin { again: Some(again), ..live_after(before) };
        // 7, 8, back to 7, forward to 8.
        let releases =
            [(6, live_after(5)), (7, live_after(6)), (8, live_after(7)), (9, again(8, 7)), (10, again(9, 8))];
        let mut known = Known { lineages: lineage(releases), ..known(10, Some(2)) };
        assert_eq!(kept(&known), [(9, Settings), (10, Containers)]);
        known.live.insert(release(1).service, Live { number: 9, keep: Some(1) });
        assert_eq!(kept(&known), [(8, Image), (9, Containers), (10, Settings)], "it was gone back from");
    }

    #[test]
    fn what_a_release_replaced_stays_before_what_was_gone_back_from_earlier() {
        // Back from 3 to 2 by a flip, and then 4.
        let releases = [(1, live_after(0)), (2, live_after(1)), (3, live_after(2)), (4, live_after(2))];
        let known = Known { lineages: lineage(releases), ..known(4, Some(2)) };
        assert_eq!(kept(&known), [(2, Settings), (4, Containers)]);
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
        let mut lineage = Lineage::default();
        lineage.add(4, live_after(0));
        known.lineages.insert(other.service.clone(), lineage);
        known.live.insert(other.service.clone(), Live { number: 4, keep: Some(5) });
        known.live.remove(&release(9).service);
        assert_eq!(KeptReleases::of(&known).with(Image), BTreeSet::from([other]));
    }
}
