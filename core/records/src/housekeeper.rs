//! The thread that begins fresh files when the journal is long, when what was removed has lain there
//! long enough, or when the index failed.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sys::lock::lock;

use crate::disk::{Disk, State};
use crate::error::RecordsError;
use crate::health::Health;

/// A snapshot takes at most one part in so many of our time, while only its age calls for it.
const SHARE: u32 = 20;
/// How often the clock is looked at while there is something to wait for.
const LOOK: Duration = Duration::from_secs(5);
const NOTHING: Duration = Duration::from_secs(3600);

pub(crate) fn start(disk: &Arc<Disk>) -> io::Result<JoinHandle<()>> {
    let disk = disk.clone();
    thread::Builder::new()
        .name("records-keeper".into())
        .spawn(move || run(&disk))
}

fn run(disk: &Arc<Disk>) {
    loop {
        let mut state = lock(&disk.state);
        while !disk.closing.load(Ordering::Acquire) && !disk.is_due(&state) {
            let waits = disk.lacks_index(&state) || state.stale_since.is_some() || failed(&state);
            let time = if waits {
                LOOK.min(disk.tuning.stale_after)
            } else {
                NOTHING
            };
            state = disk
                .bell
                .wait_timeout(state, time)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        drop(state);
        if disk.closing.load(Ordering::Acquire) {
            return;
        }
        match disk.snapshot() {
            Ok(()) | Err(RecordsError::Closed) => {}
            Err(error) => log::warn!("no snapshot: {error}"),
        }
    }
}

fn failed(state: &State) -> bool {
    state.tried.is_some_and(|(_, _, failed)| failed)
}

impl Disk {
    /// Whether the journal has grown beyond what is worth keeping.
    pub(crate) fn is_long(&self, health: &Health) -> bool {
        health.journal_bytes > self.tuning.journal_limit.max(health.snapshot_bytes / 2)
    }

    /// Whether the index failed, or does not come back.
    pub(crate) fn lacks_index(&self, state: &State) -> bool {
        state.index_failed || self.keeper().is_some_and(|keeper| keeper.is_stuck())
    }

    /// Whether fresh files are due.
    pub(crate) fn is_due(&self, state: &State) -> bool {
        let health = &state.health;
        let since = |least: Duration| state.tried.is_none_or(|(at, ..)| at.elapsed() >= least);
        if health.stopped.is_some() || (failed(state) && !since(self.tuning.retry_after)) {
            return false;
        }
        let long = self.is_long(health);
        let stale = state
            .stale_since
            .is_some_and(|at| at.elapsed() >= self.tuning.stale_after);
        let cost = state
            .tried
            .map_or(Duration::ZERO, |(_, cost, _)| cost * SHARE);
        long || (self.lacks_index(state) && since(self.tuning.retry_after))
            || (stale && since(self.tuning.stale_after.max(cost)))
    }
}
