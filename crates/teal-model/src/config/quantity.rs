//! Durations, byte sizes and shares of a core as Compose writes them, turned into numbers whose unit is in their name.

/// `1m30s`, `500ms`, `1h5m`, `1.5s`, `2d`; whole milliseconds, rounded up so that a short time never becomes none.
/// A bare `0` needs no unit.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut ns: f64 = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            "d" => 86_400e9,
            "w" => 604_800e9,
            _ => return None,
        };
        ns += number * scale;
        rest = next;
    }
    let ms = (ns / 1e6).ceil();
    // Ten years: beyond it is a slip of the finger, and every sum of such numbers fits.
    (ms <= 3.2e11).then_some(ms as u64)
}

/// `512m`, `1gb`, `64k`, `1.5GiB`, `1024`: powers of 1024, as Docker reads them.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let scale = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let bytes = number * 1024_f64.powi(scale);
    (bytes <= i64::MAX as f64 / 2.0).then_some(bytes as u64)
}

/// `0.5` -> 500. None: no number, or finer than a thousandth.
pub(super) fn cpus_milli(text: &str) -> Option<u64> {
    parts(text, 1_000.0).filter(|milli| *milli <= 10_000_000)
}

/// `0.5` of a percent -> 50 hundredths. None: no number, finer than that, or more than all.
pub(super) fn percent(text: &str) -> Option<u32> {
    parts(text, 100.0).filter(|hundredths| *hundredths <= 10_000).and_then(|hundredths| u32::try_from(hundredths).ok())
}

/// How many of `scale` parts of one, where it is a whole number of them.
fn parts(text: &str, scale: f64) -> Option<u64> {
    let (number, rest) = split_number(text)?;
    let parts = number * scale;
    let whole = parts.round();
    (rest.is_empty() && (parts - whole).abs() < 1e-6).then_some(whole as u64)
}

/// The decimal number at the start: digits with at most one point, no sign, no exponent.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    if !number.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some((number.parse().ok()?, rest))
}

/// Milliseconds as a person would write them: `1m30s`, `500ms`.
pub(super) fn show_ms(ms: u64) -> String {
    if ms == 0 {
        return "0".to_owned();
    }
    let mut out = String::new();
    let mut rest = ms;
    for (unit, scale) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= scale {
            out += &format!("{}{unit}", rest / scale);
            rest %= scale;
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_compose_writes_them() {
        for (text, want) in [
            ("10s", Some(10_000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("1h5m", Some(3_900_000)),
            ("1h5m30s20ms", Some(3_930_020)),
            ("40us", Some(1)),
            ("2500us", Some(3)),
            ("1.5s", Some(1_500)),
            (".5s", Some(500)),
            ("1d", Some(86_400_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1 s", None),
            ("1s ", None),
            ("1x", None),
            ("1..2s", None),
            ("ten seconds", None),
            ("99999999999h", None),
            ("1e3s", None),
        ] {
            assert_eq!(duration_ms(text), want, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, want) in [
            ("1024", Some(1024)),
            ("64k", Some(65_536)),
            ("512m", Some(512 << 20)),
            ("512M", Some(512 << 20)),
            ("1gb", Some(1 << 30)),
            ("1GiB", Some(1 << 30)),
            ("1.5g", Some(3 << 29)),
            ("300 mb", Some(300 << 20)),
            ("2b", Some(2)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1x", None),
            ("1gbb", None),
            ("99999999p", None),
        ] {
            assert_eq!(bytes(text), want, "{text:?}");
        }
    }

    #[test]
    fn cpus_are_thousandths_of_a_core() {
        for (text, want) in [
            ("0.5", Some(500)),
            ("2", Some(2_000)),
            ("1.25", Some(1_250)),
            ("0.001", Some(1)),
            ("0.0001", None),
            ("0", Some(0)),
            ("-1", None),
            ("1m", None),
            ("NaN", None),
            ("inf", None),
        ] {
            assert_eq!(cpus_milli(text), want, "{text:?}");
        }
    }

    #[test]
    fn shares_are_hundredths_of_a_percent() {
        for (text, want) in [
            ("10", Some(1_000)),
            ("0.5", Some(50)),
            ("0.01", Some(1)),
            ("33.33", Some(3_333)),
            ("100", Some(10_000)),
            ("0", Some(0)),
            ("100.01", None),
            ("0.001", None),
            ("-1", None),
            ("10%", None),
            ("", None),
        ] {
            assert_eq!(percent(text), want, "{text:?}");
        }
    }

    #[test]
    fn shown_durations_can_be_read_again() {
        for ms in [0, 1, 999, 1_000, 90_000, 3_600_000, 3_930_020] {
            assert_eq!(duration_ms(&show_ms(ms)), Some(ms));
        }
    }
}
