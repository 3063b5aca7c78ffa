//! Time that nobody can set back: what ends by itself ends by this clock, or by the wall clock,
//! whichever says so first.
//!
//! The store's own time is seconds that have passed: it goes on with CLOCK_BOOTTIME, which counts
//! suspensions too and which nobody sets, and over a restart it is what was kept plus what passed
//! since. Over a reboot that is known from the wall clock alone, and at least nothing.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use model::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// The two clocks of the machine, and which boot of it this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Seconds since 1970, as whoever may set the clock says.
    wall: u64,
    /// Seconds since the boot.
    uptime: u64,
    /// /proc/sys/kernel/random/boot_id; empty if the kernel does not say.
    boot: String,
}

impl Reading {
    pub(crate) fn take() -> Reading {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Reading {
            wall: wall(),
            uptime: uptime(),
            boot: boot.trim().to_owned(),
        }
    }
}

/// What is kept of the clock over a restart: one sealed record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// The store's own time then.
    time: u64,
    /// The wall clock then.
    wall: u64,
    /// Seconds since the boot then.
    uptime: u64,
    /// Which boot.
    boot: String,
}

/// The store's own time while it is unsealed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    /// The store's own time at `at`.
    time: u64,
    /// In seconds since the boot.
    at: u64,
    boot: String,
    /// Whether there is a record of it.
    pub(crate) is_kept: bool,
    /// What an earlier life has kept last.
    before: Option<Kept>,
}

/// When something ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// By the wall clock.
    pub(crate) until: u64,
    /// By CLOCK_BOOTTIME, in seconds of this boot.
    pub(crate) uptime: u64,
}

impl Clock {
    /// Goes on from what was kept.
    pub(crate) fn resume(kept: Option<&Kept>, now: Reading) -> Clock {
        let time = kept.map_or(0, |kept| {
            let same_boot = !now.boot.is_empty() && kept.boot == now.boot;
            let passed = if same_boot {
                now.uptime.saturating_sub(kept.uptime)
            } else {
                now.wall.saturating_sub(kept.wall)
            };
            kept.time.saturating_add(passed)
        });
        Clock {
            time,
            at: now.uptime,
            boot: now.boot,
            is_kept: kept.is_some(),
            before: kept.cloned(),
        }
    }

    /// Had it ended already when an earlier life kept its time last? Then that has told of it.
    pub(crate) fn had_ended(&self, until: Timestamp, deadline: Option<u64>) -> bool {
        let had = |kept: &Kept| until.0 <= kept.wall || deadline.is_some_and(|at| at <= kept.time);
        self.before.as_ref().is_some_and(had)
    }

    /// What is to be kept.
    pub(crate) fn kept(&self) -> Kept {
        let uptime = uptime();
        Kept {
            time: self.time_at(uptime),
            wall: wall(),
            uptime,
            boot: self.boot.clone(),
        }
    }

    fn time_at(&self, uptime: u64) -> u64 {
        self.time.saturating_add(uptime.saturating_sub(self.at))
    }

    /// The store's own time when the wall clock will say `until`, if nobody sets it.
    pub(crate) fn deadline(&self, until: Timestamp) -> u64 {
        self.time_at(uptime())
            .saturating_add(until.0.saturating_sub(wall()))
    }

    /// What ends at `until`, and not later than at `deadline` of the store's own time. What an
    /// earlier version wrote has no `deadline`.
    pub(crate) fn end(&self, until: Timestamp, deadline: Option<u64>) -> End {
        let uptime = deadline.map_or(u64::MAX, |deadline| {
            self.at.saturating_add(deadline.saturating_sub(self.time))
        });
        End {
            until: until.0,
            uptime,
        }
    }
}

impl End {
    pub(crate) const NEVER: End = End {
        until: u64::MAX,
        uptime: u64::MAX,
    };

    /// Seconds that are left; 0: it has ended.
    pub(crate) fn left(self) -> u64 {
        left(self.until, wall()).min(left(self.uptime, uptime()))
    }
}

fn left(end: u64, now: u64) -> u64 {
    end.saturating_sub(now)
}

/// A clock before 1970 reads as 0, as on a machine without a clock battery before its time is set.
pub(crate) fn wall() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn uptime() -> u64 {
    u64::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(wall: u64, uptime: u64, boot: &str) -> Reading {
        Reading {
            wall,
            uptime,
            boot: boot.into(),
        }
    }

    fn kept(time: u64) -> Kept {
        Kept {
            time,
            wall: 1_000_000,
            uptime: 500,
            boot: "one".into(),
        }
    }

    /// The store's own time right after a start.
    fn time_after(now: Reading) -> u64 {
        let at = now.uptime;
        Clock::resume(Some(&kept(70)), now).time_at(at)
    }

    #[test]
    fn a_restart_loses_no_time_whatever_the_wall_clock_says() {
        for wall in [0, 1_000_000, u64::MAX] {
            assert_eq!(time_after(reading(wall, 530, "one")), 100);
        }
    }

    #[test]
    fn over_a_reboot_the_time_goes_on_by_the_wall_clock_and_never_back() {
        assert_eq!(time_after(reading(1_000_030, 5, "two")), 100);
        assert_eq!(time_after(reading(10, 5, "two")), 70);
        // A kernel that does not say which boot it is.
        assert_eq!(time_after(reading(1_000_030, 530, "")), 100);
    }

    #[test]
    fn an_end_comes_by_whichever_clock_is_first() {
        let now = Reading::take();
        let (wall, uptime) = (now.wall, now.uptime);
        let clock = Clock::resume(Some(&kept(70)), now);
        let end = |until, deadline| clock.end(Timestamp(until), deadline).left();
        assert_eq!(end(wall, None), 0);
        assert!((55..=60).contains(&end(wall + 60, None)));
        // The wall clock was set back by a day: the deadline holds.
        let base = clock.time_at(uptime);
        assert!((55..=60).contains(&end(wall + 86_400, Some(base + 60))));
        assert_eq!(end(wall + 86_400, Some(base)), 0);
        assert_eq!(end(wall + 86_400, Some(0)), 0);
    }

    #[test]
    fn what_ended_before_the_time_was_kept_had_ended_and_what_ended_since_had_not() {
        let clock = Clock::resume(Some(&kept(70)), reading(1_000_060, 560, "one"));
        let had = |until, deadline| clock.had_ended(Timestamp(until), deadline);
        assert!(had(2_000_000, Some(70)) && had(1_000_000, Some(900)) && had(1_000_000, None));
        assert!(!had(1_000_001, Some(71)) && !had(1_000_001, None));
        let first = Clock::resume(None, Reading::take());
        assert!(!first.had_ended(Timestamp(0), Some(0)));
    }

    #[test]
    fn what_is_kept_is_what_is_resumed() {
        let clock = Clock::resume(Some(&kept(70)), Reading::take());
        let again = Clock::resume(Some(&clock.kept()), Reading::take());
        let uptime = uptime();
        assert!(again.time_at(uptime).abs_diff(clock.time_at(uptime)) <= 1);
        let until = Timestamp(wall() + 100);
        assert!(clock.deadline(until).abs_diff(clock.time_at(uptime) + 100) <= 1);
    }
}
