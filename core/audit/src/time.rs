//! When: by the wall clock, for people, and since the boot, for order.

use std::fmt;

use model::Timestamp;
use rustix::time::{ClockId, Timespec, clock_gettime};

const MILLION: u64 = 1_000_000;

/// Microseconds since 1970-01-01T00:00:00Z. Displayed as RFC 3339 in UTC, with all six digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// Now, by the wall clock.
    pub fn now() -> Time {
        Time(micros(ClockId::Realtime))
    }

    /// Whole seconds.
    pub fn seconds(self) -> u64 {
        self.0 / MILLION
    }
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Time {
        Time(time.0.saturating_mul(MILLION))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = Timestamp(self.seconds()).to_string();
        let micros = self.0 % MILLION;
        match seconds.strip_suffix('Z') {
            Some(seconds) => write!(f, "{seconds}.{micros:06}Z"),
            None => write!(f, "{seconds}.{micros:06}"),
        }
    }
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) wall: Time,
    /// Microseconds since the boot, those in suspension too: nobody can set it back.
    pub(crate) uptime: u64,
}

impl Now {
    pub(crate) fn read() -> Now {
        Now {
            wall: Time::now(),
            uptime: micros(ClockId::Boottime),
        }
    }
}

fn micros(clock: ClockId) -> u64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
    let seconds = u64::try_from(tv_sec).unwrap_or(0);
    seconds * MILLION + u64::try_from(tv_nsec).unwrap_or(0) / 1000
}

/// Which boot of this machine it is; `None` where the kernel does not say.
pub(crate) fn boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok()?;
    (digits.len() == 32).then(|| number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_with_their_microseconds() {
        assert_eq!(Time(0).to_string(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(
            Time(1_764_028_799_000_042).to_string(),
            "2025-11-24T23:59:59.000042Z"
        );
        assert_eq!(Time(u64::MAX).to_string(), "@18446744073709.551615");
        assert_eq!(Time::from(Timestamp(7)), Time(7_000_000));
    }

    #[test]
    fn the_clocks_go_on_and_the_boot_has_a_name() {
        let (one, other) = (Now::read(), Now::read());
        assert!(one.uptime > 0 && one.uptime <= other.uptime);
        assert!(one.wall > Time(1_700_000_000 * MILLION));
        assert!(boot_id().is_some() && boot_id() == boot_id());
    }
}
