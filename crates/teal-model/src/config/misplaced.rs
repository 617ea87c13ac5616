//! A key that is known, but elsewhere: where it belongs.

use super::keys::{LEVELS, Level, PROJECT, Standing, TEAL_PROJECT};

const SERVICE: &str = "services.<name>";
/// Steps up and down in the file; farther away a key of the same name is something else.
const NEAR: usize = 4;

/// ``Did you mean `services.web.deploy.replicas`?`` The nearest place counts, and none where there are many.
pub(super) fn suggestion(level: &Level, path: &str, key: &str) -> Option<String> {
    let is_top = level.name == PROJECT.name;
    let service = match level.name.strip_prefix(SERVICE) {
        Some(below) => path.strip_suffix(below)?,
        None if is_top || level.name == TEAL_PROJECT.name => SERVICE,
        None => return None,
    };
    let mut places: Vec<(usize, String)> = Vec::new();
    for other in LEVELS.iter().filter(|other| other.name != level.name) {
        let place = match other.name.strip_prefix(SERVICE) {
            // An element of a list, or something with a name of its own: there may be many.
            Some(below) if below.contains(['[', '<']) => continue,
            Some(below) => format!("{service}{below}.{key}"),
            None if is_top && other.name == TEAL_PROJECT.name => format!("{}.{key}", other.name),
            None => continue,
        };
        let taken = matches!(other.standing(key), Some(Standing::Honoured(_) | Standing::Accepted { .. }));
        let far = distance(level, other);
        if taken && far <= NEAR {
            places.push((far, place));
        }
    }
    let nearest = places.iter().map(|(far, _)| *far).min()?;
    let near: Vec<String> =
        places.into_iter().filter(|(far, _)| *far == nearest).map(|(_, place)| format!("`{place}`")).collect();
    (near.len() <= 2).then(|| format!("Did you mean {}?", near.join(" or ")))
}

fn distance(a: &Level, b: &Level) -> usize {
    let segments = |level: &Level| match level.name {
        top if top == PROJECT.name => Vec::new(),
        name => name.split('.').map(str::to_owned).collect(),
    };
    let (a, b) = (segments(a), segments(b));
    let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    a.len() + b.len() - 2 * common
}
