//! When a service is started again, and after how long. Pure.

use std::time::Duration;

use model::Restart;

/// The first pause; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A service that ran this long is not in a loop of failures: the next pause is the first again.
const RAN_WELL: Duration = Duration::from_secs(10);

/// How a service's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Exited(i32),
    Killed(i32),
}

impl Ended {
    /// As a shell says it.
    pub fn code(self) -> i32 {
        match self {
            Ended::Exited(code) => code,
            Ended::Killed(signal) => 128 + signal,
        }
    }

    /// Does the manifest want it started again? Ctrl-C at the service's terminal never does.
    pub fn wants_restart(self, policy: Restart) -> bool {
        match policy {
            Restart::No => false,
            Restart::OnFailure => self.code() != 0 && self.code() != 128 + libc::SIGINT,
            Restart::Always => self.code() != 128 + libc::SIGINT,
        }
    }
}

/// The pauses between starts.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    last: Option<Duration>,
}

impl BackOff {
    /// The pause before the next start, after a life of `ran`.
    pub fn next(&mut self, ran: Duration) -> Duration {
        let pause = match self.last {
            Some(last) if ran < RAN_WELL => (last * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        self.last = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_manifest_says_starts_again() {
        let failed = [Ended::Exited(1), Ended::Killed(libc::SIGSEGV)];
        for ended in failed {
            assert!(!ended.wants_restart(Restart::No));
            assert!(ended.wants_restart(Restart::OnFailure));
            assert!(ended.wants_restart(Restart::Always));
        }
        assert!(!Ended::Exited(0).wants_restart(Restart::OnFailure));
        assert!(Ended::Exited(0).wants_restart(Restart::Always));
        assert!(!Ended::Killed(libc::SIGINT).wants_restart(Restart::Always));
        assert!(!Ended::Exited(130).wants_restart(Restart::Always));
    }

    #[test]
    fn pauses_double_up_to_half_a_minute_and_start_over_after_a_good_run() {
        let mut back_off = BackOff::default();
        let short = Duration::ZERO;
        let pauses: Vec<_> = (0..11).map(|_| back_off.next(short).as_millis()).collect();
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[9..], [30_000, 30_000]);
        assert_eq!(back_off.next(RAN_WELL), FIRST_PAUSE);
    }

    #[test]
    fn a_signal_is_told_as_a_shell_tells_it() {
        assert_eq!(Ended::Killed(15).code(), 143);
    }
}
