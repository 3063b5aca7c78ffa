//! Waiting for a condition, never for a time.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The longest that anything here may take before it counts as hung.
pub const LONG: Duration = Duration::from_secs(60);

/// Asks again and again until the answer is `Some`.
///
/// # Panics
/// `what` did not come about within [`LONG`].
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    match within(LONG, &mut ask) {
        Some(found) => found,
        None => panic!("waited {} s for: {what}", LONG.as_secs()),
    }
}

/// Asks again and again, for at most `limit`.
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = ask() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Whether the descriptor became readable (for a pidfd: the process ended) within `limit`.
pub fn readable(descriptor: impl AsFd, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).unwrap();
    let mut asked = [PollFd::new(&descriptor, PollFlags::IN)];
    matches!(poll(&mut asked, Some(&limit)), Ok(1))
}
