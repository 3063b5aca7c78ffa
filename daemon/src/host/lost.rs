//! What the kernel has cached of a connection that was lost. Nobody answers on it any more, but held
//! descriptors and mappings go on reading its pages, which no revoke reaches once the device is closed.
//! The views have all of it forgotten (docs/semantics.md, The tree).

use std::os::fd::OwnedFd;

use model::Tree;
use sys::lock::lock;

use super::Host;

/// A connection that was lost.
#[derive(Debug)]
pub(super) struct Lost {
    pub tree: Tree,
    pub device: OwnedFd,
}

impl Host {
    /// Has the kernel forget all that instances may hold of a tree on its lost connection. While the
    /// store is sealed nobody knows which versions there are, and nothing can be revoked: after the
    /// unseal.
    pub(super) fn forget_lost(&self, lost: Lost) {
        // An unseal must not come between.
        let mut sealed = lock(&self.lost);
        let Some(stay) = self.views.forget_lost(lost.tree, &lost.device) else {
            return sealed.push(lost);
        };
        drop(sealed);
        for (instance, service, error) in stay {
            log::error!(
                "what instance {instance} of {service} has open of a lost connection stays \
                 readable: {error}; end the service to be sure"
            );
        }
    }

    /// What was lost while the store was sealed.
    pub(super) fn forget_all_lost(&self) {
        let all = std::mem::take(&mut *lock(&self.lost));
        all.into_iter().for_each(|lost| self.forget_lost(lost));
    }
}
