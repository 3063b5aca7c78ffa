//! What the kernel is told, and asked, without having asked us.
//!
//! By a process apart: to forget, the kernel waits for the lock of a folder, and for pages that are
//! being read, both of which may wait for an answer of ours. Whoever is killed in that is not gone
//! before the next secretsd has answered, and must not be what the next one waits for.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::io::Errno;
use sys::apart::{Apart, JOB_MAX};

use crate::inode::Ino;

/// fuse_out_header (linux/fuse.h): length, code, unique (0: nobody asked).
const HEADER: usize = 16;
const INVAL_INODE: i32 = 2;
const INVAL_ENTRY: i32 = 3;
/// A header, and fuse_notify_inval_inode_out.
const INODE_LENGTH: usize = 40;

/// The kernel's end of one connection. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    apart: Arc<Apart>,
    device: Arc<OwnedFd>,
}

impl Kernel {
    pub fn new(apart: Arc<Apart>, device: OwnedFd) -> Kernel {
        Kernel {
            apart,
            device: Arc::new(device),
        }
    }

    /// Drops pages and attributes of all of them; of those that it does not hold there are none. Goes
    /// on after a failure.
    pub fn forget_inodes(&self, inodes: &[Ino]) -> io::Result<()> {
        let mut done = Ok(());
        for some in inodes.chunks(JOB_MAX / INODE_LENGTH) {
            let messages: Vec<_> = some.iter().map(|ino| inval_inode(*ino, 0)).collect();
            done = done.and(self.tell(&messages.concat()));
        }
        done
    }

    /// Drops a name of a folder, when the folder's lock is free.
    pub fn forget_name(&self, folder: Ino, name: &OsStr) -> io::Result<()> {
        self.tell(&inval_entry(folder, name))
    }

    /// Does the kernel hold this inode? It is told that times and modes may have changed, and no page
    /// is dropped.
    pub fn holds(&self, ino: Ino) -> bool {
        let asked = self.apart.ask(&inval_inode(ino, -1), self.device.as_fd());
        asked.is_ok()
    }

    fn tell(&self, messages: &[u8]) -> io::Result<()> {
        match self.apart.ask(messages, self.device.as_fd()) {
            // It holds no such thing.
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Has the kernel drop all that it has of inodes on a connection that nobody serves any more and that
/// was aborted: a read that waits for an answer would be waited for.
///
/// # Errors
/// The kernel takes nothing on this device any more (Linux 7.3, after an abort): who has something
/// open reads on from the cache until his process ends.
pub(crate) fn forget_on_lost(
    device: impl AsFd,
    inodes: impl IntoIterator<Item = Ino>,
) -> io::Result<()> {
    for ino in inodes {
        match rustix::io::write(&device, &inval_inode(ino, 0)) {
            // The kernel does not have it.
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// What the process apart does for secretsd: tells the kernel what it must forget. Writes one message
/// after the other; goes on after a failure, and gives the worst.
///
/// # Errors
/// The kernel took one not; or what was to be told is no message.
pub fn tell_the_kernel(mut messages: &[u8], device: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut worst = Ok(());
    while let Some(length) = messages.first_chunk() {
        let length = u32::from_ne_bytes(*length) as usize;
        let message = messages.get(..length).filter(|_| length >= HEADER);
        match rustix::io::write(device, message.ok_or(Errno::INVAL)?) {
            Ok(_) => {}
            Err(Errno::NOENT) => worst = worst.and(Err(Errno::NOENT)),
            Err(errno) => worst = Err(errno),
        }
        messages = &messages[length..];
    }
    worst
}

/// From a byte on, everything. From a negative one: no page.
fn inval_inode(ino: Ino, from: i64) -> [u8; INODE_LENGTH] {
    let mut message = [0; INODE_LENGTH];
    message[..4].copy_from_slice(&(INODE_LENGTH as u32).to_ne_bytes());
    message[4..8].copy_from_slice(&INVAL_INODE.to_ne_bytes());
    message[16..24].copy_from_slice(&ino.0.to_ne_bytes());
    message[24..32].copy_from_slice(&from.to_ne_bytes());
    message
}

/// fuse_notify_inval_entry_out (folder, length of the name, flags), the name and a NUL.
fn inval_entry(folder: Ino, name: &OsStr) -> Vec<u8> {
    let name = name.as_bytes();
    let mut message = vec![0; 4];
    message.extend(INVAL_ENTRY.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(folder.0.to_ne_bytes());
    // Names are checked where they come in; none is nearly as long.
    message.extend((name.len() as u32).to_ne_bytes());
    message.extend([0; 4]);
    message.extend(name);
    message.push(0);
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}
