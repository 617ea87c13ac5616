//! What sets one request apart from the next: whether it is a preview, and which user sent it.

use crate::http1::request::Request;
use crate::peer::JudgedPeer;
use crate::preview;
use crate::sticky::{Sticky, User};
use crate::table::Release;
use crate::target::{Target, Way};
use crate::worker::Worker;
use rustix::rand::{GetRandomFlags, getrandom};
use std::net::IpAddr;
use std::rc::Rc;

#[derive(Debug, Default)]
pub(crate) struct Visit {
    pub(crate) way: Way,
    newcomer: Option<Newcomer>,
    /// Fields for the head of the answer, each with its line end.
    pub(crate) told: String,
}

/// A user who gets a cookie.
#[derive(Debug)]
struct Newcomer {
    sticky: Rc<Sticky>,
    secure: bool,
}

fn way(user: User) -> Way {
    match user {
        User::At(place) => Way::User(place),
        User::New | User::Unknown => Way::Weights,
    }
}

impl Visit {
    /// Takes out of `head` what is not for the application.
    pub(crate) fn new(
        target: &Target,
        peer: &JudgedPeer,
        worker: &Worker,
        request: &Request,
        head: &mut Vec<u8>,
    ) -> Self {
        let mut visit = Self::default();
        let client = || peer.certain_client(&worker.table(), request, head);
        let is_preview = target.preview().is_some_and(|preview| preview.is_asked(head, client));
        if target.hides_preview() {
            preview::hide(head);
        }
        if is_preview {
            visit.way = Way::Preview;
        } else if let Some(sticky) = target.sticky() {
            let user = sticky.user(head, || peer.client(&worker.table(), head));
            visit.way = way(user);
            if user == User::New {
                visit.newcomer = Some(Newcomer { sticky: sticky.clone(), secure: peer.came_by_https(head) });
            }
        }
        visit
    }

    /// Of a connection to a listener that speaks plain TCP.
    pub(crate) fn of_connection(target: &Target, client: impl FnOnce() -> Option<IpAddr>) -> Way {
        target.sticky().map_or(Way::Weights, |sticky| way(sticky.of_connection(client())))
    }

    /// The request goes to `release`. A new user stays there.
    pub(crate) fn leads_to(&mut self, release: &Release, target: &Target) {
        if self.way == Way::Preview {
            self.told = preview::answer_fields(release);
        }
        let Some(newcomer) = self.newcomer.take() else { return };
        let mut random = [0; 16];
        // The kernel always has some; a user without is asked again the next time.
        if getrandom(&mut random, GetRandomFlags::empty()).is_ok_and(|n| n == random.len())
            && let Some((place, field)) =
                newcomer
                    .sticky
                    .settle(newcomer.secure, u128::from_le_bytes(random), |place| target.is_of(place, release))
        {
            self.way = Way::User(place);
            self.told = field;
        }
    }
}
