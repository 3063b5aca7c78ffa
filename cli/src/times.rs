//! Durations and times, as people type them.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use model::Timestamp;

/// `30s`, `8h`, `1h 30m`, `7d`; a day has 24 hours.
pub fn duration(text: &str) -> Result<Duration, String> {
    let meant = text
        .parse::<Span>()
        .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    meant
        .ok()
        .and_then(|span| Duration::try_from(span).ok())
        .filter(|duration| *duration >= Duration::from_secs(1))
        .ok_or_else(|| "expected a duration of a second or more, such as 30s, 8h or 7d".to_owned())
}

/// `2026-12-01T08:00:00Z`.
pub fn time(text: &str) -> Result<Timestamp, String> {
    let time = text.parse::<jiff::Timestamp>();
    time.ok()
        .and_then(|time| u64::try_from(time.as_second()).ok())
        .map(Timestamp)
        .ok_or_else(|| "expected a time, such as 2026-12-01T08:00:00Z".to_owned())
}

/// The two largest units of a number of seconds.
pub fn shown(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_that_are_meant() {
        for (text, seconds) in [
            ("30s", 30),
            ("8h", 28_800),
            ("1h 30m", 5400),
            ("1h30m", 5400),
            ("7d", 604_800),
            ("2w", 1_209_600),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "8", "h", "-1h", "0s", "10ms", "1 year", "8x"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_in_utc_or_say_where() {
        assert_eq!(time("1970-01-01T00:00:10Z"), Ok(Timestamp(10)));
        assert_eq!(time("1970-01-01T02:00:10+02:00"), Ok(Timestamp(10)));
        for text in [
            "",
            "tomorrow",
            "1969-01-01T00:00:00Z",
            "2026-13-01T00:00:00Z",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_left_is_shown_in_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m 1s"),
            (28_800, "8h 0m"),
            (90_000, "1d 1h"),
        ] {
            assert_eq!(shown(seconds), text);
        }
    }
}
