//! Sizes and times; tests set others.

use std::io;
use std::time::Duration;

/// How large files grow, and when things happen by themselves.
#[derive(Debug, Clone)]
pub(crate) struct Tuning {
    /// The journal's first length, and by how much it grows at least.
    pub(crate) step: u64,
    /// A journal of this size is folded into a snapshot; or of half the snapshot, if that is more.
    pub(crate) journal_limit: u64,
    /// Removed and overwritten records go from the files after so long.
    pub(crate) stale_after: Duration,
    /// What failed in the background is tried again after so long.
    pub(crate) retry_after: Duration,
    /// How long closing waits for the index to take what it has not yet.
    pub(crate) index_grace: Duration,
    #[cfg(test)]
    pub(crate) faults: std::sync::Arc<Faults>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            step: 1 << 20,
            journal_limit: 16 << 20,
            stale_after: Duration::from_secs(300),
            retry_after: Duration::from_secs(60),
            index_grace: Duration::from_secs(2),
            #[cfg(test)]
            faults: std::sync::Arc::default(),
        }
    }
}

impl Tuning {
    /// By how much a journal of this size grows: seldom, where much is written.
    pub(crate) fn step_at(&self, len: u64) -> u64 {
        if len < 4 * self.step {
            self.step
        } else {
            4 * self.step
        }
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "tests let it fail"
    )]
    pub(crate) fn before_write(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "tests let it fail"
    )]
    pub(crate) fn before_sync(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn before_write(&self) -> io::Result<()> {
        self.faults.writes.next()
    }

    #[cfg(test)]
    pub(crate) fn before_sync(&self) -> io::Result<()> {
        self.faults.syncs.next()
    }
}

/// What a test lets go wrong.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) writes: Countdown,
    pub(crate) syncs: Countdown,
}

/// Fails once, after so many good ones.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Countdown(std::sync::Mutex<Option<(u32, i32)>>);

#[cfg(test)]
impl Countdown {
    pub(crate) fn fail_after(&self, good: u32) {
        *sys::lock::lock(&self.0) = Some((good, 5));
    }

    /// The next one finds the disk full.
    pub(crate) fn find_full(&self) {
        *sys::lock::lock(&self.0) = Some((0, 28));
    }

    fn next(&self) -> io::Result<()> {
        let mut left = sys::lock::lock(&self.0);
        match *left {
            Some((0, errno)) => {
                *left = None;
                Err(io::Error::from_raw_os_error(errno))
            }
            other => {
                *left = other.map(|(left, errno)| (left - 1, errno));
                Ok(())
            }
        }
    }
}
