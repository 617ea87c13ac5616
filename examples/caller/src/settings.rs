//! How the caller behaves, read once from the environment; `examples/README.md` is the manual.

use crate::target::{Resolve, Target};
use std::str::FromStr;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Settings {
    pub targets: Vec<Target>,
    pub resolve: Vec<Resolve>,
    /// Of each target and way to resolve.
    pub connections: u32,
    /// From one call of a connection to the next, answered or not.
    pub every: Duration,
    /// For connecting, and for each read: beyond it a call has failed.
    pub timeout: Duration,
    /// Calls after which the caller itself closes a connection.
    pub http_calls: u64,
    pub tcp_lines: u64,
    /// Where it says its counts.
    pub port: u16,
    /// From one line on stdout to the next.
    pub log_every: Duration,
}

impl Settings {
    /// Fails with a sentence that names the variable and what it may be.
    pub fn from_env() -> Result<Self, String> {
        Self::from_lookup(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    pub fn from_lookup(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let targets = get("TARGETS").unwrap_or_default();
        let resolve = match get("RESOLVE").as_deref() {
            None | Some("both") => vec![Resolve::Once, Resolve::Each],
            Some("once") => vec![Resolve::Once],
            Some("each") => vec![Resolve::Each],
            Some(other) => return Err(format!("RESOLVE={other}: must be one of both, once, each")),
        };
        let rate: f64 = number(&get, "RATE", 20.0)?;
        if !(rate > 0.0 && rate <= 10_000.0) {
            return Err(format!("RATE={rate}: more than 0, and at most 10000"));
        }
        Ok(Self {
            targets: targets.split_whitespace().map(str::parse).collect::<Result<_, _>>()?,
            resolve,
            connections: number(&get, "CONNECTIONS", 4)?,
            every: Duration::from_secs_f64(1.0 / rate),
            timeout: Duration::from_millis(number(&get, "TIMEOUT_MS", 10_000)?),
            http_calls: number(&get, "HTTP_CALLS", 100)?,
            tcp_lines: number(&get, "TCP_LINES", 10)?,
            port: number(&get, "PORT", 8080)?,
            log_every: Duration::from_millis(number(&get, "LOG_MS", 1_000)?),
        })
    }
}

fn number<T: FromStr>(get: &impl Fn(&str) -> Option<String>, name: &str, default: T) -> Result<T, String> {
    get(name).map_or(Ok(default), |text| text.parse().map_err(|_| format!("{name}={text}: not a number in range")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(set: &[(&str, &str)]) -> Result<Settings, String> {
        let set: Vec<(String, String)> = set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Settings::from_lookup(|name| set.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
    }

    #[test]
    fn targets_are_words_and_both_ways_to_resolve_are_taken() {
        let read = settings(&[("TARGETS", "http://app:8080/ tcp://app:9000")]).unwrap();
        assert_eq!((read.targets.len(), read.resolve.len(), read.every), (2, 2, Duration::from_millis(50)));
    }

    #[test]
    fn a_wrong_word_is_refused_with_the_right_ones() {
        assert_eq!(settings(&[("RESOLVE", "never")]).unwrap_err(), "RESOLVE=never: must be one of both, once, each");
        assert!(settings(&[("RATE", "0")]).is_err());
        assert!(settings(&[("TARGETS", "app")]).is_err());
    }
}
