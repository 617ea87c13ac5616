//! Which values go into a file of their own, that only its owner may read.

use std::collections::BTreeMap;

/// Words of a name whose value is meant for few.
const WORDS: [&str; 15] = [
    "AUTH",
    "COOKIE",
    "CREDENTIAL",
    "CREDENTIALS",
    "CREDS",
    "DSN",
    "JWT",
    "KEY",
    "PASS",
    "PASSPHRASE",
    "PAT",
    "PW",
    "PWD",
    "SALT",
    "SIGNATURE",
];
/// The same within a longer word: `PGPASSWORD`, `CLIENTSECRET`.
const PARTS: [&str; 6] = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "APIKEY", "PRIVATE"];

/// By the name, or since the value looks like a key or an address with a password in it. Rather one too many.
pub fn may_be_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let named = name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| WORDS.contains(&word))
        || PARTS.iter().any(|part| name.contains(part));
    let address = value.split_once("://").is_some_and(|(_, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    });
    named || address || value.contains("PRIVATE KEY-----")
}

/// A name that the file for secrets cannot hold stays in the compose file.
pub(super) fn goes_apart(name: &str, value: &str) -> bool {
    let sayable = !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    sayable && !value.is_empty() && may_be_secret(name, value)
}

/// `NAME=value` lines as Compose reads an `env_file`: in double quotes nothing but these five is read otherwise.
pub(super) fn file(values: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    for (name, value) in values {
        let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:@+=,%".contains(c));
        if plain {
            out.push_str(&format!("{name}={value}\n"));
            continue;
        }
        let mut quoted = String::new();
        for c in value.chars() {
            match c {
                '\\' | '"' | '$' => quoted.extend(['\\', c]),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                c => quoted.push(c),
            }
        }
        out.push_str(&format!("{name}=\"{quoted}\"\n"));
    }
    out
}
