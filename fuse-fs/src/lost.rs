//! What the kernel has cached of a connection that is lost.
//!
//! Descriptors and mappings from before read on from the page cache, and after the last close of the
//! device nothing of ours reaches them. So everything is invalidated before. Whoever knew which inodes
//! there are may be dead: what there can be is tried.

use std::io;
use std::os::fd::AsFd;

use model::Tree;

use crate::inflight::InFlight;
use crate::kernel::inval_inode;
use crate::tree::Views;

/// Drops all that the kernel has cached of a lost connection's tree; gives how many inodes it knew.
/// `device` is the old connection's, and `memfd` what was kept of it; nobody serves it any more, and
/// it has been aborted: a read that still waits for an answer would be waited for. To be called after
/// the instances are restored, and before `device` is closed for the last time. Does not need the
/// store to be unsealed.
///
/// # Errors
/// The kernel takes nothing on this device any more (Linux 7.3, after an abort): who has something
/// open reads on from the cache until his process ends.
pub fn invalidate_lost(
    tree: Tree,
    device: impl AsFd,
    memfd: impl AsFd,
    views: &Views,
) -> io::Result<usize> {
    let newest = InFlight::of(memfd)?.highest_version();
    let mut known = 0;
    for ino in views.possible(tree, newest) {
        match rustix::io::write(&device, &inval_inode(ino, 0)) {
            Ok(_) => known += 1,
            // The kernel has no such inode.
            Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(known)
}
