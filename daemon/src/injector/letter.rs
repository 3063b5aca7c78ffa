//! What a change has to tell the injector, and what of it is still to be told.

use std::collections::{BTreeMap, BTreeSet};

use control::inner::{Entry, Link, NameVersion, Reply, RingTarget, ToInjector};
use fuse_fs::{RingPath, Touched};

use super::ask;

/// A frame to the injector is at most 4 MiB, a path of ours at most some 600 bytes.
const TARGETS_OF_A_FRAME: usize = 4096;
/// More than this is not kept for an injector that is away.
const KEPT_MAX: usize = 1 << 16;

/// What a change has to tell. Each thing once, and nothing that would be wrong if told again.
#[derive(Debug, Default)]
pub(super) struct Letter {
    /// All entries of instances that got new ones.
    entries: BTreeMap<u32, Vec<Entry>>,
    unlinks: BTreeSet<RingTarget>,
    rings: BTreeSet<RingTarget>,
    versions: Vec<NameVersion>,
    /// These are all versions.
    all_versions: bool,
}

/// What came of a letter.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Nobody took it.
    pub unsent: Letter,
    /// It was taken, and is done when an instance lets it be done.
    pub late: Letter,
}

impl Letter {
    pub fn of_change(touched: Touched, versions: Vec<NameVersion>) -> Letter {
        let nobody_asks = touched.rings.is_empty() && touched.unlinks.is_empty();
        Letter {
            entries: touched.new_entries.into_iter().collect(),
            unlinks: touched.unlinks.into_iter().map(target).collect(),
            rings: touched.rings.into_iter().map(target).collect(),
            versions: if nobody_asks { Vec::new() } else { versions },
            all_versions: false,
        }
    }

    pub fn of_versions(versions: Vec<NameVersion>, all_versions: bool) -> Letter {
        Letter {
            versions,
            all_versions,
            ..Letter::default()
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.unlinks.is_empty()
            && self.rings.is_empty()
            && self.versions.is_empty()
            && !self.all_versions
    }

    /// Whose watchers it is for.
    pub fn instances(&self) -> BTreeSet<u32> {
        let targets = self.unlinks.iter().chain(&self.rings);
        targets.filter_map(RingTarget::instance).collect()
    }

    /// Adds one that is at least as new.
    pub fn keep(&mut self, newer: Letter) {
        if newer.all_versions {
            self.versions.clear();
            self.all_versions = true;
        }
        self.versions.extend(newer.versions);
        self.entries.extend(newer.entries);
        for (kept, more) in [
            (&mut self.unlinks, newer.unlinks),
            (&mut self.rings, newer.rings),
        ] {
            kept.extend(more);
            if kept.len() > KEPT_MAX {
                log::warn!("too many rings wait for the injector; watchers miss changes");
                while kept.len() > KEPT_MAX {
                    kept.pop_first();
                }
            }
        }
    }

    /// Without versions: whoever gets it is told all.
    pub fn without_versions(self) -> Letter {
        Letter {
            versions: Vec::new(),
            all_versions: false,
            ..self
        }
    }

    /// Adds one that is older.
    pub fn keep_older(&mut self, older: Letter) {
        let newer = std::mem::replace(self, older);
        self.keep(newer);
    }

    /// These instances have been told.
    pub fn forget(&mut self, instances: &[u32]) {
        let told = |target: &RingTarget| target.instance().is_some_and(|n| instances.contains(&n));
        self.unlinks.retain(|target| !told(target));
        self.rings.retain(|target| !told(target));
    }

    /// Entries first: what has a number that no registry knows must not be lost.
    pub fn send(self, link: &Link) -> Sent {
        let mut sent = Sent::default();
        for (number, entries) in self.entries {
            let question = ToInjector::Entries { number, entries };
            if let Err(error) = ask(link, &question)
                && let ToInjector::Entries { number, entries } = question
            {
                log::info!("entries of instance {number} are not kept: {error}");
                if link.is_closed() {
                    sent.unsent.entries.insert(number, entries);
                }
            }
        }
        let unlink = |targets| ToInjector::Unlink { targets };
        let (unsent, late) = touch(link, self.unlinks, unlink);
        sent.unsent.unlinks = unsent;
        sent.late.unlinks = late;
        let ring = |targets| ToInjector::Ring { targets };
        let (unsent, late) = touch(link, self.rings, ring);
        sent.unsent.rings = unsent;
        sent.late.rings = late;
        if !self.versions.is_empty() || self.all_versions {
            let question = ToInjector::Changed {
                versions: self.versions,
                all: self.all_versions,
            };
            if let Err(error) = ask(link, &question) {
                log::info!("not every service was told of a change: {error}");
            }
        }
        sent
    }
}

/// Gives what nobody took, and what will be late.
fn touch(
    link: &Link,
    targets: BTreeSet<RingTarget>,
    question: impl Fn(Vec<RingTarget>) -> ToInjector,
) -> (BTreeSet<RingTarget>, BTreeSet<RingTarget>) {
    let (mut unsent, mut late) = (BTreeSet::new(), BTreeSet::new());
    let targets: Vec<RingTarget> = targets.into_iter().collect();
    for part in targets.chunks(TARGETS_OF_A_FRAME) {
        match link.request(&question(part.to_vec()), &[]) {
            Ok((Reply::Ok, _)) => {}
            Ok((Reply::Late { numbers }, _)) => {
                let is_late =
                    |one: &&RingTarget| one.instance().is_some_and(|n| numbers.contains(&n));
                late.extend(part.iter().filter(is_late).cloned());
            }
            Ok((Reply::Failed { message }, _)) => {
                log::info!("not every watcher was told of a change: {message}");
            }
            Ok(_) => log::info!("the injector answers another question"),
            Err(_) if link.is_closed() => unsent.extend(part.iter().cloned()),
            Err(error) => log::info!("not every watcher was told of a change: {error}"),
        }
    }
    (unsent, late)
}

fn target(path: RingPath) -> RingTarget {
    let tree = match path.tree {
        model::Tree::Secret => "secret",
        model::Tree::Config => "config",
    };
    RingTarget {
        tree: tree.to_owned(),
        path: path.path,
    }
}
