//! One version per reader: a process that has opened one field of a version gets the other fields
//! of the same one, for a moment, so that a certificate and its key match under rotation.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use model::SecretName;
use store::Store;
use sys::lock::lock;

/// How long after its first open a process is kept to one version.
const WINDOW: Duration = Duration::from_secs(2);
/// More processes than this are not kept apart: a flood must not fill the memory.
const MOST: usize = 4096;

type Reader = (u32, u32, SecretName);

struct Pin {
    version: u32,
    /// The store keeps the version for it.
    held: bool,
    opened: BTreeSet<u16>,
    until: Instant,
}

/// Which process reads which version.
#[derive(Default)]
pub(super) struct Pins(Mutex<All>);

#[derive(Default)]
struct All {
    pins: HashMap<Reader, Pin>,
    /// When pins whose time is over were last looked for.
    looked: Option<Instant>,
}

impl Pins {
    /// The version that `process` is kept to when it asks for `entry`; `None`: the newest.
    pub fn version(
        &self,
        process: u32,
        instance: u32,
        name: &SecretName,
        entry: u16,
    ) -> Option<u32> {
        let all = lock(&self.0);
        let pin = all.pins.get(&(process, instance, name.clone()))?;
        (pin.until > Instant::now() && !pin.opened.contains(&entry)).then_some(pin.version)
    }

    /// `process` has opened `entry` of `version`. The store keeps that version as long as the process
    /// is kept to it, or a few rotations would take the other fields away.
    pub fn opened(
        &self,
        store: &Store,
        process: u32,
        instance: u32,
        name: &SecretName,
        entry: u16,
        version: u32,
    ) {
        let now = Instant::now();
        let mut all = lock(&self.0);
        let looked = all.looked.get_or_insert(now);
        if now.duration_since(*looked) > WINDOW / 4 {
            all.expire(store, now);
        }
        let reader = (process, instance, name.clone());
        let is_full = all.pins.len() >= MOST;
        match all.pins.get_mut(&reader) {
            Some(pin) if pin.until > now && !pin.opened.contains(&entry) => {
                pin.opened.insert(entry);
                // The pin's version is gone: this open is the later one of a pair that does not match,
                // and begins none, or all pairs after it would be cut in the wrong place.
                pin.take(store, name, version);
            }
            Some(pin) => {
                pin.opened = BTreeSet::from([entry]);
                pin.until = now + WINDOW;
                pin.take(store, name, version);
            }
            None if !is_full => {
                let pin = Pin {
                    version,
                    held: store.hold(name, version),
                    opened: BTreeSet::from([entry]),
                    until: now + WINDOW,
                };
                all.pins.insert(reader, pin);
            }
            None => {}
        }
    }

    /// Ends every pin of a secret.
    pub fn end(&self, store: &Store, name: &SecretName) {
        lock(&self.0).end(store, |(_, _, other), _| other == name);
    }

    /// Lets go of the versions of all whose time is over.
    pub fn expire(&self, store: &Store) {
        lock(&self.0).expire(store, Instant::now());
    }
}

impl All {
    fn expire(&mut self, store: &Store, now: Instant) {
        self.looked = Some(now);
        self.end(store, |_, pin| pin.until <= now);
    }

    fn end(&mut self, store: &Store, ends: impl Fn(&Reader, &Pin) -> bool) {
        for ((_, _, name), pin) in self.pins.extract_if(|reader, pin| ends(reader, pin)) {
            pin.release(store, &name);
        }
    }
}

impl Pin {
    fn take(&mut self, store: &Store, name: &SecretName, version: u32) {
        if self.version == version {
            return;
        }
        self.release(store, name);
        self.version = version;
        self.held = store.hold(name, version);
    }

    fn release(&self, store: &Store, name: &SecretName) {
        if self.held {
            store.release(name, self.version);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use store::Cipher;

    #[test]
    fn other_fields_come_of_the_same_version_and_the_same_field_of_the_newest() {
        let (pins, store) = (Pins::default(), Store::in_memory(Cipher::default()));
        let name: SecretName = "tls".parse().unwrap();
        let (cert, key) = (2, 3);
        let opened = |entry, version| pins.opened(&store, 10, 1, &name, entry, version);
        assert_eq!(pins.version(10, 1, &name, key), None);
        opened(cert, 7);
        assert_eq!(pins.version(10, 1, &name, key), Some(7));
        assert_eq!(
            pins.version(10, 1, &name, cert),
            None,
            "opened again: a new round"
        );
        assert_eq!(pins.version(11, 1, &name, key), None, "another process");
        opened(cert, 8);
        assert_eq!(pins.version(10, 1, &name, key), Some(8));
        opened(key, 8);
        assert_eq!(pins.version(10, 1, &name, key), None);
        pins.end(&store, &name);
        assert_eq!(pins.version(10, 1, &name, cert), None);
    }

    #[test]
    fn a_pair_that_does_not_match_cuts_the_next_one_in_the_right_place() {
        let (pins, store) = (Pins::default(), Store::in_memory(Cipher::default()));
        let name: SecretName = "tls".parse().unwrap();
        let (cert, key) = (2, 3);
        let opened = |entry, version| pins.opened(&store, 10, 1, &name, entry, version);
        opened(cert, 7);
        opened(key, 30);
        assert_eq!(pins.version(10, 1, &name, cert), None);
        opened(cert, 31);
        assert_eq!(pins.version(10, 1, &name, key), Some(31));
    }
}
