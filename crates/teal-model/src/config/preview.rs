//! `x-teal.preview`: who may see a candidate before its first share.

use super::keys;
use super::project::Preview;
use super::ranges::{self, PRIVATE_RANGES};
use super::read::Item;

const TOKEN_LEN: usize = 16;
/// Part of `private` elsewhere. Here it has to be written: behind a proxy on this host the whole internet comes from there.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];
const WHO: &str = "Write `{token: \"${PREVIEW_TOKEN:?}\"}`, or `{networks: private}`. Processes of this host alone are `{networks: [127.0.0.0/8, \"::1\"]}`.";

/// A map; `false` goes over what the project says.
pub(super) fn read(item: &Item<'_>) -> Option<Preview> {
    if !item.is_map() {
        if item.boolean()? {
            item.problem("does not say who may ask", WHO);
        }
        return None;
    }
    let map = item.map(&keys::PREVIEW)?;
    if !map.has("networks") && !map.has("token") {
        item.problem("does not say who may ask", WHO);
    }
    let mut preview = Preview::default();
    if let Some(networks) = map.take("networks") {
        let private: Vec<&str> = PRIVATE_RANGES.into_iter().filter(|range| !LOOPBACK.contains(range)).collect();
        preview.networks = ranges::read(&networks, &private);
    }
    preview.token = map.take("token").and_then(|token| {
        let fits = |text: &str| {
            let plain = text.chars().all(|c| c.is_ascii_graphic()) && text.len() >= TOKEN_LEN;
            plain.then(|| text.to_owned())
        };
        let hint = "Write at least 16 letters, digits and signs without blanks, best as `${PREVIEW_TOKEN:?}`.";
        token.parsed(fits, "a word that nobody guesses", hint)
    });
    map.finish();
    Some(preview)
}
