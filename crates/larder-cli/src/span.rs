//! Durations and sizes, as people write and read them.

use std::time::Duration;

/// The shortest and the longest deadline that makes sense for one command.
const DEADLINES: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);

/// Reads `500ms`, `2s` or `1m`.
pub(crate) fn parse_deadline(text: &str) -> Result<Duration, String> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let wrong = || "write a whole number and a unit: 500ms, 2s or 1m".to_owned();
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        _ => return Err(wrong()),
    };
    let deadline = millis.map(Duration::from_millis).filter(|deadline| DEADLINES.contains(deadline));
    deadline.ok_or_else(|| "it must lie between 10ms and 10m".to_owned())
}

/// More than a cache entry can live: a deadline that was never set.
const ENDLESS: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A duration in at most two units.
pub(crate) fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        _ if duration > ENDLESS => "for ever".to_owned(),
        0..10 => format!("{duration:.1?}"),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Whole milliseconds; `None` for a time without end.
pub(crate) fn millis(duration: Duration) -> Option<u64> {
    if duration > ENDLESS { None } else { u64::try_from(duration.as_millis()).ok() }
}

/// A number of bytes.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(crate) fn bytes(number: u64) -> String {
    let (unit, size) = match number {
        0..1_024 => return format!("{number} B"),
        1_024..1_048_576 => ("KiB", 1_u64 << 10),
        1_048_576..1_073_741_824 => ("MiB", 1 << 20),
        _ => ("GiB", 1 << 30),
    };
    format!("{:.1} {unit}", number as f64 / size as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_a_number_and_a_unit() {
        assert_eq!(parse_deadline("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_deadline("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_deadline("1m"), Ok(Duration::from_secs(60)));
        for wrong in ["", "2", "s", "-1s", "1h", "2 s", "0s", "11m", "99999999999999999999m", "18446744073709551615s"] {
            assert!(parse_deadline(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_and_sizes_are_short() {
        assert_eq!(shown(Duration::from_millis(1_250)), "1.2s");
        assert_eq!(shown(Duration::from_secs(300)), "5m 0s");
        assert_eq!(shown(Duration::from_secs(90_000)), "1d 1h");
        assert_eq!(shown(Duration::MAX), "for ever");
        assert_eq!((bytes(1_023), bytes(1_536)), ("1023 B".to_owned(), "1.5 KiB".to_owned()));
    }
}
