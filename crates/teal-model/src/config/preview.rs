//! `x-teal.preview`: who may see a candidate before its first share.

use super::keys;
use super::project::Preview;
use super::ranges;
use super::read::Item;

const TOKEN_LEN: usize = 16;

/// `true`, or a map; `false` goes over what the project says.
pub(super) fn read(item: &Item<'_>) -> Option<Preview> {
    let mut preview = Preview { networks: Preview::LOOPBACK.map(str::to_owned).to_vec(), token: None };
    if !item.is_map() {
        return item.boolean()?.then_some(preview);
    }
    let map = item.map(&keys::PREVIEW)?;
    if let Some(networks) = map.take("networks") {
        preview.networks = ranges::read(&networks);
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
