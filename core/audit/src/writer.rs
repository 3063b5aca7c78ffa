//! Appending: one writer, into one segment after the other.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use sys::lock::lock;

use crate::anchor::Anchor;
use crate::entry::{Access, Change, Event, Outcome, Record, Switch, Verdict};
use crate::frame::{self, MAX_FRAME};
use crate::merge::{Merger, Taken};
use crate::quota::Quotas;
use crate::segment::{HEADER, Header, Next, PAUSE, Segment};
use crate::time::Now;

/// Why an event was not written down.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the audit log cannot be written: {0}")]
pub struct AppendError(pub(crate) Arc<str>);

impl From<Arc<str>> for AppendError {
    fn from(why: Arc<str>) -> AppendError {
        AppendError(why)
    }
}

/// Events that were not written, and of which no entry tells yet.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) why: Arc<str>,
    pub(crate) count: u64,
}

/// Wakes the log's thread before its time.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<Rung>,
    changed: Condvar,
}

/// What for.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Rung {
    /// There is no next segment.
    pub(crate) asked: bool,
    /// The log ends.
    pub(crate) ended: bool,
}

impl Bell {
    pub(crate) fn ring(&self, with: impl FnOnce(&mut Rung)) {
        with(&mut lock(&self.rung));
        self.changed.notify_all();
    }

    /// Waits until it rings, at most for `patience`.
    pub(crate) fn wait(&self, patience: Duration) -> Rung {
        let quiet = |rung: &mut Rung| !rung.asked && !rung.ended;
        let waited = self
            .changed
            .wait_timeout_while(lock(&self.rung), patience, quiet);
        let mut rung = waited.unwrap_or_else(PoisonError::into_inner).0;
        let now = *rung;
        rung.asked = false;
        now
    }
}

#[derive(Debug)]
pub(crate) struct Writer {
    /// Locked: the folder has one log at a time.
    pub(crate) _folder: File,
    /// How many segments are kept.
    pub(crate) keep: u64,
    /// The oldest of them that was not removed.
    pub(crate) oldest: u64,
    pub(crate) boot: [u8; 16],
    pub(crate) segment: Segment,
    /// Where the next entry goes.
    pub(crate) at: usize,
    pub(crate) last: Anchor,
    pub(crate) next: Arc<Mutex<Next>>,
    pub(crate) bell: Arc<Bell>,
    /// Files with entries that are not synced.
    pub(crate) unsynced: Vec<Arc<File>>,
    pub(crate) frame: Box<[u8; MAX_FRAME]>,
    pub(crate) quotas: Quotas,
    pub(crate) merger: Merger,
    /// Requests of the log's tail, by connection: one that is sent again is written once.
    pub(crate) requests: HashSet<(u32, u64)>,
    /// Why the segment takes no entry any more, and until when no other one is tried.
    pub(crate) failed: Option<(Arc<str>, u64)>,
    pub(crate) refused: Option<Refused>,
}

impl Writer {
    /// Writes an event, or counts it. False: it was there already.
    pub(crate) fn append(
        &mut self,
        event: &Event<'_>,
        resent: bool,
        now: Now,
    ) -> Result<bool, AppendError> {
        if resent
            && let Event::Open(access) | Event::Read(access) = event
            && self.requests.contains(&(access.connection, access.unique))
        {
            return Ok(false);
        }
        let written = self.count(event, now).and_then(|is_counted| {
            if is_counted {
                return Ok(());
            }
            self.record(&Record::Event(*event), now)
        });
        written.map(|()| true).inspect_err(|error| self.miss(error))
    }

    /// Something was not written, of which an entry has to tell.
    pub(crate) fn miss(&mut self, error: &AppendError) {
        let why = Arc::clone(&error.0);
        let count = self.refused.as_ref().map_or(0, |refused| refused.count) + 1;
        self.refused = Some(Refused { why, count });
    }

    /// Counts an event if it is not to be an entry.
    fn count(&mut self, event: &Event<'_>, now: Now) -> Result<bool, AppendError> {
        let first_is_written = match event {
            Event::Open(access) | Event::Read(access) => match access.verdict {
                Verdict::Allowed if self.quotas.take(access.service, now.uptime) => {
                    return Ok(false);
                }
                Verdict::Allowed => false,
                Verdict::Denied | Verdict::Failed => true,
            },
            Event::Change(change) | Event::Seal(change) | Event::Unseal(change) => {
                if change.outcome != Outcome::Denied {
                    return Ok(false);
                }
                true
            }
        };
        let since = self.last.seq + 1;
        let counted = self.merger.count(event, first_is_written, since, now);
        counted.map_err(|error| AppendError(error.to_string().into()))
    }

    /// Writes a record.
    pub(crate) fn record(&mut self, record: &Record<'_>, now: Now) -> Result<(), AppendError> {
        self.repair(now)?;
        let mut total = frame::encode(&mut self.frame, self.last.seq + 1, now, record);
        if self.make_room(total, is_open(record), now)? {
            total = frame::encode(&mut self.frame, self.last.seq + 1, now, record);
        }
        let hash = frame::seal(&mut self.frame[..total], &self.last.hash);
        if let Err(error) = self.segment.write(self.at, &self.frame[..total]) {
            // Part of it may be there.
            let _ = self.segment.clear(self.at, self.at + total);
            self.leave(&error, now);
            return Err(AppendError(error.to_string().into()));
        }
        self.at += total;
        let seq = self.last.seq + 1;
        self.last = Anchor { seq, hash };
        if self.unsynced.is_empty() {
            self.unsynced.push(Arc::clone(&self.segment.file));
        }
        Ok(())
    }

    /// The segment's file fails: what comes goes into another one, after a pause.
    pub(crate) fn leave(&mut self, error: &io::Error, now: Now) {
        self.failed = Some((error.to_string().into(), now.uptime + PAUSE));
    }

    /// Leaves a segment that fails.
    fn repair(&mut self, now: Now) -> Result<(), AppendError> {
        let Some((why, until)) = &self.failed else {
            return Ok(());
        };
        let why = Arc::clone(why);
        if now.uptime < *until {
            return Err(why.into());
        }
        let note = format!("segment {}: {why}", self.segment.number);
        self.switch(&note, now)
    }

    /// Says what was missed, once there is room for opens again; true: nothing is missed.
    pub(crate) fn resume(&mut self, now: Now) -> bool {
        if self.repair(now).is_err() {
            return false;
        }
        let Some(Refused { why, count }) = &self.refused else {
            return true;
        };
        let detail = format!("{count} events were not written: {why}");
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
        let resumed = self.make_room(MAX_FRAME, true, now).is_ok()
            && self
                .record(&Record::Event(Event::Change(change)), now)
                .is_ok();
        if resumed {
            self.refused = None;
        }
        resumed
    }

    /// Goes over to the next segment if an entry does not fit any more; true: the entry has another
    /// number then. While there is no next one, the last eighth is for denials and changes: readers can
    /// make any number of opens.
    fn make_room(&mut self, total: usize, is_open: bool, now: Now) -> Result<bool, AppendError> {
        let end = self.at + total;
        if end <= self.segment.size - self.segment.size / 8 {
            return Ok(false);
        }
        let fits = end <= self.segment.size;
        if fits && !is_open {
            return Ok(false);
        }
        lock(&self.next).make(now)?;
        if !fits {
            self.switch("", now)?;
        }
        Ok(!fits)
    }

    /// Begins the next segment.
    fn switch(&mut self, note: &str, now: Now) -> Result<(), AppendError> {
        let next = lock(&self.next).take(now)?;
        self.bell.ring(|rung| rung.asked = true);
        let begun = self.begin(next.clone(), self.last.seq + 1, note, now);
        begun.map_err(|error| {
            lock(&self.next).give_back(next);
            self.leave(&error, now);
            AppendError(error.to_string().into())
        })
    }

    /// Begins a segment whose first entry has this number.
    pub(crate) fn begin(
        &mut self,
        segment: Segment,
        first: u64,
        note: &str,
        now: Now,
    ) -> io::Result<()> {
        let header = Header {
            number: segment.number,
            size: segment.size,
            previous: self.last,
            first,
        };
        // Also if more are kept than before: what was removed stays so.
        let oldest = (segment.number + 1).saturating_sub(self.keep);
        let oldest = oldest.max(self.oldest);
        let switch = Record::Segment(Switch {
            boot: self.boot,
            number: segment.number,
            oldest,
            note,
        });
        let total = frame::encode(&mut self.frame, first, now, &switch);
        let hash = frame::seal(&mut self.frame[..total], &header.before().hash);
        segment.begin(&header, &self.frame[..total])?;
        // Behind a failure it has to be seen that this one is better: a disk that fails on and on would
        // take a segment for each try, and the oldest ones would go for them.
        if !note.is_empty() {
            segment.file.sync_data()?;
        }
        self.segment = segment;
        self.oldest = oldest;
        self.at = HEADER + total;
        self.last = Anchor { seq: first, hash };
        self.failed = None;
        self.unsynced.push(Arc::clone(&self.segment.file));
        Ok(())
    }

    /// Makes entries of what was counted.
    pub(crate) fn flush(&mut self, now: Now) {
        let mut taken = self.merger.take().into_iter();
        for one in taken.by_ref() {
            if self.record(&Record::Merged(one.merged()), now).is_err() {
                self.merger.put_back(one);
                break;
            }
            // One that stays is found by its slot and number among the entries, and not written again.
            let _ = self.merger.clear(one.slot);
        }
        taken.for_each(|one: Taken| self.merger.put_back(one));
    }
}

/// Whether readers can make any number of these.
fn is_open(record: &Record<'_>) -> bool {
    match record {
        Record::Event(
            Event::Open(Access { verdict, .. }) | Event::Read(Access { verdict, .. }),
        ) => *verdict == Verdict::Allowed,
        Record::Merged(merged) => merged.verdict == Verdict::Allowed,
        _ => false,
    }
}
