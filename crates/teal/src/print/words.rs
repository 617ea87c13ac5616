//! Numbers, times and tables as people read them.

use crate::print::Paint;
use teal_model::wire::Protocol;

/// `14.2 s`, from milliseconds.
pub fn ms(ms: u64) -> String {
    match ms {
        0 => "< 1 ms".to_owned(),
        1..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// `0.41 ms`, from microseconds.
pub fn us(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10),
        10_000..100_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        _ => ms(us / 1_000),
    }
}

/// A setting: `30 s`, `1 min 30 s`, `0 s`.
pub fn setting(value: u64) -> String {
    match value {
        0 => "0 s".to_owned(),
        1..60_000 if value.is_multiple_of(1_000) => format!("{} s", value / 1_000),
        60_000..3_600_000 if value.is_multiple_of(60_000) => format!("{} min", value / 60_000),
        _ => ms(value),
    }
}

/// `12,034`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `61.3 MB`, as Docker counts: a thousand to a step.
pub fn bytes(bytes: u64) -> String {
    let steps = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match steps.into_iter().find(|(step, _)| bytes >= *step) {
        Some((step, unit)) => format!("{}.{} {unit}", bytes / step, bytes % step * 10 / step),
        None => format!("{bytes} B"),
    }
}

/// `1 replica`, `2 replicas`.
pub fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `3 min ago`.
pub fn ago(then_ms: u64, now_ms: u64) -> String {
    format!("{} ago", for_how_long(now_ms.saturating_sub(then_ms)))
}

/// One unit is enough: `3 min`.
pub fn for_how_long(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// `2026-11-22 12:17:18 UTC`: the same on every machine, whatever its time zone.
pub fn date(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    let (year, month, day) = civil(seconds / 86_400);
    let second = seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3_600, second % 3_600 / 60, second % 60)
}

/// Days since 1970-01-01 in the Gregorian calendar, counted in eras of 400 years that begin with March,
/// so that the leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// `sha256:0123456789ab`, as much as a person compares.
pub fn short_id(id: &str) -> String {
    match id.split_once(':') {
        Some((kind, hex)) => format!("{kind}:{}", hex.chars().take(12).collect::<String>()),
        None => id.chars().take(12).collect(),
    }
}

/// A protocol, short.
pub fn spoken(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "HTTP",
        Protocol::Tcp => "TCP",
    }
}

/// Text that came from a container, an image or a probe: it may not move the cursor or change the title of a terminal.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

/// Columns as wide as their widest cell. The first row is the head; cells hold no colors.
pub fn table(rows: &[Vec<String>], paint: Paint) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let line = cells.join("  ");
        let line = line.trim_end();
        text.push_str(&if i == 0 { paint.bold(line) } else { line.to_owned() });
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_a_reader_expects() {
        let shown: Vec<String> = [0, 7, 999, 1_000, 14_250, 60_000, 3_599_999, 7_260_000].map(ms).into();
        assert_eq!(shown, ["< 1 ms", "7 ms", "999 ms", "1.0 s", "14.2 s", "1 min 0 s", "59 min 59 s", "2 h 1 min"]);
        let shown: Vec<String> = [4, 412, 1_205, 12_345, 250_000].map(us).into();
        assert_eq!(shown, ["0.00 ms", "0.41 ms", "1.20 ms", "12.3 ms", "250 ms"]);
        let shown: Vec<String> = [0, 30_000, 90_000, 300_000, 1_500].map(setting).into();
        assert_eq!(shown, ["0 s", "30 s", "1 min 30 s", "5 min", "1.5 s"]);
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 12_034_567].map(count), ["0", "999", "1,000", "12,034,567"]);
        assert_eq!([12, 1_400, 61_349_999, 2_000_000_000].map(bytes), ["12 B", "1.4 kB", "61.3 MB", "2.0 GB"]);
        assert_eq!(counted(1, "replica"), "1 replica");
        assert_eq!(counted(2, "replica"), "2 replicas");
    }

    #[test]
    fn dates_know_leap_years() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(date(1_795_349_838_000), "2026-11-22 12:17:18 UTC");
        assert_eq!(date(4_107_542_399_000), "2100-02-28 23:59:59 UTC");
        assert_eq!(date(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
    }

    #[test]
    fn what_a_container_wrote_cannot_steer_the_terminal() {
        assert_eq!(printable("\x1b]0;title\x07\tplain\r"), "]0;title\tplain");
    }

    #[test]
    fn a_table_lines_up() {
        let rows = [vec!["A".to_owned(), "LONG".to_owned()], vec!["bcd".to_owned(), "e".to_owned()]];
        assert_eq!(table(&rows, Paint::NONE), "A    LONG\nbcd  e\n");
    }
}
