//! The receiving side of sd_listen_fds_with_names(3).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::plan::{LISTEN_MAX, LISTEN_START};

/// Each descriptor has one owner: a second call must not make another.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The descriptors that whoever started us handed over, each with its name (`unknown` where there is
/// none), close-on-exec from now on. None if they were meant for another process, as the variables
/// are inherited. The variables stay: changing them is not safe where there are threads.
///
/// # Errors
/// The variables are not as they should be, a descriptor of them is not open, or they were taken
/// before (`AlreadyExists`).
pub fn listen_fds() -> io::Result<Vec<(String, OwnedFd)>> {
    let variable = |name| std::env::var(name).ok();
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let ours = variable("LISTEN_PID").is_some_and(|pid| pid.parse() == Ok(own));
    if !ours {
        return Ok(Vec::new());
    }
    let count = variable("LISTEN_FDS").and_then(|count| count.parse::<usize>().ok());
    let count = count.filter(|count| *count <= LISTEN_MAX).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "LISTEN_FDS is no number of descriptors",
        )
    })?;
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let numbers: Vec<i32> = (LISTEN_START..).take(count).collect();
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the descriptors that were handed over are taken already",
        ));
    }
    for number in &numbers {
        // SAFETY: sets a flag of a descriptor, which is refused if there is no such descriptor.
        if unsafe { libc::fcntl(*number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let take = |number| {
        let name = names.next().filter(|name| !name.is_empty());
        let name = name.unwrap_or("unknown").to_owned();
        // SAFETY: open, as was just seen, and by the protocol ours: whoever started us put it there
        // for us alone before our first instruction, so that nothing else here owns it; and the
        // flag above lets us take it once.
        (name, unsafe { OwnedFd::from_raw_fd(number) })
    };
    Ok(numbers.into_iter().map(take).collect())
}
