//! FUSE connections: made without a helper, and put under a session that did not make them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// Makes a connection, and its mount, attached nowhere. The first is /dev/fuse, on which requests
/// arrive and which keeps the connection alive; the second is the mount's root. `source` is what the
/// mount table says. The kernel checks modes, also for what it has cached, and lets every user in.
///
/// # Errors
/// There is no /dev/fuse, or we may not mount (CAP_SYS_ADMIN).
pub fn connect(source: &str) -> io::Result<(OwnedFd, OwnedFd)> {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let context = rustix::mount::fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = |key: &str, value: &str| rustix::mount::fsconfig_set_string(&context, key, value);
    set("source", source)?;
    // As a string: that is how every kernel since 5.2 takes it.
    set("fd", &device.as_raw_fd().to_string())?;
    set("rootmode", "40000")?;
    set("user_id", "0")?;
    set("group_id", "0")?;
    rustix::mount::fsconfig_set_flag(&context, "allow_other")?;
    rustix::mount::fsconfig_set_flag(&context, "default_permissions")?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    Ok((device, mount))
}

/// Makes the descriptor `at` mean what `by` means: puts the real /dev/fuse under a session that was
/// started on something else. What was open at `at` is closed.
///
/// # Errors
/// As dup3(2).
pub fn replace(at: BorrowedFd<'_>, by: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both are open. `at` stays an open descriptor with the same owner, who closes it as
    // before; that it now leads elsewhere is what the caller asked for.
    let done = unsafe { libc::dup3(by.as_raw_fd(), at.as_raw_fd(), libc::O_CLOEXEC) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
