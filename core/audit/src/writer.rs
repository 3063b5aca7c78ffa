//! Appending: one writer, into one segment after the other.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::anchor::{Anchor, Hash};
use crate::entry::{Access, Change, Event, Outcome, Record, Switch, Verdict};
use crate::frame::{self, MAX_FRAME};
use crate::merge::{Merger, Taken};
use crate::open::Options;
use crate::quota::Quotas;
use crate::segment::{HEADER, Header, Segment};
use crate::time::Now;

/// After a failure nothing is tried for so long: who waits for an answer does not wait for a disk that
/// fails, again and again.
const PAUSE: u64 = 1_000_000;

/// Why an event was not written down.
#[derive(Debug, thiserror::Error)]
#[error("the audit log cannot be written: {0}")]
pub struct AppendError(pub(crate) Arc<str>);

/// What fails, and since when.
#[derive(Debug, Clone)]
pub(crate) struct Failing {
    pub(crate) why: Arc<str>,
    /// Events that were not written.
    pub(crate) refused: u64,
    /// Microseconds since boot, until which nothing is tried.
    until: u64,
}

/// How much an entry matters when there is little room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// Readers can make any number of them.
    Open,
    /// Denials and changes: the last eighth of a segment is theirs.
    Reserved,
}

#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) folder: PathBuf,
    pub(crate) options: Options,
    pub(crate) boot: [u8; 16],
    pub(crate) segment: Segment,
    /// Where the next entry goes.
    pub(crate) at: usize,
    /// Up to where a write that failed may have left something.
    pub(crate) dirty: usize,
    pub(crate) last: Anchor,
    pub(crate) spare: Option<Segment>,
    /// Files with entries that are not synced.
    pub(crate) unsynced: Vec<Arc<File>>,
    /// A segment has come: the folder is to be synced as well.
    pub(crate) folder_changed: bool,
    pub(crate) frame: Box<[u8; MAX_FRAME]>,
    pub(crate) quotas: Quotas,
    pub(crate) merger: Merger,
    /// Requests of the log's tail, by connection: one that is sent again is written once.
    pub(crate) requests: HashSet<(u32, u64)>,
    pub(crate) failing: Option<Failing>,
}

impl Writer {
    /// Writes an event, or counts it. Gives the anchor that it is covered by.
    pub(crate) fn append(
        &mut self,
        event: &Event<'_>,
        resent: bool,
    ) -> Result<Anchor, AppendError> {
        let now = Now::read();
        if resent
            && let Event::Open(access) | Event::Read(access) = event
            && self.requests.contains(&(access.connection, access.unique))
        {
            return Ok(self.last);
        }
        self.is_due(now)?;
        let merge = match event {
            Event::Open(access) | Event::Read(access) => match access.verdict {
                Verdict::Allowed => {
                    (!self.quotas.take(access.service, now.uptime)).then_some(false)
                }
                Verdict::Denied | Verdict::Failed => Some(true),
            },
            Event::Change(change) | Event::Seal(change) | Event::Unseal(change) => {
                (change.outcome == Outcome::Denied).then_some(true)
            }
        };
        if let Some(first_is_written) = merge {
            let since = self.last.seq + 1;
            match self.merger.count(event, first_is_written, since, now) {
                Ok(true) => return Ok(self.last),
                Ok(false) => {}
                Err(error) => return Err(self.fail(error, now)),
            }
        }
        self.write_or_fail(&Record::Event(*event), now)
    }

    /// Writes a record of the log's own.
    pub(crate) fn record(&mut self, record: &Record<'_>) -> Result<Anchor, AppendError> {
        let now = Now::read();
        self.is_due(now)?;
        self.write_or_fail(record, now)
    }

    fn is_due(&mut self, now: Now) -> Result<(), AppendError> {
        match &mut self.failing {
            Some(failing) if now.uptime < failing.until => {
                failing.refused += 1;
                Err(AppendError(Arc::clone(&failing.why)))
            }
            _ => Ok(()),
        }
    }

    fn fail(&mut self, error: io::Error, now: Now) -> AppendError {
        let refused = self.failing.as_ref().map_or(0, |failing| failing.refused);
        let why: Arc<str> = error.to_string().into();
        self.failing = Some(Failing {
            why: Arc::clone(&why),
            refused: refused + 1,
            until: now.uptime + PAUSE,
        });
        AppendError(why)
    }

    fn write_or_fail(&mut self, record: &Record<'_>, now: Now) -> Result<Anchor, AppendError> {
        match self.write(record, now) {
            Ok(()) => Ok(self.last),
            Err(error) => Err(self.fail(error, now)),
        }
    }

    fn write(&mut self, record: &Record<'_>, now: Now) -> io::Result<()> {
        // What has no room must not use up the room of others by the word about it.
        let total = frame::encode(&mut self.frame, self.last.seq + 1, now, record);
        self.make_room(total, weight(record), now)?;
        if let Some(failed) = self.failing.take() {
            // It goes on, if this goes well: never without a word about what is missing.
            let detail = format!("{} events were not written: {}", failed.refused, failed.why);
            let change = Change {
                operator: "secretsd",
                uid: 0,
                pid: 0,
                act: "audit.resume",
                what: "",
                detail: &detail,
                outcome: Outcome::Done,
                why: "",
            };
            let resumed = self.entry(&Record::Event(Event::Change(change)), now);
            if let Err(error) = resumed {
                self.failing = Some(failed);
                return Err(error);
            }
        }
        self.entry(record, now)
    }

    fn entry(&mut self, record: &Record<'_>, now: Now) -> io::Result<()> {
        let mut total = frame::encode(&mut self.frame, self.last.seq + 1, now, record);
        if self.make_room(total, weight(record), now)? {
            total = frame::encode(&mut self.frame, self.last.seq + 1, now, record);
        }
        self.put(total)
    }

    /// Writes the entry that is in `frame`.
    fn put(&mut self, total: usize) -> io::Result<()> {
        let hash = frame::seal(&mut self.frame[..total], &self.last.hash);
        if self.dirty > self.at {
            self.segment.clear(self.at, self.dirty)?;
            self.dirty = 0;
        }
        if let Err(error) = self.segment.write(self.at, &self.frame[..total]) {
            self.dirty = self.at + total;
            return Err(error);
        }
        self.at += total;
        let seq = self.last.seq + 1;
        self.last = Anchor { seq, hash };
        if self.unsynced.is_empty() {
            self.unsynced.push(Arc::clone(&self.segment.file));
        }
        Ok(())
    }

    /// Goes over to the next segment if an entry does not fit any more; true: the entry has another
    /// number then.
    fn make_room(&mut self, total: usize, weight: Weight, now: Now) -> io::Result<bool> {
        let end = self.at + total;
        if end <= self.segment.size - self.segment.size / 8 {
            return Ok(false);
        }
        let made = self.make_spare();
        let fits = end <= self.segment.size;
        match made {
            Ok(()) if fits => Ok(false),
            Ok(()) => self.switch("", now).map(|()| true),
            Err(_) if fits && weight == Weight::Reserved => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Prepares the segment after this one.
    pub(crate) fn make_spare(&mut self) -> io::Result<()> {
        if self.spare.is_none() {
            let number = self.segment.number + 1;
            let size = self.options.segment_size;
            self.spare = Some(Segment::prepare(&self.folder, number, size)?);
            self.folder_changed = true;
        }
        Ok(())
    }

    /// Begins the next segment.
    fn switch(&mut self, note: &str, now: Now) -> io::Result<()> {
        self.make_spare()?;
        if let Some(spare) = self.spare.take() {
            let first = self.last.seq + 1;
            if let Err(spare) = self.begin(spare, first, note, now) {
                let (spare, error) = *spare;
                self.spare = Some(spare);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Begins a segment whose first entry has this number.
    pub(crate) fn begin(
        &mut self,
        segment: Segment,
        first: u64,
        note: &str,
        now: Now,
    ) -> Result<(), Box<(Segment, io::Error)>> {
        let header = Header {
            number: segment.number,
            size: segment.size,
            previous: self.last,
            first,
        };
        let keep = self.options.segments.max(1) as u64;
        let switch = Record::Segment(Switch {
            boot: self.boot,
            number: segment.number,
            oldest: (segment.number + 1).saturating_sub(keep).max(1),
            note,
        });
        let mut frame = Box::new([0; MAX_FRAME]);
        let total = frame::encode(&mut frame, first, now, &switch);
        let before: Hash = header.before().hash;
        let hash = frame::seal(&mut frame[..total], &before);
        // The entry first: a segment without a header is none.
        let written = segment
            .write(HEADER, &frame[..total])
            .and_then(|()| segment.write(0, &header.encode()));
        if let Err(error) = written {
            return Err(Box::new((segment, error)));
        }
        self.segment = segment;
        self.at = HEADER + total;
        self.dirty = 0;
        self.last = Anchor { seq: first, hash };
        self.unsynced.push(Arc::clone(&self.segment.file));
        Ok(())
    }

    /// Makes entries of what was counted.
    pub(crate) fn flush(&mut self) {
        let mut taken = self.merger.take().into_iter();
        for one in taken.by_ref() {
            let slot = one.slot;
            if self.record(&Record::Merged(one.merged())).is_err() {
                self.merger.put_back(one);
                break;
            }
            // One that stays is found by its slot and number among the entries, and not written again.
            let _ = self.merger.clear(slot);
        }
        taken.for_each(|one: Taken| self.merger.put_back(one));
    }
}

fn weight(record: &Record<'_>) -> Weight {
    match record {
        Record::Event(
            Event::Open(Access { verdict, .. }) | Event::Read(Access { verdict, .. }),
        ) if *verdict == Verdict::Allowed => Weight::Open,
        Record::Merged(merged) if merged.verdict == Verdict::Allowed => Weight::Open,
        _ => Weight::Reserved,
    }
}
