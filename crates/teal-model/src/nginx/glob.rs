//! The patterns of an `include`, as glob(3) reads them.

/// Whether a path is one that the pattern names. `*`, `?` and `[...]` stop at `/`, and a leading dot has to be written.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len() && pattern.iter().zip(path).all(|(pattern, name)| segment(pattern, name))
}

pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn segment(pattern: &str, name: &str) -> bool {
    let hidden = name.starts_with('.') && !pattern.starts_with('.');
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    !hidden && rest(&pattern, &name)
}

fn rest(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        // Each star is tried at every place behind it: names are short.
        (Some(('*', after)), _) => (0..=name.len()).any(|at| rest(after, &name[at..])),
        (Some(('?', after)), Some((_, others))) => rest(after, others),
        (Some(('[', after)), Some((one, others))) => match class(after, *one) {
            Some((is_in, after)) => is_in && rest(after, others),
            None => *one == '[' && rest(after, others),
        },
        (Some(('\\', [literal, after @ ..])), Some((one, others))) => literal == one && rest(after, others),
        (Some((literal, after)), Some((one, others))) => literal == one && rest(after, others),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Whether the character is in the class that begins here, and what follows its `]`. None: no `]` comes.
fn class(pattern: &[char], one: char) -> Option<(bool, &[char])> {
    let negated = matches!(pattern.first(), Some('!' | '^'));
    let from = usize::from(negated);
    // A `]` that comes first is one of the characters.
    let close = pattern.iter().enumerate().skip(from + 1).find(|(_, char)| **char == ']')?.0;
    let set = &pattern[from..close];
    let (mut at, mut is_in) = (0, false);
    while at < set.len() {
        match set.get(at..at + 3) {
            Some([low, '-', high]) => {
                is_in |= (*low..=*high).contains(&one);
                at += 3;
            }
            _ => {
                is_in |= set[at] == one;
                at += 1;
            }
        }
    }
    Some((is_in != negated, &pattern[close + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_the_shell_does() {
        for (pattern, path, is) in [
            ("/etc/nginx/conf.d/*.conf", "/etc/nginx/conf.d/app.conf", true),
            ("/etc/nginx/conf.d/*.conf", "/etc/nginx/conf.d/app.conf.bak", false),
            ("/etc/nginx/conf.d/*.conf", "/etc/nginx/conf.d/.app.conf", false),
            ("/etc/nginx/conf.d/*.conf", "/etc/nginx/conf.d/sub/app.conf", false),
            ("/etc/nginx/sites-enabled/*", "/etc/nginx/sites-enabled/default", true),
            ("/etc/nginx/*/app.conf", "/etc/nginx/conf.d/app.conf", true),
            ("/a/[0-9]?-*.conf", "/a/10-app.conf", true),
            ("/a/[!0-9]*.conf", "/a/10-app.conf", false),
            ("/a/[]x].conf", "/a/].conf", true),
            ("/a/[x.conf", "/a/[x.conf", true),
            ("/a/a*b*c", "/a/aXbYc", true),
            ("/a/a*b*c", "/a/aXc", false),
        ] {
            assert_eq!(matches(pattern, path), is, "{pattern} {path}");
        }
    }
}
