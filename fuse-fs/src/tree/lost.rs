//! What the kernel has cached of a connection that was lost: held descriptors and mappings go on
//! reading its pages, and only its device reaches them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use model::{SecretName, ServiceName, Tree};
use sys::lock::read;

use super::Views;
use super::config::Sources;
use super::instance::Instance;
use crate::inode::Ino;
use crate::kernel::forget_on_lost;

/// What an instance may hold of a tree.
struct Holds {
    number: u32,
    service: ServiceName,
    what: What,
}

enum What {
    /// Entries, with the secrets that they are of.
    Secrets(Vec<(u16, SecretName)>),
    /// How many entries, and what makes their versions.
    Config(u16, Sources),
}

impl Views {
    /// Has the kernel forget whatever instances may hold of `tree` by `device`, the device of a lost
    /// connection that another secretsd may have served: each inode that there may be is named to the
    /// kernel, which knows those that it has. Gives the instances of which something stays, with why;
    /// `None` while the store is sealed, and nobody knows which versions there are.
    pub fn forget_lost(
        &self,
        tree: Tree,
        device: impl AsFd,
    ) -> Option<Vec<(u32, ServiceName, io::Error)>> {
        let versions: BTreeMap<SecretName, Vec<u32>> = self.store.versions()?;
        let all: Vec<Holds> = {
            let state = read(&self.state);
            state
                .instances
                .values()
                .map(|one| holds(one, tree))
                .collect()
        };
        let mut stay = Vec::new();
        for Holds {
            number,
            service,
            what,
        } in all
        {
            let entry = |entry: u16, version: u32| Ino::new(number, entry, version);
            let done = match what {
                // What is open is held, and so is there.
                What::Secrets(entries) => forget_on_lost(
                    &device,
                    entries.iter().flat_map(|(at, name)| {
                        let there = versions.get(name).into_iter().flatten();
                        there.chain(&[0]).map(|version| entry(*at, *version))
                    }),
                ),
                // All keys share a version, and older ones are kept by nobody who would know of them.
                What::Config(entries, sources) => {
                    let last = sources.merge_what_is_there(&self.store).ok()?.version();
                    forget_on_lost(
                        &device,
                        (0..=entries).flat_map(|at| (0..=last).map(move |one| entry(at, one))),
                    )
                }
            };
            stay.extend(done.err().map(|error| (number, service, error)));
        }
        Some(stay)
    }
}

fn holds(instance: &Instance, tree: Tree) -> Holds {
    let what = match tree {
        Tree::Secret => What::Secrets(
            (0..instance.slots.len())
                .flat_map(|slot| {
                    let name = &instance.slots[slot].name;
                    instance.entries_of(slot).map(|entry| (entry, name.clone()))
                })
                .collect(),
        ),
        Tree::Config => What::Config(
            u16::try_from(instance.config.len()).unwrap_or(u16::MAX),
            instance.config.sources.clone(),
        ),
    };
    Holds {
        number: instance.key.number,
        service: instance.service.clone(),
        what,
    }
}
