//! `secretsd apart`: tells the kernel what it must forget, so that no thread of the secretsd that has
//! the keys ever waits in the kernel for an answer of the next one. It reads no key and no store.
//!
//! And it has a hand on each connection of the credentials socket, until that is answered: if secretsd
//! is killed meanwhile, who reads would see the end, and take what he has by then for the value.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use sys::apart::Apart;
use sys::process::Spawn;

use crate::serve::{harden, refuse_privileges};
use crate::server::credentials;

/// The job of guarding a connection. What the kernel is told begins with its length, which is less.
const GUARD: &[u8] = b"guard";
/// How long what is guarded may keep the process from ending.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that are guarded.
static GUARDED: AtomicUsize = AtomicUsize::new(0);

/// While it is there, a connection outlives us. Dropped without [`Guard::release`], or with the
/// process: whoever is connected is refused, whatever he has read so far.
#[derive(Debug)]
pub(crate) struct Guard(OwnedFd);

impl Guard {
    /// Guards a connection of the credentials socket.
    pub fn of(apart: &Apart, stream: &UnixStream) -> Result<Guard, Errno> {
        let made = apart.ask(GUARD, stream.as_fd())?;
        made.map(Guard).ok_or(Errno::IO)
    }

    /// The answer is whole, and its end is said.
    pub fn release(self) {
        if let Err(errno) = rustix::io::write(&self.0, b"1") {
            log::warn!("a credential that was read is not let go: {errno}");
        }
    }
}

/// In the process apart.
fn act(job: &[u8], on: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    match job == GUARD {
        true => guard(on).map(Some),
        false => fuse_fs::tell_the_kernel(job, on).map(|()| None),
    }
}

fn guard(stream: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let stream = rustix::io::fcntl_dupfd_cloexec(stream, 3)?;
    let (released, guard) = pipe_with(PipeFlags::CLOEXEC)?;
    let watch = move || {
        let mut byte = [0];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&released, &mut byte));
        if read != Ok(1) {
            // Whoever is slow to read is not to take the first half for the whole.
            credentials::refuse(&UnixStream::from(stream), None);
        }
        GUARDED.fetch_sub(1, Ordering::SeqCst);
    };
    GUARDED.fetch_add(1, Ordering::SeqCst);
    let started = std::thread::Builder::new()
        .name("guard".into())
        .spawn(watch);
    if started.is_err() {
        GUARDED.fetch_sub(1, Ordering::SeqCst);
        return Err(Errno::AGAIN);
    }
    Ok(guard)
}

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
    sys::apart::serve(act).context("cannot serve")?;
    // secretsd has ended. Who was not answered is refused now.
    let end = Instant::now() + PATIENCE;
    while GUARDED.load(Ordering::SeqCst) > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// For tests in which no view is served, and nothing is asked.
#[cfg(test)]
pub(crate) fn of_nobody() -> Arc<Apart> {
    #![allow(clippy::unwrap_used)]
    Arc::new(Apart::start(Spawn::new("/bin/cat"), gone).unwrap())
}
