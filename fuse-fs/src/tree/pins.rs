//! One version per reader: a process that has opened one field of a version gets the other fields
//! of the same one, for a moment, so that a certificate and its key match under rotation.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use model::SecretName;
use sys::lock::lock;

/// How long after its first open a process is kept to one version.
const WINDOW: Duration = Duration::from_secs(2);
/// More processes than this are not kept apart: a flood must not fill the memory.
const MOST: usize = 4096;

type Reader = (u32, u32, SecretName);

struct Pin {
    version: u32,
    opened: BTreeSet<u16>,
    until: Instant,
}

/// Which process reads which version.
#[derive(Default)]
pub(super) struct Pins(Mutex<HashMap<Reader, Pin>>);

impl Pins {
    /// The version that `process` is kept to when it asks for `entry`; `None`: the newest.
    pub fn version(
        &self,
        process: u32,
        instance: u32,
        name: &SecretName,
        entry: u16,
    ) -> Option<u32> {
        let pins = lock(&self.0);
        let pin = pins.get(&(process, instance, name.clone()))?;
        (pin.until > Instant::now() && !pin.opened.contains(&entry)).then_some(pin.version)
    }

    /// `process` has opened `entry` of `version`.
    pub fn opened(&self, process: u32, instance: u32, name: &SecretName, entry: u16, version: u32) {
        let now = Instant::now();
        let mut pins = lock(&self.0);
        if pins.len() >= MOST {
            pins.retain(|_, pin| pin.until > now);
            if pins.len() >= MOST {
                return;
            }
        }
        let reader = (process, instance, name.clone());
        match pins.get_mut(&reader) {
            Some(pin)
                if pin.until > now && pin.version == version && !pin.opened.contains(&entry) =>
            {
                pin.opened.insert(entry);
            }
            _ => {
                let pin = Pin {
                    version,
                    opened: BTreeSet::from([entry]),
                    until: now + WINDOW,
                };
                pins.insert(reader, pin);
            }
        }
    }

    /// Ends every pin of a secret.
    pub fn end(&self, name: &SecretName) {
        lock(&self.0).retain(|(_, _, other), _| other != name);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn other_fields_come_of_the_same_version_and_the_same_field_of_the_newest() {
        let pins = Pins::default();
        let name: SecretName = "tls".parse().unwrap();
        let (cert, key) = (2, 3);
        assert_eq!(pins.version(10, 1, &name, key), None);
        pins.opened(10, 1, &name, cert, 7);
        assert_eq!(pins.version(10, 1, &name, key), Some(7));
        assert_eq!(
            pins.version(10, 1, &name, cert),
            None,
            "opened again: a new round"
        );
        assert_eq!(pins.version(11, 1, &name, key), None, "another process");
        pins.opened(10, 1, &name, cert, 8);
        assert_eq!(pins.version(10, 1, &name, key), Some(8));
        pins.opened(10, 1, &name, key, 8);
        assert_eq!(pins.version(10, 1, &name, key), None);
        pins.end(&name);
        assert_eq!(pins.version(10, 1, &name, cert), None);
    }
}
