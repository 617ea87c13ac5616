//! How the app behaves, read once from the environment; `examples/README.md` is the manual.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Settings {
    pub port: u16,
    pub management_port: Option<u16>,
    /// Plain TCP, a line back for a line.
    pub echo_port: Option<u16>,
    pub version: String,
    pub boot: Duration,
    pub boot_mode: BootMode,
    pub health: Health,
    /// Half a period of `HEALTH=flapping`.
    pub flap: Duration,
    pub keep_alive: Option<Duration>,
    pub keep_alive_random: bool,
    pub advertise_keep_alive: bool,
    pub early_answer: EarlyAnswer,
    pub sigterm: Sigterm,
    pub leak_mb_per_s: u64,
    pub exit_after: Option<Duration>,
    pub exit_code: i32,
    pub crash_on: Option<String>,
    /// Of all requests but those for health, 0 to 1.
    pub fail: f64,
    pub fail_after: Duration,
    /// The same, and how much longer they take.
    pub slow: f64,
    pub slow_by: Duration,
    pub hang: bool,
    /// `HOST:PORT` without which every request but those for health fails.
    pub dependency: Option<String>,
    pub speak: Speak,
    pub log_requests: LogRequests,
    /// `HOST:PORT` of a Postgres and a Redis.
    pub database: Option<String>,
    pub cache: Option<String>,
    /// Of `sample-app store`.
    pub data: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootMode {
    /// The port opens when the boot is over.
    Closed,
    /// The port is open, and answers 503 to everything until the boot is over.
    Unavailable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Ok,
    Never,
    Flapping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyAnswer {
    No,
    /// Says `Connection: close`, and closes with the body unread.
    Announced,
    /// Closes without a word.
    Rude,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sigterm {
    /// Exits at once, as a process without a handler does.
    Obey,
    Ignore,
    /// Closes the port and idle connections, ends what is in flight, exits 0.
    Drain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speak {
    Http,
    Garbage,
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRequests {
    No,
    /// One line when a request is over.
    End,
    /// A line for each step, written before the next step begins: it survives a kill.
    Steps,
}

impl Settings {
    /// Fails with a sentence that names the variable and what it may be.
    pub fn from_env() -> Result<Self, String> {
        Self::from_lookup(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    pub fn from_lookup(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let millis = |name: &str| Ok::<_, String>(number::<u64>(&get, name)?.map(Duration::from_millis));
        let flag = |name: &str| choice(&get, name, &[("0", false), ("1", true)]);
        Ok(Self {
            port: number(&get, "PORT")?.unwrap_or(8080),
            management_port: number(&get, "MANAGEMENT_PORT")?,
            echo_port: number(&get, "ECHO_PORT")?,
            version: get("VERSION").unwrap_or_else(|| "dev".to_owned()),
            boot: millis("BOOT_MS")?.unwrap_or_default(),
            boot_mode: choice(&get, "BOOT_MODE", &[("closed", BootMode::Closed), ("503", BootMode::Unavailable)])?,
            health: choice(
                &get,
                "HEALTH",
                &[("ok", Health::Ok), ("never", Health::Never), ("flapping", Health::Flapping)],
            )?,
            flap: millis("FLAP_MS")?.unwrap_or(Duration::from_secs(1)),
            keep_alive: millis("KEEP_ALIVE_MS")?,
            keep_alive_random: flag("KEEP_ALIVE_RANDOM")?,
            advertise_keep_alive: flag("ADVERTISE_KEEP_ALIVE")?,
            early_answer: choice(
                &get,
                "EARLY_ANSWER",
                &[("0", EarlyAnswer::No), ("1", EarlyAnswer::Announced), ("rude", EarlyAnswer::Rude)],
            )?,
            sigterm: choice(
                &get,
                "SIGTERM",
                &[("obey", Sigterm::Obey), ("ignore", Sigterm::Ignore), ("drain", Sigterm::Drain)],
            )?,
            leak_mb_per_s: number(&get, "LEAK_MB_PER_S")?.unwrap_or(0),
            exit_after: millis("EXIT_AFTER_MS")?,
            exit_code: number(&get, "EXIT_CODE")?.unwrap_or(1),
            crash_on: get("CRASH_ON"),
            fail: part(&get, "FAIL")?,
            fail_after: millis("FAIL_AFTER_MS")?.unwrap_or_default(),
            slow: part(&get, "SLOW")?,
            slow_by: millis("SLOW_MS")?.unwrap_or(Duration::from_millis(300)),
            hang: flag("HANG")?,
            dependency: get("DEPENDENCY"),
            speak: choice(
                &get,
                "SPEAK",
                &[("http", Speak::Http), ("garbage", Speak::Garbage), ("silent", Speak::Silent)],
            )?,
            log_requests: choice(
                &get,
                "LOG_REQUESTS",
                &[("0", LogRequests::No), ("1", LogRequests::Steps), ("end", LogRequests::End)],
            )?,
            database: get("DATABASE"),
            cache: get("CACHE"),
            data: get("DATA").map_or_else(|| PathBuf::from("/data"), PathBuf::from),
        })
    }
}

fn number<T: FromStr>(get: &impl Fn(&str) -> Option<String>, name: &str) -> Result<Option<T>, String> {
    get(name).map(|text| text.parse().map_err(|_| format!("{name}={text}: not a number in range"))).transpose()
}

/// From none to all of something.
fn part(get: &impl Fn(&str) -> Option<String>, name: &str) -> Result<f64, String> {
    match number::<f64>(get, name)? {
        Some(part) if !(0.0..=1.0).contains(&part) => Err(format!("{name}={part}: must be from 0 to 1")),
        part => Ok(part.unwrap_or(0.0)),
    }
}

/// The first choice is the default.
fn choice<T: Copy>(get: &impl Fn(&str) -> Option<String>, name: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let Some(text) = get(name) else {
        return Ok(choices[0].1);
    };
    choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        format!("{name}={text}: must be one of {}", words.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_set_is_a_well_behaved_app_on_8080() {
        let settings = Settings::from_lookup(|_| None).unwrap();
        assert_eq!((settings.port, settings.health, settings.sigterm), (8080, Health::Ok, Sigterm::Obey));
        assert_eq!((settings.keep_alive, settings.log_requests), (None, LogRequests::No));
    }

    #[test]
    fn a_wrong_word_is_refused_with_the_right_ones() {
        let problem = Settings::from_lookup(|name| (name == "SIGTERM").then(|| "maybe".to_owned())).unwrap_err();
        assert_eq!(problem, "SIGTERM=maybe: must be one of obey, ignore, drain");
        let problem = Settings::from_lookup(|name| (name == "PORT").then(|| "99999".to_owned())).unwrap_err();
        assert_eq!(problem, "PORT=99999: not a number in range");
        let problem = Settings::from_lookup(|name| (name == "FAIL").then(|| "10".to_owned())).unwrap_err();
        assert_eq!(problem, "FAIL=10: must be from 0 to 1");
    }
}
