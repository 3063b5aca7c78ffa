//! `wait:` of a manifest: a first start that is refused for want of a grant, or because the store is
//! sealed, is tried again until its time is over.

use std::time::{Duration, Instant};

use model::Manifest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::life::StartError;
use super::say;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// A start that may wait.
#[derive(Debug)]
pub(super) struct Waiting {
    patience: Duration,
    /// Until when, once it has begun.
    until: Option<Instant>,
    /// What was said last of what it waits for.
    said: String,
}

impl Waiting {
    pub fn new(manifest: &Manifest) -> Waiting {
        Waiting {
            patience: Duration::from_secs(manifest.wait.unwrap_or(0).into()),
            until: None,
            said: String::new(),
        }
    }

    /// Was it refused before?
    pub fn has_begun(&self) -> bool {
        self.until.is_some()
    }

    /// How long until the next try; `None`: this error is the last word. Says what it waits for, once
    /// for each that there is.
    pub fn pause(&mut self, error: &StartError) -> Option<Duration> {
        let StartError::Refused {
            message,
            waits: true,
            ..
        } = error
        else {
            return None;
        };
        let until = *self
            .until
            .get_or_insert_with(|| Instant::now() + self.patience);
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        if self.said != *message {
            say(&format!(
                "{message}\nwaiting for that, up to {}s more",
                left.as_secs() + 1
            ));
            self.said.clone_from(message);
        }
        Some(left.min(PAUSE))
    }
}

/// Whether nobody reads our standard error any more: whoever has typed `deploy run --detach` has
/// given up, by Ctrl-C.
pub(super) fn caller_is_gone() -> bool {
    let stderr = rustix::stdio::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let _ = poll(&mut fds, Some(&now));
    fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}
