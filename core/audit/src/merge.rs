//! Events that are counted instead of written one by one: denials that come again and again, and
//! opens beyond a service's quota.
//!
//! The counts lie in a file of their own, a slot each, and are written there before the event is
//! answered: so they survive a kill as entries do. Each second they become entries. With each count are
//! the requests that it counted last: one that is sent again after a kill is counted once.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::anchor::Hash;
use crate::entry::{Access, Change, Event, Kind, Merged, Outcome, Record, Verdict};
use crate::frame::{self, HASH, MAX_FRAME, Reader, Writer};
use crate::time::{Now, Time};

const FILE: &str = "merged";
const SLOTS: usize = 256;
/// The largest merged entry is far below.
const SLOT: usize = 2048;
/// Where the count begins in it, behind the requests.
const COUNT: usize = 16 * RECENT;
/// More than there are handlers at work at once for one secret of one instance.
const RECENT: usize = 8;
/// The first slots count what is beyond all others, one for each kind and verdict.
const REST: usize = 15;
/// Of one service, so that it leaves others theirs.
const OF_A_SERVICE: usize = 16;

/// A count.
#[derive(Debug, Default)]
struct Counted {
    of: Option<Kind>,
    count: u64,
    first: Time,
    last: Time,
    service: Box<str>,
    instance: u32,
    secret: Box<str>,
    version: u32,
    verdict: Option<Verdict>,
    why: Box<str>,
    pid: u32,
    tid: u32,
    uid: u32,
    comm: Box<[u8]>,
    operator: Box<str>,
    act: Box<str>,
    since: u64,
}

/// What tells one count from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key<'a> {
    of: Kind,
    verdict: Verdict,
    service: &'a str,
    instance: u32,
    secret: &'a str,
    why: &'a str,
    operator: &'a str,
    act: &'a str,
}

impl<'a> Key<'a> {
    fn of(event: &Event<'a>) -> Key<'a> {
        let of = event.kind();
        match event {
            Event::Open(access) | Event::Read(access) => Key {
                of,
                verdict: access.verdict,
                service: access.service,
                instance: access.instance,
                secret: access.secret,
                why: access.why,
                operator: "",
                act: "",
            },
            Event::Change(change) | Event::Seal(change) | Event::Unseal(change) => Key {
                of,
                verdict: match change.outcome {
                    Outcome::Denied => Verdict::Denied,
                    Outcome::Failed => Verdict::Failed,
                    Outcome::Begun | Outcome::Done => Verdict::Allowed,
                },
                service: "",
                instance: 0,
                secret: "",
                why: change.why,
                operator: change.operator,
                act: change.act,
            },
        }
    }

    /// All of a service, when it has used up its slots.
    fn of_service(self) -> Key<'a> {
        Key {
            instance: 0,
            secret: "",
            why: "",
            ..self
        }
    }
}

impl Counted {
    fn begin(key: Key<'_>, since: u64) -> Counted {
        Counted {
            of: Some(key.of),
            verdict: Some(key.verdict),
            service: key.service.into(),
            instance: key.instance,
            secret: key.secret.into(),
            why: key.why.into(),
            operator: key.operator.into(),
            act: key.act.into(),
            since,
            ..Counted::default()
        }
    }

    /// One that an earlier process has left.
    fn read(bytes: &[u8]) -> Option<Counted> {
        let length = frame::length(bytes).ok()??;
        let entry = frame::decode(&bytes[..length], &Hash::default()).ok()?;
        let Record::Merged(merged) = entry.record else {
            return None;
        };
        Some(Counted {
            of: Some(merged.of),
            count: merged.count,
            first: merged.first,
            last: merged.last,
            service: merged.service.into(),
            instance: merged.instance,
            secret: merged.secret.into(),
            version: merged.version,
            verdict: Some(merged.verdict),
            why: merged.why.into(),
            pid: merged.pid,
            tid: merged.tid,
            uid: merged.uid,
            comm: merged.comm.into(),
            operator: merged.operator.into(),
            act: merged.act.into(),
            since: merged.since,
        })
    }

    fn is(&self, key: Key<'_>) -> bool {
        self.of == Some(key.of)
            && self.instance == key.instance
            && self.verdict == Some(key.verdict)
            && *self.secret == *key.secret
            && *self.service == *key.service
            && *self.why == *key.why
            && *self.operator == *key.operator
            && *self.act == *key.act
    }

    fn add(&mut self, event: &Event<'_>, now: Time) {
        if self.count == 0 {
            self.first = now;
        }
        self.count += 1;
        self.last = now;
        match event {
            Event::Open(access) | Event::Read(access) => {
                let Access { pid, tid, uid, .. } = *access;
                (self.pid, self.tid, self.uid) = (pid, tid, uid);
                self.version = access.version;
                if *self.comm != *access.comm {
                    self.comm = access.comm.into();
                }
            }
            Event::Change(change) | Event::Seal(change) | Event::Unseal(change) => {
                let Change { pid, uid, .. } = *change;
                (self.pid, self.uid) = (pid, uid);
            }
        }
    }

    fn merged(&self, slot: usize) -> Merged<'_> {
        Merged {
            of: self.of.unwrap_or(Kind::Open),
            count: self.count,
            first: self.first,
            last: self.last,
            service: &self.service,
            instance: self.instance,
            secret: &self.secret,
            version: self.version,
            verdict: self.verdict.unwrap_or(Verdict::Failed),
            why: &self.why,
            pid: self.pid,
            tid: self.tid,
            uid: self.uid,
            comm: &self.comm,
            operator: &self.operator,
            act: &self.act,
            slot: slot as u16,
            since: self.since,
        }
    }
}

/// The counts, in memory and in their file.
#[derive(Debug)]
pub(crate) struct Merger {
    file: Arc<File>,
    is_synced: bool,
    slots: Vec<Option<Counted>>,
    /// Of each slot, also of what it counted before: connection and number.
    recent: Vec<[(u32, u64); RECENT]>,
    frame: Box<[u8; MAX_FRAME]>,
}

impl Merger {
    /// Opens the file, and goes on with what an earlier process has counted: but for what `is_written`
    /// as an entry, by slot and since.
    pub(crate) fn open(folder: &Path, is_written: impl Fn(u16, u64) -> bool) -> io::Result<Merger> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(FILE))?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        let mut bytes = vec![0; SLOTS * SLOT];
        let mut length = 0;
        while length < bytes.len() {
            match file.read_at(&mut bytes[length..], length as u64)? {
                0 => break,
                count => length += count,
            }
        }
        let recent = bytes.chunks_exact(SLOT).map(requests).collect();
        let left = bytes
            .chunks_exact_mut(SLOT)
            .enumerate()
            .map(|(slot, bytes)| {
                let count = &mut bytes[COUNT..];
                let left = Counted::read(count).filter(|one| !is_written(slot as u16, one.since));
                if left.is_none() {
                    count.fill(0);
                }
                left
            });
        let slots = left.collect();
        // All blocks at once: no count finds the disk full.
        file.write_all_at(&bytes, 0)?;
        Ok(Merger {
            file: Arc::new(file),
            is_synced: false,
            slots,
            recent,
            frame: Box::new([0; MAX_FRAME]),
        })
    }

    /// What is counted.
    pub(crate) fn counts(&self) -> impl Iterator<Item = Merged<'_>> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, one)| Some(one.as_ref()?.merged(slot)))
    }

    /// The file, if it is to be synced.
    pub(crate) fn unsynced(&mut self) -> Option<Arc<File>> {
        let is_synced = std::mem::replace(&mut self.is_synced, true);
        (!is_synced).then(|| Arc::clone(&self.file))
    }

    /// The requests that were counted last.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.recent.iter().flatten().copied()
    }

    /// Counts an event. False, and nothing is counted: it is the first of its kind in this round, and
    /// `first_is_written` by the caller. `since` is the number of the log's next entry.
    pub(crate) fn count(
        &mut self,
        event: &Event<'_>,
        first_is_written: bool,
        since: u64,
        now: Now,
    ) -> io::Result<bool> {
        let key = Key::of(event);
        let (slot, is_new) = match self.find(key) {
            Some(slot) => (slot, false),
            None => self.begin(key, since),
        };
        if is_new && first_is_written {
            return Ok(false);
        }
        let Some(counted) = &mut self.slots[slot] else {
            return Ok(false);
        };
        counted.add(event, now.wall);
        let record = Record::Merged(counted.merged(slot));
        let total = frame::encode(&mut self.frame, 0, now, &record);
        frame::seal(&mut self.frame[..total], &Hash::default());
        let recent = &mut self.recent[slot];
        if let Event::Open(access) | Event::Read(access) = event {
            recent.rotate_right(1);
            recent[0] = (access.connection, access.unique);
        }
        let mut bytes = [0; COUNT + MAX_FRAME];
        let mut ring = Writer::new(&mut bytes);
        for (connection, unique) in recent {
            ring.u64((*connection).into());
            ring.u64(*unique);
        }
        ring.put(&self.frame[..total]);
        let end = ring.at;
        // In one write, and within a page: a kill leaves the count as it was, or as it is now.
        self.is_synced = false;
        let written = self.file.write_all_at(&bytes[..end], (slot * SLOT) as u64);
        if written.is_err() {
            counted.count -= 1;
        }
        written.map(|()| true)
    }

    fn find(&self, key: Key<'_>) -> Option<usize> {
        let is = |slot: &Option<Counted>| slot.as_ref().is_some_and(|one| one.is(key));
        self.slots
            .iter()
            .skip(REST)
            .position(is)
            .map(|at| at + REST)
    }

    /// A slot for something new, which may have to share one.
    fn begin(&mut self, key: Key<'_>, since: u64) -> (usize, bool) {
        let of_service = |slot: &&Option<Counted>| {
            let same =
                |one: &Counted| *one.service == *key.service && *one.operator == *key.operator;
            slot.as_ref().is_some_and(same)
        };
        let mut key = key;
        if self.slots.iter().filter(of_service).count() >= OF_A_SERVICE {
            key = key.of_service();
            if let Some(slot) = self.find(key) {
                return (slot, false);
            }
        }
        let free = self.slots.iter().skip(REST).position(Option::is_none);
        let rest = (key.of as usize - 1) * 3 + key.verdict as usize;
        let slot = free.map_or(rest, |at| at + REST);
        if slot < REST {
            key = Key {
                service: "",
                operator: "",
                act: "",
                ..key.of_service()
            };
            if self.slots[slot].is_some() {
                return (slot, false);
            }
        }
        self.slots[slot] = Some(Counted::begin(key, since));
        (slot, true)
    }

    /// Ends the round: what was counted, to be written as entries and cleared then.
    pub(crate) fn take(&mut self) -> Vec<Taken> {
        let taken = self.slots.iter_mut().enumerate().filter_map(|(slot, one)| {
            let counted = one.take().filter(|one| one.count > 0)?;
            Some(Taken { slot, counted })
        });
        taken.collect()
    }

    /// Puts back what could not be written.
    pub(crate) fn put_back(&mut self, taken: Taken) {
        self.slots[taken.slot] = Some(taken.counted);
    }

    /// Forgets a count that is an entry now.
    pub(crate) fn clear(&mut self, slot: usize) -> io::Result<()> {
        self.is_synced = false;
        self.file
            .write_all_at(&[0; 8], (slot * SLOT + COUNT) as u64)
    }
}

/// A count that ends.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) slot: usize,
    counted: Counted,
}

impl Taken {
    pub(crate) fn merged(&self) -> Merged<'_> {
        self.counted.merged(self.slot)
    }
}

fn requests(slot: &[u8]) -> [(u32, u64); RECENT] {
    let mut reader = Reader(slot);
    std::array::from_fn(|_| {
        let connection = reader.u64().unwrap_or_default() as u32;
        (connection, reader.u64().unwrap_or_default())
    })
}

const _: () = assert!(SLOT > COUNT + 4 * 257 + 64 + 66 + 90 + HASH + frame::HEAD);
// The kinds of events, each with three verdicts.
const _: () = assert!(REST == Kind::Unseal as usize * 3);
