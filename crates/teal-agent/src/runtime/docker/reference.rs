//! Image references, read as Docker reads them: `app` is `docker.io/library/app:latest`.

const HUB: &str = "docker.io";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `docker.io`, `registry.example.com:5000`...
    pub registry: String,
    /// `library/app`
    pub path: String,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

impl Reference {
    /// Err says what is wrong with the reference.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if is_id(text) {
            return Err("it is an image id, and a registry knows images by name");
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|d| !is_digest(d)) {
            return Err("what follows `@` must be a digest such as sha256:...");
        }
        // A colon before the last slash belongs to the registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err("the tag may hold at most 128 letters, digits, `_`, `.` and `-`");
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path))
                if first.contains(['.', ':'])
                    || first == "localhost"
                    || first.chars().any(|c| c.is_ascii_uppercase()) =>
            {
                (first, path)
            }
            _ => (HUB, name),
        };
        let registry = if registry == "index.docker.io" { HUB } else { registry };
        let starts = registry.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
        if !starts || !registry.chars().all(|c| c.is_ascii_alphanumeric() || "-.:[]".contains(c)) {
            return Err("the registry is not a host name");
        }
        if !path.split('/').all(is_component) {
            return Err("an image name is lower-case letters and digits, with `.`, `_`, `-` and `/` between them");
        }
        let path = if registry == HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), path, tag, digest: digest.map(str::to_owned) })
    }

    /// Without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    /// What to ask the registry for. A digest outranks the tag beside it.
    pub fn version(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// In full, so that no name is mistaken for the beginning of an id.
    pub fn full(&self) -> String {
        match &self.digest {
            Some(digest) => format!("{}@{digest}", self.name()),
            None => format!("{}:{}", self.name(), self.version()),
        }
    }

    /// The key that Docker keeps credentials of this registry under.
    pub fn credentials_key(&self) -> &str {
        if self.registry == HUB { "https://index.docker.io/v1/" } else { &self.registry }
    }
}

/// `sha256:` and 64 hex digits, or the digits alone.
pub fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    digits.len() == 64 && digits.chars().all(|c| c.is_ascii_hexdigit())
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty()
            && algorithm.chars().all(|c| c.is_ascii_alphanumeric() || "+._-".contains(c))
            && hex.len() >= 32
            && hex.chars().all(|c| c.is_ascii_hexdigit())
    })
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128 && text.starts_with(word) && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

fn is_component(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(plain) && text.ends_with(plain) && text.chars().all(|c| plain(c) || "._-".contains(c))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn references_read_as_docker_reads_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, full) in [
            ("app", "docker.io/library/app:latest".to_owned()),
            ("team/app:1.2", "docker.io/team/app:1.2".into()),
            ("index.docker.io/app", "docker.io/library/app:latest".into()),
            ("localhost/app", "localhost/app:latest".into()),
            ("registry:5000/team/app", "registry:5000/team/app:latest".into()),
            ("127.0.0.1:5000/app:x_1", "127.0.0.1:5000/app:x_1".into()),
            ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1".into()),
            (&format!("app@{digest}"), format!("docker.io/library/app@{digest}")),
            (&format!("registry:5000/app:1@{digest}"), format!("registry:5000/app@{digest}")),
        ] {
            assert_eq!(Reference::parse(text).map(|r| r.full()), Ok(full), "{text}");
        }
    }

    #[test]
    fn nonsense_and_ids_are_refused() {
        for text in
            ["", "App", "app:", "app:-x", "a//b", "app@latest", "http://x/app", "a b", "../app", &"f".repeat(64)]
        {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn credentials_are_kept_per_registry() {
        assert_eq!(Reference::parse("app").unwrap().credentials_key(), "https://index.docker.io/v1/");
        assert_eq!(Reference::parse("registry:5000/app").unwrap().credentials_key(), "registry:5000");
    }
}
