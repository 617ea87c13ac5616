//! Where requests of one service for one port go, by one table.

use crate::backend::Backend;
use crate::pool::Pool;
use crate::preview::Preview;
use crate::skew::Guard;
use crate::split::Split;
use crate::sticky::Sticky;
use crate::table::{Known, Release, Service};
use std::rc::Rc;
use teal_model::ids::ReleaseKey;
use teal_model::wire::{Hold, ReleaseEntry, RoutePort, ServiceEntry, Timeouts};

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) service: Rc<Service>,
    pub(crate) hold: Hold,
    pub(crate) timeouts: Timeouts,
    holding: bool,
    /// Of all releases that are listed, in their order.
    pools: Vec<Pool>,
    split: Rc<Split>,
    /// Of each share of `split`: its pool.
    shares: Vec<usize>,
    /// None for most services, and then no request pays for it.
    exceptions: Option<Box<Exceptions>>,
}

/// Where a service goes by more than its weights.
#[derive(Debug)]
struct Exceptions {
    preview: Option<Preview>,
    hides_preview: bool,
    sticky: Option<Rc<Sticky>>,
    guard: Option<Guard>,
}

/// How a request finds its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Way {
    #[default]
    Weights,
    /// By the user's place, in parts of 2^64.
    User(u64),
    Preview,
}

/// What to do with a request.
#[derive(Debug)]
pub(crate) enum Choice<'a> {
    Use(&'a Rc<Release>, &'a Rc<Backend>),
    /// Nobody is there to answer.
    Hold,
}

impl Target {
    pub(crate) fn new(service: &Rc<Service>, entry: &ServiceEntry, port: RoutePort, known: &Known) -> Self {
        let pool = |listed: &ReleaseEntry| {
            let backends = listed.backends.iter();
            let backends = backends.filter_map(|backend| known.backend(&listed.release, &backend.id, port));
            Some(Pool::new(known.release(&listed.release)?, backends.collect()))
        };
        let pools: Vec<_> = entry.releases.iter().filter_map(pool).collect();
        let split = service.split.borrow().clone();
        // What is not listed was refused before it came here.
        let pool_of =
            |release: &ReleaseKey| pools.iter().position(|pool| pool.release.key == *release).unwrap_or(usize::MAX);
        let exceptions = Exceptions {
            preview: entry.preview.as_ref().map(|preview| Preview::new(preview, pool_of(&preview.release))),
            hides_preview: entry.hides_preview || entry.preview.is_some(),
            sticky: entry.sticky.as_ref().and_then(Sticky::new).map(Rc::new),
            guard: entry.skew_guard.as_ref().map(|guard| Guard::new(guard, pool_of)),
        };
        let any = exceptions.hides_preview || exceptions.sticky.is_some() || exceptions.guard.is_some();
        Self {
            service: service.clone(),
            hold: entry.hold,
            timeouts: entry.timeouts,
            holding: entry.holding,
            shares: split.releases().map(pool_of).collect(),
            pools,
            split,
            exceptions: any.then(|| Box::new(exceptions)),
        }
    }

    pub(crate) fn preview(&self) -> Option<&Preview> {
        self.exceptions.as_ref()?.preview.as_ref()
    }

    /// Whether what asks for a preview is none of the application's business.
    pub(crate) fn hides_preview(&self) -> bool {
        self.exceptions.as_ref().is_some_and(|exceptions| exceptions.hides_preview)
    }

    pub(crate) fn sticky(&self) -> Option<&Rc<Sticky>> {
        self.exceptions.as_ref()?.sticky.as_ref()
    }

    fn of_share(&self, share: usize) -> Option<&Pool> {
        self.pools.get(self.shares[share])
    }

    fn of_preview(&self) -> Option<&Pool> {
        self.pools.get(self.preview()?.pool)
    }

    /// The release by the way, the backend by least in flight. Those in `tried` only when there is no other.
    pub(crate) fn choose(&self, way: Way, tried: &[Rc<Backend>]) -> Choice<'_> {
        let pool = if way == Way::Preview { self.of_preview() } else { self.by_share(way, tried) };
        match pool.and_then(|pool| Some((&pool.release, pool.backend(tried)?))) {
            Some((release, backend)) => Choice::Use(release, backend),
            None => Choice::Hold,
        }
    }

    fn by_share(&self, way: Way, tried: &[Rc<Backend>]) -> Option<&Pool> {
        if self.holding {
            return None;
        }
        let others = !tried.is_empty() && self.has_other(way, tried);
        let usable = |share: usize| {
            self.of_share(share).is_some_and(|pool| if others { pool.has_other(tried) } else { pool.is_alive() })
        };
        let own = match way {
            Way::User(place) => self.split.at(place).filter(|share| usable(*share)),
            Way::Weights | Way::Preview => None,
        };
        own.or_else(|| self.split.next(usable)).and_then(|share| self.of_share(share))
    }

    /// Whether a user with this place belongs to `release`.
    pub(crate) fn is_of(&self, place: u64, release: &Release) -> bool {
        let pool = self.split.at(place).and_then(|share| self.of_share(share));
        pool.is_some_and(|pool| pool.release.key == release.key)
    }

    /// Whether a request would find a backend.
    pub(crate) fn is_open(&self) -> bool {
        self.has_other(Way::Weights, &[])
    }

    /// Whether a backend outside `tried` could be chosen.
    pub(crate) fn has_other(&self, way: Way, tried: &[Rc<Backend>]) -> bool {
        if way == Way::Preview {
            return self.of_preview().is_some_and(|pool| pool.has_other(tried));
        }
        let mut pools = self.shares.iter().filter_map(|pool| self.pools.get(*pool));
        !self.holding && pools.any(|pool| pool.has_other(tried))
    }

    /// Who may have what `release` has not, by the skew guard.
    pub(crate) fn other_than(&self, release: &Release, path: &[u8]) -> Option<(&Rc<Release>, &Rc<Backend>)> {
        let guard = self.exceptions.as_ref()?.guard.as_ref()?;
        if self.holding || !guard.covers(path) {
            return None;
        }
        let pools = || guard.pools.iter().filter_map(|pool| self.pools.get(*pool));
        pools().find(|pool| pool.release.key == release.key)?;
        let others = pools().filter(|pool| pool.release.key != release.key);
        others.into_iter().find_map(|pool| Some((&pool.release, pool.backend(&[])?)))
    }
}
