//! How a user keeps to one release: what tells users apart gives each a place in 0..1, and the shares are intervals of it.
//!
//! ```text
//! place    0 ─┬───── candidate ─────┬────────────── live ──────────────── 1
//!             │                     └─▶ moves up as the share grows: users pass from live to candidate, none goes back
//! ```

use crate::http1::head;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use teal_model::wire::{self, StickyBy};

/// Thirty days.
const COOKIE_AGE_S: u32 = 30 * 24 * 60 * 60;
/// Of the signature, in bytes.
const SIGNATURE: usize = 16;
/// Ids that are drawn for one user, until one has its place in the release's share. On average it takes as many as there
/// are shares.
const DRAWS: u128 = 1 << 14;

#[derive(Debug)]
pub(crate) struct Sticky {
    by: By,
    /// Has read the salt.
    salted: Sha256,
}

#[derive(Debug)]
enum By {
    Cookie { name: String, key: Hmac<Sha256> },
    Header { name: String },
    Address,
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// In parts of 2^64.
    At(u64),
    /// To be told apart from now on.
    New,
    Unknown,
}

impl Sticky {
    /// None: refused before it came here.
    pub(crate) fn new(wire: &wire::Sticky) -> Option<Self> {
        let by = match &wire.by {
            StickyBy::Cookie { name, key } => {
                By::Cookie { name: name.clone(), key: Hmac::new_from_slice(&key_bytes(key)?).ok()? }
            }
            StickyBy::Header { name } => By::Header { name: name.clone() },
            StickyBy::Address => By::Address,
        };
        let salted = Sha256::new().chain_update((wire.salt.len() as u64).to_le_bytes()).chain_update(&wire.salt);
        Some(Self { by, salted })
    }

    pub(crate) fn user(&self, head: &[u8], client: impl FnOnce() -> Option<IpAddr>) -> User {
        match &self.by {
            By::Cookie { name, key } => {
                let id = head::cookies(head, name).find_map(|cookie| signed_id(key, cookie));
                id.map_or(User::New, |id| User::At(self.place(id)))
            }
            By::Header { name } => {
                let id = head::values(head, name).find(|id| !id.is_empty());
                id.map_or(User::Unknown, |id| User::At(self.place(id)))
            }
            By::Address => client().map_or(User::Unknown, |client| self.of_address(client)),
        }
    }

    /// Of a connection of which no more is known.
    pub(crate) fn of_connection(&self, client: Option<IpAddr>) -> User {
        match (&self.by, client) {
            (By::Address, Some(client)) => self.of_address(client.to_canonical()),
            _ => User::Unknown,
        }
    }

    fn of_address(&self, client: IpAddr) -> User {
        User::At(match client {
            IpAddr::V4(v4) => self.place(&v4.octets()),
            IpAddr::V6(v6) => self.place(&v6.octets()),
        })
    }

    fn place(&self, id: &[u8]) -> u64 {
        let digest = self.salted.clone().chain_update(id).finalize();
        digest[..8].iter().fold(0, |place, byte| place << 8 | u64::from(*byte))
    }

    /// A place for a new user among those that are `meant`, and the field that makes it last. Ids are tried from `random` on.
    /// None: this user is asked again the next time.
    pub(crate) fn settle(&self, secure: bool, random: u128, meant: impl Fn(u64) -> bool) -> Option<(u64, String)> {
        let By::Cookie { name, key } = &self.by else { return None };
        let ids = (0..DRAWS).map(|n| URL_SAFE_NO_PAD.encode(random.wrapping_add(n).to_le_bytes()));
        let (place, id) = ids.map(|id| (self.place(id.as_bytes()), id)).find(|(place, _)| meant(*place))?;
        let signature = key.clone().chain_update(&id).finalize().into_bytes();
        let signature = URL_SAFE_NO_PAD.encode(&signature[..SIGNATURE]);
        let secure = if secure { "; Secure" } else { "" };
        let attributes = format!("Path=/; Max-Age={COOKIE_AGE_S}; HttpOnly; SameSite=Lax{secure}");
        Some((place, format!("Set-Cookie: {name}={id}.{signature}; {attributes}\r\n")))
    }
}

/// What a cookie says, if this proxy or another with the key has said it before.
fn signed_id<'a>(key: &Hmac<Sha256>, cookie: &'a [u8]) -> Option<&'a [u8]> {
    let dot = cookie.iter().position(|b| *b == b'.')?;
    let (id, signature) = (&cookie[..dot], URL_SAFE_NO_PAD.decode(&cookie[dot + 1..]).ok()?);
    let verified =
        signature.len() == SIGNATURE && key.clone().chain_update(id).verify_truncated_left(&signature).is_ok();
    verified.then_some(id)
}

/// The bytes of a key written in hex; None: it is none, or too short to be kept.
pub(crate) fn key_bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16);
    let byte = |pair: &[u8]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
    let whole = hex.len().is_multiple_of(2) && hex.len() >= 2 * SIGNATURE;
    whole.then(|| hex.as_bytes().chunks(2).map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::Split;
    use teal_model::ids::{ReleaseKey, ServiceKey};
    use teal_model::wire::Share;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f";

    fn sticky(by: StickyBy) -> Sticky {
        Sticky::new(&wire::Sticky { by, salt: "salt".into() }).expect("prepared")
    }

    fn by_cookie(key: &str) -> Sticky {
        sticky(StickyBy::Cookie { name: "teal".into(), key: key.into() })
    }

    fn by_header() -> Sticky {
        sticky(StickyBy::Header { name: "X-User".into() })
    }

    fn user(sticky: &Sticky, fields: &str) -> User {
        sticky.user(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes(), || None)
    }

    /// The candidate's percent, then the rest.
    fn split(candidate: u32) -> Split {
        let release = |number| ReleaseKey::new(ServiceKey::new("shop", "web"), number);
        let shares = [(2, candidate), (1, 100 - candidate)];
        Split::new(&shares.map(|(number, weight)| Share { release: release(number), weight }), 0)
    }

    #[test]
    fn a_share_that_grows_takes_users_along_once_and_one_that_shrinks_gives_back_its_edge() {
        let sticky = by_header();
        let users: Vec<_> = (0..10_000).map(|n| sticky.place(format!("user-{n}").as_bytes())).collect();
        let mut before = vec![false; users.len()];
        for percent in [1, 5, 25, 50, 100] {
            let split = split(percent);
            let on_candidate: Vec<_> = users.iter().map(|place| split.at(*place) == Some(0)).collect();
            assert!(
                before.iter().zip(&on_candidate).all(|(before, now)| !before || *now),
                "none goes back at {percent}"
            );
            let (count, expected) = (on_candidate.iter().filter(|on| **on).count() as f64, f64::from(percent) * 100.0);
            // Five standard deviations.
            let deviation = (expected * (1.0 - f64::from(percent) / 100.0)).sqrt();
            assert!((count - expected).abs() <= 5.0 * deviation, "{count} at {percent}");
            before = on_candidate;
        }
        let (wide, narrow) = (split(25), split(5));
        assert!(users.iter().all(|place| narrow.at(*place) != Some(0) || wide.at(*place) == Some(0)));
    }

    #[test]
    fn other_users_are_first_with_another_salt() {
        let other = Sticky::new(&wire::Sticky { by: StickyBy::Header { name: "X-User".into() }, salt: "b".into() });
        let (mine, other) = (by_header(), other.expect("prepared"));
        let first = |sticky: &Sticky, n: u32| split(50).at(sticky.place(&n.to_le_bytes())) == Some(0);
        let same = (0..10_000).filter(|n| first(&mine, *n) == first(&other, *n)).count();
        assert!((4_700..5_300).contains(&same), "{same}");
    }

    #[test]
    fn a_new_user_lands_in_the_share_that_was_chosen_and_is_known_by_its_cookie_from_then_on() {
        let (sticky, split) = (by_cookie(KEY), split(1));
        for n in 0..50_u128 {
            let share = (n % 2) as usize;
            let (place, field) =
                sticky.settle(n == 0, n << 100, |place| split.at(place) == Some(share)).expect("settled");
            assert_eq!(split.at(place), Some(share));
            let cookie =
                field.strip_prefix("Set-Cookie: ").and_then(|field| field.split(';').next()).expect("a cookie");
            assert_eq!(user(&sticky, &format!("Cookie: a=b; {cookie}\r\n")), User::At(place));
            assert_eq!(field.ends_with("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax\r\n"), n != 0, "{field}");
            assert_eq!(field.ends_with("; SameSite=Lax; Secure\r\n"), n == 0, "{field}");
        }
        assert_eq!(sticky.settle(false, 0, |_| false), None);
    }

    #[test]
    fn a_cookie_is_believed_only_with_the_keys_signature() {
        let sticky = by_cookie(KEY);
        let (_, field) = sticky.settle(false, 7, |_| true).expect("settled");
        let value = field.split(['=', ';']).nth(1).expect("a value");
        let (id, signature) = value.split_once('.').expect("signed");
        let stranger = by_cookie(&KEY.replace('0', "1"));
        assert_eq!(user(&stranger, &format!("Cookie: teal={value}\r\n")), User::New);
        let other = URL_SAFE_NO_PAD.encode(8_u128.to_le_bytes());
        for forged in [
            format!("{other}.{signature}"),
            format!("{id}.{}", URL_SAFE_NO_PAD.encode([0; SIGNATURE])),
            format!("{id}.{}", &signature[..signature.len() - 2]),
            format!("{id}."),
            format!(".{signature}"),
            format!("{id}.{signature}.{signature}"),
            id.to_owned(),
            String::new(),
        ] {
            assert_eq!(user(&sticky, &format!("Cookie: teal={forged}\r\n")), User::New, "{forged}");
        }
        let both = format!("Cookie: teal={other}.{signature}; teal={value}\r\n");
        assert!(matches!(user(&sticky, &both), User::At(_)), "the forged one hides nobody");
    }

    #[test]
    fn users_are_told_apart_by_what_is_said_or_by_where_they_come_from() {
        let sticky = by_header();
        assert_eq!(user(&sticky, "x-user: 7\r\n"), User::At(sticky.place(b"7")));
        assert_eq!((user(&sticky, ""), user(&sticky, "X-User:\r\n")), (User::Unknown, User::Unknown));
        let sticky = self::sticky(StickyBy::Address);
        assert_eq!(user(&sticky, ""), User::Unknown);
        let (mapped, plain) = ("::ffff:10.0.0.7".parse().expect("an address"), [10, 0, 0, 7].into());
        assert_eq!(sticky.of_connection(Some(mapped)), sticky.user(b"", || Some(plain)));
        assert_eq!(by_header().of_connection(Some(plain)), User::Unknown);
    }

    #[test]
    fn a_key_is_hex_and_long_enough() {
        assert_eq!(key_bytes(KEY).map(|key| key.len()), Some(16));
        for bad in ["", "00", &KEY[1..], &KEY.replace('f', "g"), &KEY.replace('0', "é")] {
            assert_eq!(key_bytes(bad), None, "{bad}");
        }
    }
}
