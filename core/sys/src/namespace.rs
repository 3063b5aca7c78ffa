//! Mount namespaces of other processes.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

/// Does `f` inside the mount namespace of the process behind `pidfd`, on a thread of its own that
/// ends with `f`: the caller's namespace, root and working folder stay as they are. In `f` the root
/// and the working folder are the root of that namespace.
///
/// # Errors
/// The process is gone, or we may not enter (CAP_SYS_ADMIN and CAP_SYS_CHROOT); or those of `f`.
pub fn inside<T: Send>(
    pidfd: BorrowedFd<'_>,
    f: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("namespace".to_owned())
            .spawn_scoped(scope, || {
                enter(pidfd)?;
                f()
            })?;
        // A panic of `f` is a panic of the caller.
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn enter(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    // Threads share root and working folder; setns(2) refuses to change them for all (EINVAL).
    // SAFETY: only CLONE_FILES would be unsafe, which gives descriptors another meaning.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
    rustix::thread::move_into_thread_name_spaces(pidfd, ThreadNameSpaceType::MOUNT)?;
    Ok(())
}

/// Is a process in the mount namespace of the host: our own, or that of pid 1? What is mounted there
/// is mounted for everyone.
///
/// # Errors
/// The process is gone, or we may not look.
pub fn is_hosts(pid: i32) -> io::Result<bool> {
    let theirs = identity(&pid.to_string())?;
    if theirs == identity("self")? {
        return Ok(true);
    }
    // Not to be seen without privileges; then our own is the only host that we know.
    Ok(identity("1").is_ok_and(|init| init == theirs))
}

fn identity(process: &str) -> io::Result<(u64, u64)> {
    let link = std::fs::metadata(format!("/proc/{process}/ns/mnt"))?;
    Ok((link.dev(), link.ino()))
}
