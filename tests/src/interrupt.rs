//! Ctrl-C, SIGTERM and SIGHUP: what a signal takes away must not come to be at the same moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{RwLock, RwLockReadGuard};

static CAME: AtomicBool = AtomicBool::new(false);
static CREATING: RwLock<()> = RwLock::new(());

/// Held, for a moment, while something comes to be that a signal must take away: a folder, a
/// process. Once a signal has come this never returns; the process is about to end.
pub fn creating() -> RwLockReadGuard<'static, ()> {
    let creating = CREATING.read().unwrap_or_else(|dead| dead.into_inner());
    if came() {
        drop(creating);
        rest();
    }
    creating
}

/// Whether a signal has come: what fails from then on fails because of it.
pub fn came() -> bool {
    CAME.load(Ordering::SeqCst)
}

/// Waits for the end of the process, which another thread brings about.
pub fn rest() -> ! {
    loop {
        std::thread::park();
    }
}

/// A signal has come. Returns when nothing is coming to be any more.
pub(crate) fn comes() {
    CAME.store(true, Ordering::SeqCst);
    drop(CREATING.write());
}
