//! The grammar of image references, as `distribution/reference` has it: a mistake is said with its line, not by the daemon.

/// What is wrong with a reference; None: nothing.
pub(super) fn wrong(text: &str) -> Option<&'static str> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Some("its digest is not `sha256:` and 64 hexadecimal digits");
    }
    // A colon in the last part begins a tag; before that it begins a port.
    let last = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[last..].split_once(':') {
        Some((_, tag)) => (&rest[..rest.len() - tag.len() - 1], Some(tag)),
        None => (rest, None),
    };
    match tag {
        Some("") => return Some("there is no tag behind its colon"),
        Some(tag) if !is_tag(tag) => return Some("its tag is not letters, digits, `_`, `.` and `-`, 128 at most"),
        _ => {}
    }
    let path = match name.split_once('/') {
        Some((host, path)) if is_host(host) => path,
        _ => name,
    };
    match path {
        "" => Some("it has no name"),
        path if path.chars().any(|c| c.is_ascii_uppercase()) => Some("its name has capital letters"),
        path if !path.split('/').all(is_component) => {
            Some("its name is not lower-case letters and digits with `.`, `_`, `-` and `/` between them")
        }
        _ => None,
    }
}

/// The first part names a registry when it looks like a host.
fn is_host(part: &str) -> bool {
    let looks = part == "localhost" || part.contains(['.', ':']) || part.chars().any(|c| c.is_ascii_uppercase());
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    looks && part.chars().all(fits)
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128 && tag.starts_with(word) && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

fn is_digest(digest: &str) -> bool {
    let hex = |text: &str| text.len() >= 32 && text.chars().all(|c| c.is_ascii_hexdigit());
    digest
        .split_once(':')
        .is_some_and(|(kind, value)| !kind.is_empty() && hex(value) && (kind != "sha256" || value.len() == 64))
}

/// Letters and digits; between them one `.`, one or two `_`, or any number of `-`.
fn is_component(part: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let between = part.split(word).filter(|text| !text.is_empty());
    part.starts_with(word)
        && part.ends_with(word)
        && between.into_iter().all(|text| matches!(text, "." | "_" | "__") || text.chars().all(|c| c == '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_those_that_docker_takes() {
        let hex = "0123456789abcdef".repeat(4);
        let digest = format!("app@sha256:{hex}");
        let id = format!("sha256:{hex}");
        for good in [
            "app",
            "app:1.4",
            "a/b/c:v1_2-x",
            "localhost/app",
            "reg.example.com:5000/a__b/c--d.e:L",
            "Reg/app",
            &digest,
            &id,
            &hex,
            "reg:5000/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(wrong(good), None, "{good}");
        }
        for (bad, says) in [
            ("app:", "no tag"),
            ("reg:5000/app:", "no tag"),
            ("app:a b", "its tag"),
            ("App", "capital"),
            ("reg.example.com/", "no name"),
            ("a//b", "lower-case"),
            ("a..b", "lower-case"),
            ("-app", "lower-case"),
            ("app@sha256:12", "digest"),
            ("app:v1:2", "its tag"),
            (":1", "no name"),
        ] {
            assert!(wrong(bad).is_some_and(|what| what.contains(says)), "{bad}: {:?}", wrong(bad));
        }
    }
}
