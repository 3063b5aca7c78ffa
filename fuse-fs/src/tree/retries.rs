//! Second tries. The kernel looks a name up again for an open that was answered ESTALE, and opens what
//! it finds; should the name lead elsewhere again by then, the program would see ESTALE. So the second
//! try gets what its own look-up found: that was the newest version while the open was under way, and
//! more does open(2) not promise beside rename(2).

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sys::lock::lock;

use crate::inode::Ino;

/// The kernel tries again at once.
const SOON: Duration = Duration::from_secs(2);
/// More threads than this at once see ESTALE: a flood must not fill the memory.
const MOST: usize = 4096;

struct Retry {
    found: Option<Ino>,
    until: Instant,
}

/// Threads whose open will be tried again.
#[derive(Default)]
pub(super) struct Retries {
    /// Mostly there is none, and then nobody takes the lock.
    count: AtomicUsize,
    /// By thread and entry.
    all: Mutex<HashMap<(u32, Ino), Retry>>,
}

/// The second try of an open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Second {
    /// What its look-up found; `None`: it has none, as it goes by a descriptor and not by a name.
    pub found: Option<Ino>,
}

impl Retries {
    /// The open of `ino` by the thread is answered ESTALE.
    pub fn begin(&self, tid: u32, ino: Ino) {
        let now = Instant::now();
        let mut all = lock(&self.all);
        if all.len() >= MOST {
            all.retain(|_, retry| retry.until > now);
        }
        if all.len() < MOST {
            let (found, until) = (None, now + SOON);
            all.insert((tid, ino.any_version()), Retry { found, until });
        }
        self.count.store(all.len(), Ordering::Release);
    }

    /// A look-up by the thread is answered with `ino`.
    pub fn found(&self, tid: u32, ino: Ino) {
        if self.count.load(Ordering::Acquire) != 0
            && let Some(retry) = lock(&self.all).get_mut(&(tid, ino.any_version()))
        {
            retry.found = Some(ino);
        }
    }

    /// The thread opens `ino`; is it for the second time?
    pub fn end(&self, tid: u32, ino: Ino) -> Option<Second> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut all = lock(&self.all);
        let retry = all.remove(&(tid, ino.any_version()))?;
        self.count.store(all.len(), Ordering::Release);
        let found = retry.found;
        (retry.until > Instant::now()).then_some(Second { found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_next_open_of_the_thread_and_entry_is_a_second_try() {
        let retries = Retries::default();
        let [old, new, other] = [(1, 7), (1, 8), (2, 8)].map(|(e, v)| Ino::new(3, e, v));
        retries.found(10, new);
        assert_eq!(retries.end(10, new), None, "no first try");
        retries.begin(10, old);
        retries.found(11, new);
        retries.found(10, other);
        assert_eq!(retries.end(11, new), None, "another thread");
        assert_eq!(retries.end(10, other), None, "another entry");
        assert_eq!(retries.end(10, new), Some(Second { found: None }));
        retries.begin(10, old);
        retries.found(10, new);
        assert_eq!(retries.end(10, new), Some(Second { found: Some(new) }));
        assert_eq!(retries.end(10, new), None, "a new open");
    }

    #[test]
    fn a_flood_takes_no_more_than_its_place() {
        let retries = Retries::default();
        for tid in 0..2 * MOST as u32 {
            retries.begin(tid, Ino::new(3, 1, 7));
        }
        assert_eq!(lock(&retries.all).len(), MOST);
    }
}
