//! What the releases of a service are: one that was made again is the one that it was made from.

use std::collections::BTreeMap;
use teal_model::api::Way;

/// Where a release came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    pub was_live: bool,
    /// The release that it replaced.
    pub before: Option<u64>,
    /// The earlier release that it was made from again.
    pub again: Option<u64>,
}

/// Every release of a service that the journal has, by number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lineage(BTreeMap<u64, Origin>);

impl Lineage {
    pub fn add(&mut self, number: u64, origin: Origin) {
        self.0.insert(number, origin);
    }

    /// The first release of the same content: itself, unless it was made again.
    pub fn source(&self, number: u64) -> u64 {
        let earlier = |number: &u64| self.0.get(number)?.again.filter(|again| again < number);
        std::iter::successors(Some(number), earlier).last().unwrap_or(number)
    }

    pub fn is_same(&self, one: u64, other: u64) -> bool {
        self.source(one) == self.source(other)
    }

    /// What its content replaced when it was new.
    pub fn before(&self, number: u64) -> Option<u64> {
        let source = self.source(number);
        self.0.get(&source)?.before.filter(|before| *before < source)
    }

    /// Going back step by step: the source of this one, and of each one before that.
    pub fn back_from(&self, number: u64) -> impl Iterator<Item = u64> {
        let step = |source: &u64| self.before(*source).map(|before| self.source(before));
        std::iter::successors(Some(self.source(number)), step)
    }

    /// How somebody comes from what is live to what is warm.
    pub fn way(&self, live: u64, warm: u64) -> Way {
        match self.before(live) {
            _ if self.is_same(live, warm) => Way::Same,
            Some(before) if self.is_same(before, warm) => Way::Before,
            _ => Way::ByNumber,
        }
    }

    /// The numbers that were live, newest first.
    pub fn were_live(&self) -> impl Iterator<Item = u64> {
        self.0.iter().rev().filter(|(_, origin)| origin.was_live).map(|(number, _)| *number)
    }

    /// Those that came after the content of this one, live or not.
    pub fn after(&self, number: u64) -> impl Iterator<Item = u64> {
        self.0.range(self.source(number) + 1..).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1, 2, back to 1 (3), forward to 2 (4), 5 after it, back from that (6).
    fn to_and_fro() -> Lineage {
        let mut lineage = Lineage::default();
        let releases =
            [(1, None, None), (2, Some(1), None), (3, Some(2), Some(1)), (4, Some(3), Some(2)), (5, Some(4), None)];
        for (number, before, again) in releases {
            lineage.add(number, Origin { was_live: true, before, again });
        }
        lineage.add(6, Origin { was_live: true, before: Some(5), again: Some(4) });
        lineage
    }

    #[test]
    fn what_was_made_again_is_what_it_was_made_from_however_often() {
        let lineage = to_and_fro();
        assert_eq!([1, 2, 3, 4, 5, 6].map(|number| lineage.source(number)), [1, 2, 1, 2, 5, 2]);
        assert_eq!(lineage.back_from(5).collect::<Vec<_>>(), [5, 2, 1]);
        assert_eq!(lineage.back_from(6).collect::<Vec<_>>(), [2, 1], "not by what it was gone back from");
        assert_eq!((lineage.before(3), lineage.before(6)), (None, Some(1)));
        assert_eq!(lineage.after(6).collect::<Vec<_>>(), [3, 4, 5, 6]);
    }

    #[test]
    fn the_way_to_what_is_warm_is_one_that_leads_there() {
        let lineage = to_and_fro();
        assert_eq!(lineage.way(2, 1), Way::Before);
        assert_eq!(lineage.way(1, 2), Way::ByNumber, "it is gone back from");
        assert_eq!(lineage.way(4, 3), Way::Before);
        assert_eq!(lineage.way(3, 1), Way::Same);
        assert_eq!(lineage.way(5, 1), Way::ByNumber);
    }

    #[test]
    fn a_journal_that_names_itself_leads_nowhere_else() {
        let mut lineage = Lineage::default();
        lineage.add(3, Origin { was_live: true, before: Some(3), again: Some(3) });
        assert_eq!((lineage.source(3), lineage.back_from(3).count()), (3, 1));
    }
}
