//! Durations as a person writes them.

use std::{fmt, time::Duration};

use larder_core::ttl_millis;

const UNITS: [(u128, &str); 7] = [
    (86_400_000_000_000, "d"),
    (3_600_000_000_000, "h"),
    (60_000_000_000, "min"),
    (1_000_000_000, "s"),
    (1_000_000, "ms"),
    (1_000, "us"),
    (1, "ns"),
];

/// Displays a duration in its two largest units, `1 h 30 min`; what never ends is `for ever`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if ttl_millis(self.0).is_none() {
            return f.write_str("for ever");
        }
        let mut nanos = self.0.as_nanos();
        let mut written = 0;
        for (size, name) in UNITS {
            let count = nanos / size;
            if count == 0 {
                continue;
            }
            let gap = if written == 0 { "" } else { " " };
            write!(f, "{gap}{count} {name}")?;
            nanos %= size;
            written += 1;
            if written == 2 {
                break;
            }
        }
        if written == 0 { f.write_str("0 s") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_their_two_largest_units() {
        for (duration, text) in [
            (Duration::ZERO, "0 s"),
            (Duration::from_millis(50), "50 ms"),
            (Duration::from_secs(60), "1 min"),
            (Duration::from_secs(5400), "1 h 30 min"),
            (Duration::from_secs(86_400), "1 d"),
            (Duration::from_millis(1500), "1 s 500 ms"),
            (Duration::MAX, "for ever"),
        ] {
            assert_eq!(Span(duration).to_string(), text);
        }
    }
}
