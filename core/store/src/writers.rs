//! One writer at a time for each name.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

use model::{ConfigName, SecretName, ServiceName};
use sys::lock::lock;

/// What a writer has to itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Secret(SecretName),
    Service(ServiceName),
    Config(ConfigName),
}

/// The names that are being written.
#[derive(Default)]
pub(crate) struct Writers {
    busy: Mutex<BTreeSet<Name>>,
    freed: Condvar,
}

impl Writers {
    /// Waits until none of `names` is being written, then takes all of them at once: whoever waits
    /// holds nothing, so that no two writers wait for each other.
    pub(crate) fn lock(&self, names: Vec<Name>) -> NamesGuard<'_> {
        let mut busy = lock(&self.busy);
        while names.iter().any(|name| busy.contains(name)) {
            busy = self
                .freed
                .wait(busy)
                .unwrap_or_else(PoisonError::into_inner);
        }
        busy.extend(names.iter().cloned());
        NamesGuard {
            writers: self,
            names,
        }
    }
}

/// Names that are locked; given back when dropped.
pub(crate) struct NamesGuard<'a> {
    writers: &'a Writers,
    names: Vec<Name>,
}

impl Drop for NamesGuard<'_> {
    fn drop(&mut self) {
        let mut busy = lock(&self.writers.busy);
        for name in &self.names {
            busy.remove(name);
        }
        self.writers.freed.notify_all();
    }
}
