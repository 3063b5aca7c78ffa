//! Clones of a master mount.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::mount::OpenTreeFlags;

/// A clone of `folder` of a master mount, attached nowhere: read-only, without set-uid, devices,
/// programs and links, and private. The master must be attached before Linux 6.15.
///
/// # Errors
/// `folder` leads out of the mount, or is not there; or we may not (CAP_SYS_ADMIN).
pub fn clone_readonly(master: BorrowedFd<'_>, folder: &Path) -> io::Result<OwnedFd> {
    let below = |part: Component<'_>| matches!(part, Component::Normal(_));
    if folder.as_os_str().is_empty() || !folder.components().all(below) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a clone is made of a folder below its master",
        ));
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_NO_AUTOMOUNT
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let clone = rustix::mount::open_tree(master, folder, flags)?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOEXEC
            | libc::MOUNT_ATTR_NOSYMFOLLOW,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: path and attributes outlive the call, the size is that of the attributes, and the
    // kernel only reads them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            clone.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(clone)
}
