//! What the kernel is told, and asked, without having asked us.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuser::Notifier;

use crate::inode::Ino;

/// The kernel's end of one connection. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    pub notifier: Notifier,
    device: Arc<OwnedFd>,
}

impl Kernel {
    pub fn new(notifier: Notifier, device: OwnedFd) -> Kernel {
        Kernel {
            notifier,
            device: Arc::new(device),
        }
    }

    /// Does the kernel hold this inode? It is told that times and modes may have changed, and no page
    /// is dropped; it says ENOENT of one that it does not hold, which fuser's own call hides.
    pub fn holds(&self, ino: Ino) -> bool {
        // fuse_out_header (length, FUSE_NOTIFY_INVAL_INODE, unique 0) and
        // fuse_notify_inval_inode_out (inode, offset, length); linux/fuse.h.
        let mut message = [0; 40];
        message[..4].copy_from_slice(&40_u32.to_ne_bytes());
        message[4..8].copy_from_slice(&2_i32.to_ne_bytes());
        message[16..24].copy_from_slice(&ino.0.to_ne_bytes());
        message[24..32].copy_from_slice(&(-1_i64).to_ne_bytes());
        rustix::io::write(&*self.device, &message).is_ok()
    }
}
