//! The file system itself, without a kernel: what programs see, what the disk has, and between the
//! two, in order, what was done and not synced.
//!
//! It promises what POSIX does and nothing more: fsync of a file makes its bytes and its length
//! durable, not its name; fsync of a folder makes its names durable; a rename is one step.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use fuser::Errno;

/// The root's number, by FUSE's own rule.
pub(super) const ROOT: u64 = 1;

/// No file is larger: what damaged bytes lead sled to write far behind its end is held in memory here.
const MOST: u64 = 256 << 20;

/// What was done to a file's bytes.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Bytes were put at an offset.
    Data { at: u64, bytes: Vec<u8> },
    /// The file got this length.
    Length(u64),
}

impl Change {
    fn end(&self) -> u64 {
        match self {
            Self::Data { at, bytes } => at.saturating_add(bytes.len() as u64),
            Self::Length(length) => *length,
        }
    }

    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Data { at, bytes } => {
                let (at, end) = (*at as usize, *at as usize + bytes.len());
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[at..end].copy_from_slice(bytes);
            }
            Self::Length(length) => to.resize(*length as usize, 0),
        }
    }
}

/// A name that came to mean something else, or nothing.
#[derive(Debug, Clone)]
pub(super) struct Naming {
    folder: u64,
    name: OsString,
    to: Option<u64>,
}

/// What was not synced, one by one.
#[derive(Debug, Clone)]
pub(super) enum Unsynced {
    Bytes {
        file: u64,
        change: Change,
    },
    /// All of these or none.
    Names(Vec<Naming>),
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) mode: u16,
    /// Below a folder that sled has to itself.
    pub(super) index: bool,
    pub(super) body: Body,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    File {
        seen: Vec<u8>,
        durable: Vec<u8>,
        unsynced: Vec<(u64, Change)>,
    },
    Folder {
        seen: BTreeMap<OsString, u64>,
        durable: BTreeMap<OsString, u64>,
    },
}

impl Body {
    pub(super) fn file() -> Self {
        Self::File {
            seen: Vec::new(),
            durable: Vec::new(),
            unsynced: Vec::new(),
        }
    }

    pub(super) fn folder() -> Self {
        Self::Folder {
            seen: BTreeMap::new(),
            durable: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Tree {
    /// Whom everything belongs to.
    pub(super) owner: u32,
    nodes: BTreeMap<u64, Node>,
    /// Numbers are not given twice, not even after a cut: nothing that the kernel remembers of one
    /// can be taken for another.
    next: u64,
    clock: u64,
    unsynced_names: Vec<(u64, Vec<Naming>)>,
}

type Done<T> = Result<T, Errno>;

impl Tree {
    pub(super) fn new() -> Self {
        let root = Node {
            mode: 0o755,
            index: false,
            body: Body::folder(),
        };
        Self {
            owner: 0,
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            clock: 0,
            unsynced_names: Vec::new(),
        }
    }

    pub(super) fn node(&self, number: u64) -> Done<&Node> {
        self.nodes.get(&number).ok_or(Errno::ESTALE)
    }

    pub(super) fn node_mut(&mut self, number: u64) -> Done<&mut Node> {
        self.nodes.get_mut(&number).ok_or(Errno::ESTALE)
    }

    /// The names of a folder, and what they lead to.
    pub(super) fn names(&self, folder: u64) -> Done<&BTreeMap<OsString, u64>> {
        match &self.node(folder)?.body {
            Body::Folder { seen, .. } => Ok(seen),
            Body::File { .. } => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn any_name(&self, such: impl Fn(&str) -> bool) -> bool {
        self.nodes.values().any(|node| match &node.body {
            Body::Folder { seen, .. } => seen.keys().any(|name| name.to_str().is_some_and(&such)),
            Body::File { .. } => false,
        })
    }

    pub(super) fn lookup(&self, folder: u64, name: &OsStr) -> Done<u64> {
        self.names(folder)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    pub(super) fn make(&mut self, folder: u64, name: &OsStr, mode: u16, body: Body) -> Done<u64> {
        if self.names(folder)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let index =
            self.node(folder)?.index || name.to_str().is_some_and(|name| name.starts_with("index"));
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, Node { mode, index, body });
        self.rename_all(vec![Naming {
            folder,
            name: name.to_owned(),
            to: Some(number),
        }])?;
        Ok(number)
    }

    pub(super) fn remove(&mut self, folder: u64, name: &OsStr, is_folder: bool) -> Done<()> {
        let number = self.lookup(folder, name)?;
        match (&self.node(number)?.body, is_folder) {
            (Body::Folder { .. }, false) => return Err(Errno::EISDIR),
            (Body::File { .. }, true) => return Err(Errno::ENOTDIR),
            (Body::Folder { seen, .. }, true) if !seen.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        self.rename_all(vec![Naming {
            folder,
            name: name.to_owned(),
            to: None,
        }])
    }

    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Done<()> {
        let number = self.lookup(from.0, from.1)?;
        if let Ok(there) = self.lookup(to.0, to.1)
            && let Body::Folder { seen, .. } = &self.node(there)?.body
            && !seen.is_empty()
        {
            return Err(Errno::ENOTEMPTY);
        }
        self.rename_all(vec![
            Naming {
                folder: from.0,
                name: from.1.to_owned(),
                to: None,
            },
            Naming {
                folder: to.0,
                name: to.1.to_owned(),
                to: Some(number),
            },
        ])
    }

    fn rename_all(&mut self, namings: Vec<Naming>) -> Done<()> {
        for naming in &namings {
            let Body::Folder { seen, .. } = &mut self.node_mut(naming.folder)?.body else {
                return Err(Errno::ENOTDIR);
            };
            point(seen, naming);
        }
        self.clock += 1;
        self.unsynced_names.push((self.clock, namings));
        Ok(())
    }

    pub(super) fn read(&self, file: u64, at: u64, size: u32) -> Done<&[u8]> {
        let Body::File { seen, .. } = &self.node(file)?.body else {
            return Err(Errno::EISDIR);
        };
        let at = (at as usize).min(seen.len());
        Ok(&seen[at..(at + size as usize).min(seen.len())])
    }

    pub(super) fn change(&mut self, file: u64, change: Change) -> Done<()> {
        if change.end() > MOST {
            return Err(Errno::ENOSPC);
        }
        self.clock += 1;
        let clock = self.clock;
        let Body::File { seen, unsynced, .. } = &mut self.node_mut(file)?.body else {
            return Err(Errno::EISDIR);
        };
        change.apply(seen);
        unsynced.push((clock, change));
        Ok(())
    }

    /// fsync and fdatasync: of a file its bytes and its length, of a folder its names.
    pub(super) fn sync(&mut self, number: u64) -> Done<()> {
        match &mut self.node_mut(number)?.body {
            Body::File {
                durable, unsynced, ..
            } => {
                for (_, change) in unsynced.drain(..) {
                    change.apply(durable);
                }
            }
            Body::Folder { .. } => {
                let (now, later) = std::mem::take(&mut self.unsynced_names)
                    .into_iter()
                    .partition(|(_, all)| all.iter().any(|naming| naming.folder == number));
                self.unsynced_names = later;
                let now: Vec<(u64, Vec<Naming>)> = now;
                now.iter().for_each(|(_, namings)| self.settle(namings));
            }
        }
        Ok(())
    }

    /// An fsync that failed: what was to be written counts as written from then on, as in Linux, so
    /// that the next fsync says that all is well.
    pub(super) fn fail_sync(&mut self, number: u64) {
        if let Ok(Node {
            body: Body::File { unsynced, .. },
            ..
        }) = self.node_mut(number)
        {
            unsynced.clear();
        }
    }

    /// What is seen is what the disk has and what is yet to be synced.
    pub(super) fn drop_cache(&mut self) {
        for node in self.nodes.values_mut() {
            if let Body::File {
                seen,
                durable,
                unsynced,
            } = &mut node.body
            {
                seen.clone_from(durable);
                unsynced.iter().for_each(|(_, change)| change.apply(seen));
            }
        }
    }

    fn settle(&mut self, namings: &[Naming]) {
        for naming in namings {
            if let Some(Node {
                body: Body::Folder { durable, .. },
                ..
            }) = self.nodes.get_mut(&naming.folder)
            {
                point(durable, naming);
            }
        }
    }

    /// All that is not synced, in the order in which it was done; the tree has none of it any more.
    pub(super) fn take_unsynced(&mut self) -> Vec<Unsynced> {
        let mut all: Vec<(u64, Unsynced)> = std::mem::take(&mut self.unsynced_names)
            .into_iter()
            .map(|(clock, namings)| (clock, Unsynced::Names(namings)))
            .collect();
        for (file, node) in &mut self.nodes {
            if let Body::File { unsynced, .. } = &mut node.body {
                all.extend(unsynced.drain(..).map(|(clock, change)| {
                    let file = *file;
                    (clock, Unsynced::Bytes { file, change })
                }));
            }
        }
        all.sort_by_key(|(clock, _)| *clock);
        all.into_iter().map(|(_, one)| one).collect()
    }

    /// The power is back: `survived` reached the disk, nothing else that was not synced did. What no
    /// name leads to is gone, and everything has another number.
    pub(super) fn restart(&mut self, survived: Vec<Unsynced>) {
        for one in survived {
            match one {
                Unsynced::Names(namings) => self.settle(&namings),
                Unsynced::Bytes { file, change } => {
                    if let Some(Node {
                        body: Body::File { durable, .. },
                        ..
                    }) = self.nodes.get_mut(&file)
                    {
                        change.apply(durable);
                    }
                }
            }
        }
        let mut old = std::mem::take(&mut self.nodes);
        self.adopt(&mut old, ROOT, ROOT);
    }

    fn adopt(&mut self, old: &mut BTreeMap<u64, Node>, number: u64, now: u64) {
        let Some(mut node) = old.remove(&number) else {
            return;
        };
        match &mut node.body {
            Body::File { seen, durable, .. } => seen.clone_from(durable),
            Body::Folder { seen, durable } => {
                let names = std::mem::take(durable);
                for (name, child) in names {
                    if old.contains_key(&child) {
                        let now = self.next;
                        self.next += 1;
                        self.adopt(old, child, now);
                        durable.insert(name, now);
                    }
                }
                seen.clone_from(durable);
            }
        }
        self.nodes.insert(now, node);
    }

    /// Becomes another tree; what comes next gets numbers that were never given here.
    pub(super) fn load(&mut self, image: &Tree) {
        let next = self.next.max(image.next);
        *self = image.clone();
        self.next = next;
    }

    /// A name that leads to a node, for people.
    pub(super) fn path(&self, number: u64) -> String {
        if number == ROOT {
            return String::new();
        }
        let found = self
            .nodes
            .iter()
            .find_map(|(folder, node)| match &node.body {
                Body::Folder { seen, .. } => {
                    let (name, _) = seen.iter().find(|(_, to)| **to == number)?;
                    Some((*folder, name))
                }
                Body::File { .. } => None,
            });
        found.map_or("(removed)".into(), |(folder, name)| {
            format!("{}/{}", self.path(folder), name.display())
        })
    }
}

fn point(names: &mut BTreeMap<OsString, u64>, naming: &Naming) {
    match naming.to {
        Some(number) => names.insert(naming.name.clone(), number),
        None => names.remove(&naming.name),
    };
}
