//! `secretsd apart`: tells the kernel what it must forget, so that no thread of the secretsd that has
//! the keys ever waits in the kernel for an answer of the next one. It reads no key and no store.

use std::sync::Arc;

use anyhow::Context;
use sys::apart::Apart;
use sys::process::Spawn;

use crate::serve::{harden, refuse_privileges};

/// Starts it. To be done before exec is forbidden. The program is the one that runs, whatever has its
/// name by now.
pub(crate) fn start() -> anyhow::Result<Arc<Apart>> {
    let program = Spawn::new("/proc/self/exe").named("secretsd").arg("apart");
    let apart = Apart::start(program, gone).context("cannot start a process apart")?;
    Ok(Arc::new(apart))
}

/// Without it nothing can be taken back from services. No other can be started here, but by whoever
/// started us; what is under way is not acknowledged.
fn gone() -> ! {
    log::error!("the process that tells the kernel what to forget has ended; so do we");
    std::process::exit(1)
}

/// What it does, without a privilege, as secretsd; with no file of its own to keep it to.
pub(crate) fn run() -> anyhow::Result<()> {
    harden()?;
    refuse_privileges()?;
    sys::sandbox::forbid_exec_and_mounts().context("cannot set the seccomp filter")?;
    fuse_fs::tell_the_kernel().context("cannot serve")
}

/// For tests in which no view is served, and nothing is asked.
#[cfg(test)]
pub(crate) fn of_nobody() -> Arc<Apart> {
    #![allow(clippy::unwrap_used)]
    Arc::new(Apart::start(Spawn::new("/bin/cat"), gone).unwrap())
}
