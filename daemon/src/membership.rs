//! Who belongs to an instance: the fence of every open of a secret.
//!
//! A reader belongs if it runs in the instance's cgroup v2 subtree, or if its mount namespace holds
//! a clone of exactly this instance's folder. The device alone proves nothing: the master mount is
//! copied into every new mount namespace, but with `/` as its root, not `/NUMBER`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fuse_fs::{InstanceKey, Membership};
use sys::reader::ReaderCache;

/// Decides by `/proc` and pidfds of the reading thread; asks at each open, caches only what cannot
/// change (see [`ReaderCache`]).
#[derive(Debug, Default)]
pub struct ProcMembership {
    readers: Arc<ReaderCache>,
    /// Minor device number of the connection for secrets; 0 until it is known.
    secret_device: AtomicU32,
}

impl ProcMembership {
    /// What is known of readers, for whoever names them too.
    pub fn readers(&self) -> Arc<ReaderCache> {
        Arc::clone(&self.readers)
    }

    /// Names the device whose mounts count, once the connection for secrets is taken over.
    pub fn set_secret_device(&self, minor: u32) {
        self.secret_device.store(minor, Ordering::Release);
    }

    fn in_cgroup(&self, tid: u32, cgroup: &str) -> bool {
        let Ok(reader) = self.readers.cgroup_of(tid) else {
            return false;
        };
        reader
            .path
            .strip_prefix(cgroup)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn has_mount(&self, tid: u32, number: u32) -> bool {
        let minor = self.secret_device.load(Ordering::Acquire);
        if minor == 0 {
            return false;
        }
        let folder = format!("/{number}");
        sys::reader::mounts_of(tid, minor).is_ok_and(|roots| roots.contains(&folder))
    }
}

impl Membership for ProcMembership {
    fn belongs(&self, tid: u32, instance: &InstanceKey) -> bool {
        instance
            .cgroup
            .as_deref()
            .is_some_and(|cgroup| self.in_cgroup(tid, cgroup))
            || self.has_mount(tid, instance.number)
    }

    fn thread_group(&self, tid: u32) -> Option<u32> {
        self.readers.tgid_of(tid).ok()
    }
}
