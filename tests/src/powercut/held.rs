//! Syncs that take as long as a test wants: a disk that is slow, at will.

use std::fmt;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fuser::ReplyEmpty;
use rustix::mount::{MoveMountFlags, move_mount};
use sys::lock::lock;

use super::{Disk, State, fuse};
use crate::wait;

type Such = dyn Fn(&str) -> bool + Send;

/// Which syncs are held, and those that are.
#[derive(Default)]
pub(super) struct Held {
    such: Option<Box<Such>>,
    waiting: Vec<(u64, ReplyEmpty)>,
}

impl Held {
    /// Keeps a sync of a path, or gives it back to be done.
    pub(super) fn take(
        &mut self,
        path: &str,
        number: u64,
        reply: ReplyEmpty,
    ) -> Option<ReplyEmpty> {
        if !self.such.as_ref().is_some_and(|such| such(path)) {
            return Some(reply);
        }
        self.waiting.push((number, reply));
        None
    }
}

/// Syncs are held as long as this lives; dropping it lets all go on. It must end before the processes
/// that wait: a process in such a call cannot be killed.
pub struct HeldSyncs(Arc<Mutex<State>>);

impl Disk {
    /// From now on a sync of a path of which `such` says so gets no answer; every other call does.
    #[must_use]
    pub fn hold_syncs(&self, such: impl Fn(&str) -> bool + Send + 'static) -> HeldSyncs {
        self.state().held.such = Some(Box::new(such));
        HeldSyncs(self.state.clone())
    }

    /// Puts the disk where secretsd of this user finds it. Everything on it is that user's. Whoever
    /// owns the folder takes the mount away.
    ///
    /// # Panics
    /// There is no such folder.
    pub fn attach(&self, folder: &Path, user: u32) {
        self.state().tree.owner = user;
        let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(self.mount.as_fd(), "", rustix::fs::CWD, folder, whole).unwrap();
    }
}

impl HeldSyncs {
    /// Waits until somebody waits for a sync.
    #[track_caller]
    pub fn wait(&self) {
        wait::until("somebody to wait for a sync", || {
            (self.count() > 0).then_some(())
        });
    }

    /// How many wait.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.0).held.waiting.len()
    }

    /// Lets those go on that wait now, as if each had taken so long; those that come later are held.
    pub fn after(&self, long: Duration) {
        std::thread::sleep(long);
        self.release();
    }

    fn release(&self) {
        let mut state = lock(&self.0);
        for (number, reply) in std::mem::take(&mut state.held.waiting) {
            fuse::sync(&mut state, number, reply);
        }
    }
}

impl Drop for HeldSyncs {
    fn drop(&mut self) {
        lock(&self.0).held.such = None;
        self.release();
    }
}

impl fmt::Debug for HeldSyncs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeldSyncs")
    }
}
