//! Measured claims: each with its id, its limit and whether it kept it; as JSON for machines and a table for people.

use crate::machine;
use serde::Serialize;
use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The figures of one bench; `finish` writes `target/bench/<name>.json`.
#[derive(Debug, Serialize)]
pub struct Figures {
    name: String,
    commit: String,
    machine: String,
    /// UTC, RFC 3339.
    started: String,
    seconds: f64,
    results: Vec<Figure>,
    #[serde(skip)]
    since: Instant,
    #[serde(skip)]
    directory: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Stays the same from commit to commit.
    pub id: String,
    /// None: it could not be measured, which keeps no limit.
    pub value: Option<f64>,
    pub unit: String,
    /// None: told for its own sake.
    pub limit: Option<f64>,
    pub better: Better,
    pub ok: bool,
    /// Its limit is what would be good: a miss is told, and fails nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub aim: bool,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Lower,
    Higher,
}

/// Why a bench failed.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    #[error("missed: {}", ids.join(", "))]
    Missed { ids: Vec<String> },
    #[error("{id} was measured twice")]
    Twice { id: String },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot print the table")]
    Print(#[source] io::Error),
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where the benches write: `target/bench`.
pub fn directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("bench")
}

impl Figures {
    /// Starts the clock of the bench called `name`.
    pub fn start(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            commit: machine::commit(&root()),
            machine: machine::describe(),
            started: utc(SystemTime::now()),
            seconds: 0.0,
            results: Vec::new(),
            since: Instant::now(),
            directory: directory(),
        }
    }

    /// Writes into another directory than `target/bench`.
    #[must_use]
    pub fn in_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// A figure that must not be above its limit.
    pub fn at_most(&mut self, id: &str, value: f64, unit: &str, limit: f64, detail: impl Into<String>) {
        self.add(id, Some(value), unit, Some(limit), Better::Lower, detail.into());
    }

    /// A figure that must not be below its limit.
    pub fn at_least(&mut self, id: &str, value: f64, unit: &str, limit: f64, detail: impl Into<String>) {
        self.add(id, Some(value), unit, Some(limit), Better::Higher, detail.into());
    }

    /// A figure without a limit.
    pub fn note(&mut self, id: &str, value: f64, unit: &str, better: Better, detail: impl Into<String>) {
        self.add(id, Some(value), unit, None, better, detail.into());
    }

    /// A figure that should have been measured and was not: void, or unknown.
    pub fn unknown(&mut self, id: &str, unit: &str, limit: f64, better: Better, why: impl Into<String>) {
        self.add(id, None, unit, Some(limit), better, why.into());
    }

    fn add(&mut self, id: &str, value: Option<f64>, unit: &str, limit: Option<f64>, better: Better, detail: String) {
        // Neither a NaN nor an infinity is a measurement, and JSON has no word for them.
        let value = value.filter(|value| value.is_finite());
        let ok = match (value, limit, better) {
            (Some(value), Some(limit), Better::Lower) => value <= limit,
            (Some(value), Some(limit), Better::Higher) => value >= limit,
            (Some(_), None, _) => true,
            (None, limit, _) => limit.is_none(),
        };
        self.results.push(Figure {
            id: id.to_owned(),
            value,
            unit: unit.to_owned(),
            limit,
            better,
            ok,
            aim: false,
            detail,
        });
    }

    /// The limit of the figure that came last is an aim.
    pub fn is_an_aim(&mut self) {
        if let Some(last) = self.results.last_mut() {
            last.aim = true;
        }
    }

    pub fn results(&self) -> &[Figure] {
        &self.results
    }

    /// Writes the JSON, prints the table to `out`, and fails when a figure missed its limit.
    pub fn finish(mut self, out: &mut dyn io::Write) -> Result<(), Unfinished> {
        self.seconds = (self.since.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        for (index, figure) in self.results.iter().enumerate() {
            if self.results[..index].iter().any(|before| before.id == figure.id) {
                return Err(Unfinished::Twice { id: figure.id.clone() });
            }
        }
        let path = self.directory.join(format!("{}.json", self.name));
        self.write(&path).map_err(|source| Unfinished::Write { path: path.clone(), source })?;
        writeln!(out, "{self}\n{}", path.display()).map_err(Unfinished::Print)?;
        let missed: Vec<String> =
            self.results.iter().filter(|figure| !figure.ok && !figure.aim).map(|figure| figure.id.clone()).collect();
        if missed.is_empty() { Ok(()) } else { Err(Unfinished::Missed { ids: missed }) }
    }

    /// Whole or not at all: a reader never meets half a file.
    fn write(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        io::Write::write_all(&mut file, b"\n")?;
        file.persist(path)?;
        Ok(())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} at {}, {} s, on {}", self.name, self.commit, self.seconds, self.machine)?;
        let rows: Vec<[String; 4]> = self.results.iter().map(Figure::row).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (ids, values, limits) = (width(0), width(1), width(2));
        for (row, figure) in rows.iter().zip(&self.results) {
            let verdict = if figure.ok { "  " } else { "✗ " };
            let line = format!("{verdict}{:ids$}  {:>values$}  {:limits$}  {}", row[0], row[1], row[2], row[3]);
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Figure {
    fn row(&self) -> [String; 4] {
        let value = self.value.map_or_else(|| "unknown".to_owned(), |value| format!("{} {}", short(value), self.unit));
        let limit = self.limit.map_or_else(String::new, |limit| {
            let sign = if self.better == Better::Lower { '≤' } else { '≥' };
            format!("{sign} {}", short(limit))
        });
        [self.id.clone(), value, limit, self.detail.clone()]
    }
}

/// Three decimals at most, none that say nothing.
fn short(value: f64) -> String {
    let mut text = String::new();
    let _ = write!(text, "{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// RFC 3339 in UTC, to the second. The calendar is Howard Hinnant's `civil_from_days`.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that cannot go on says where
mod tests {
    use super::*;
    use std::time::Duration;

    fn finish(fill: impl FnOnce(&mut Figures)) -> (Result<(), Unfinished>, serde_json::Value, String) {
        let directory = tempfile::tempdir().unwrap();
        let mut figures = Figures::start("trial").in_directory(directory.path().join("bench"));
        fill(&mut figures);
        let mut table = Vec::new();
        let outcome = figures.finish(&mut table);
        let json = std::fs::read(directory.path().join("bench/trial.json")).unwrap_or(b"null".to_vec());
        (outcome, serde_json::from_slice(&json).unwrap(), String::from_utf8(table).unwrap())
    }

    #[test]
    fn figures_within_their_limits_pass_and_are_written() {
        let (outcome, json, table) = finish(|figures| {
            figures.at_most("flip.failed", 0.0, "requests", 0.0, "ten flips");
            figures.at_least("flip.rate", 900.5, "1/s", 900.0, "");
            figures.note("flip.stall", 1.25, "ms", Better::Lower, "max 3");
        });
        outcome.unwrap();
        assert_eq!(json["name"], "trial");
        for key in ["commit", "machine", "started", "seconds"] {
            assert!(!json[key].is_null(), "{key}");
        }
        let first = serde_json::json!({"id": "flip.failed", "value": 0.0, "unit": "requests", "limit": 0.0, "better": "lower", "ok": true, "detail": "ten flips"});
        assert_eq!(json["results"][0], first);
        assert_eq!(json["results"][2]["limit"], serde_json::Value::Null);
        assert!(table.contains("  flip.failed  0 requests  ≤ 0    ten flips\n"), "{table}");
        assert!(table.contains("  flip.stall      1.25 ms         max 3\n"), "{table}");
    }

    #[test]
    fn a_missed_limit_fails_on_either_side_and_so_does_what_is_unknown() {
        let (outcome, json, table) = finish(|figures| {
            figures.at_most("a", 1.001, "ms", 1.0, "");
            figures.at_least("b", 0.999, "1/s", 1.0, "");
            figures.at_most("c", f64::NAN, "ms", 1.0, "");
            figures.unknown("d", "ms", 1.0, Better::Lower, "void: the load generator was busy");
            figures.at_most("e", 1.0, "ms", 1.0, "");
        });
        assert_eq!(outcome.unwrap_err().to_string(), "missed: a, b, c, d");
        assert_eq!(json["results"][3]["value"], serde_json::Value::Null);
        assert!(table.contains("✗ d    unknown  ≤ 1  void: the load generator was busy"), "{table}");
    }

    #[test]
    fn a_missed_aim_is_told_and_fails_nothing() {
        let (outcome, json, table) = finish(|figures| {
            figures.at_most("a", 2.0, "ms", 1.0, "");
            figures.is_an_aim();
            figures.at_most("b", 1.0, "ms", 1.0, "");
        });
        outcome.unwrap();
        assert_eq!((&json["results"][0]["ok"], &json["results"][0]["aim"]), (&false.into(), &true.into()));
        assert_eq!(json["results"][1].get("aim"), None);
        assert!(table.contains("✗ a  2 ms  ≤ 1"), "{table}");
    }

    #[test]
    fn an_id_is_measured_once() {
        let (outcome, ..) = finish(|figures| {
            figures.at_most("a", 0.0, "ms", 1.0, "");
            figures.at_most("a", 0.0, "ms", 1.0, "");
        });
        assert!(matches!(outcome, Err(Unfinished::Twice { .. })));
    }

    #[test]
    fn times_are_written_as_the_standard_says() {
        assert_eq!(utc(UNIX_EPOCH), "1970-01-01T00:00:00Z");
        assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(951_782_399)), "2000-02-28T23:59:59Z");
        assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(951_782_400)), "2000-02-29T00:00:00Z");
        assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(1_767_225_600)), "2026-01-01T00:00:00Z");
    }
}
