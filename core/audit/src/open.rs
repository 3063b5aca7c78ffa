//! Opening the log where an earlier process has left it, however that ended.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::adoption::Adoption;
use crate::anchor::Anchor;
use crate::entry::{Entry, Event, Merged, Record, Start};
use crate::frame::{MAX_FRAME, MIN_FRAME};
use crate::merge::Merger;
use crate::quota::{Quota, Quotas};
use crate::scan::{self, Tail, Unread};
use crate::segment::{self, HEADER, LONGEST, Next, Segment};
use crate::time::{Now, boot_id};
use crate::writer::{AppendError, Bell, Writer};

/// So many requests are known again when they are sent again: far more than the kernel has in flight.
const REQUESTS: usize = 1 << 14;
/// So long another log of the folder may take to end.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(5);
/// Some entries of any length have to have room.
const SHORTEST: usize = 16 << 10;

/// How the log is kept.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes of a segment.
    pub segment_size: usize,
    /// How many are kept; older ones go.
    pub segments: usize,
    /// Allowed opens of one service that are entries of their own.
    pub opens: Quota,
}

impl Default for Options {
    /// 64 segments of 8 MiB. A service that opens its secrets without end gets 20 entries a second, and
    /// two for each secret in which the rest is counted, for at most 16 of them. Measured: with one secret
    /// it pushes all history out in 39 hours, with 20 in 17; one that is denied without end, in 13.
    fn default() -> Options {
        Options {
            segment_size: 8 << 20,
            segments: 64,
            opens: Quota {
                per_second: 20,
                burst: 10_000,
            },
        }
    }
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the audit log {} cannot be opened: {source}", path.display())]
pub struct OpenError {
    /// Its folder.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// How the log was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The last entry that fits.
    pub last: Anchor,
    /// What was wrong behind it, and was cut or left behind; empty: nothing.
    pub damage: String,
}

/// What the tail of the log says.
struct Tailing {
    requests: VecDeque<(u32, u64)>,
    merged: HashSet<(u16, u64)>,
    boot: [u8; 16],
    boot_now: [u8; 16],
    /// The first entry of this boot; what was counted before it is not of this one.
    begins: u64,
    oldest: u64,
}

impl Tailing {
    /// `boot`: that of what comes before what is read.
    fn new(boot: [u8; 16], boot_now: [u8; 16]) -> Tailing {
        Tailing {
            requests: VecDeque::new(),
            merged: HashSet::new(),
            boot,
            boot_now,
            begins: 0,
            oldest: 1,
        }
    }

    fn take_in(&mut self, entry: &Entry<'_>, adoption: &Adoption) {
        let before = self.boot;
        match &entry.record {
            Record::Start(Start { boot, .. }) => self.boot = *boot,
            Record::Segment(one) => (self.boot, self.oldest) = (one.boot, one.oldest),
            Record::Merged(Merged { slot, since, .. }) => {
                self.merged.insert((*slot, *since));
            }
            Record::Event(Event::Open(access) | Event::Read(access)) => {
                if self.requests.len() >= REQUESTS {
                    self.requests.pop_front();
                }
                self.requests.push_back((access.connection, access.unique));
            }
            _ => {}
        }
        if self.boot != before {
            self.begins = entry.seq;
        }
        let is_of_now = match &entry.record {
            Record::Merged(merged) => self.is_of_now(merged),
            _ => self.boot == self.boot_now,
        };
        if is_of_now {
            adoption.read(entry);
        }
    }

    /// Instances of another boot have ended, and their numbers are given again.
    fn is_of_now(&self, merged: &Merged<'_>) -> bool {
        self.boot == self.boot_now && merged.since > self.begins
    }
}

/// Opens the log, makes it if it is not there, and writes that it begins.
pub(crate) fn open(
    folder: &Path,
    options: Options,
    program: &str,
    adoption: &Adoption,
    bell: Arc<Bell>,
) -> io::Result<(Writer, Found, History)> {
    make_folder(folder)?;
    let locked = lock_folder(folder)?;
    let boot = boot_id().unwrap_or_default();
    let options = Options {
        segment_size: options.segment_size.clamp(SHORTEST, LONGEST),
        ..options
    };
    let begun = begun(folder, options)?;
    let mut end = None;
    let mut bytes = Vec::new();
    let (history, tail) = of_boot(folder, &begun.numbers, boot)?;
    adoption.awaits_history(!history.is_empty());
    let before_tail = if history.is_empty() { [0; 16] } else { boot };
    let mut tailing = Tailing::new(before_tail, boot);
    for number in tail {
        scan::load(folder, number, &mut bytes)?;
        let scanned = scan::scan(&bytes, number, |entry| {
            tailing.take_in(entry, adoption);
            ControlFlow::Continue(())
        });
        end = Some((number, scanned));
    }
    let merger = Merger::open(folder, |slot, since| {
        tailing.merged.contains(&(slot, since))
    })?;
    let counts = merger.counts().filter(|one| tailing.is_of_now(one));
    counts.for_each(|merged| adoption.count(&merged));
    // An earlier process may have ended before it did so for its spare.
    locked.sync_all()?;
    let last = begun.numbers.last().copied().unwrap_or(0);
    let size = options.segment_size;
    let mut next = Next::new(folder, size, last + 1, begun.spare);
    let now = Now::read();
    let mut found = Found::default();
    // Where it goes on: in the last segment, or behind damage in another one.
    let mut skip = 1;
    let mut goes_on = None;
    match end {
        None => {}
        Some((number, Ok(scanned))) => {
            found.last = scanned.last;
            match scanned.tail {
                Tail::Clean | Tail::Unread => goes_on = Some((scanned.header.size, scanned.end)),
                Tail::Torn { used } => {
                    let size = scanned.header.size;
                    Segment::open(folder, number, size)?.clear(scanned.end, used)?;
                    found.damage = format!("an entry that was never finished, in segment {number}");
                    goes_on = Some((size, scanned.end));
                }
                Tail::Broken { why, used } => {
                    found.damage =
                        format!("segment {number} after entry {}: {why}", scanned.last.seq);
                    // What may have been there has numbers too.
                    skip += (used.saturating_sub(scanned.end) / MIN_FRAME) as u64;
                }
            }
        }
        Some((number, Err(unread))) => {
            let why = match unread {
                Unread::Broken(why) => why,
                Unread::Spare => "it was never begun".to_owned(),
            };
            found.damage = format!("segment {number}: {why}");
            found.last = before(folder, &begun.numbers)?;
            skip += (size / MIN_FRAME) as u64;
        }
    }
    let (segment, at) = match goes_on {
        Some((size, at)) => (Segment::open(folder, last, size)?, at),
        None => (
            next.take(now)
                .map_err(|why| io::Error::other(AppendError(why)))?,
            HEADER,
        ),
    };
    let mut requests: HashSet<(u32, u64)> = tailing.requests.into_iter().collect();
    requests.extend(merger.requests());
    let mut writer = Writer {
        _folder: locked,
        keep: options.segments.max(1) as u64,
        oldest: tailing.oldest,
        boot,
        segment: segment.clone(),
        at,
        last: found.last,
        next: Arc::new(Mutex::new(next)),
        bell,
        unsynced: vec![segment.file.clone()],
        frame: Box::new([0; MAX_FRAME]),
        quotas: Quotas::new(options.opens),
        merger,
        requests,
        failed: None,
        refused: None,
    };
    if goes_on.is_none() {
        writer.begin(segment, found.last.seq + skip, &found.damage, now)?;
    }
    let start = Record::Start(Start {
        boot,
        pid: std::process::id(),
        program,
        found: &found.damage,
    });
    // Without room for it the log is as it is when that happens later: it refuses, and tries again.
    if let Err(error) = writer.record(&start, now) {
        writer.miss(&error);
    }
    writer.flush(now);
    Ok((writer, found, History(history)))
}

/// Segments of this boot that only tell what instances have opened: nothing has to wait for them.
#[derive(Debug)]
pub(crate) struct History(Vec<u64>);

impl History {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads them; those that are gone meanwhile tell nothing.
    pub fn read(&self, folder: &Path) -> Adoption {
        let adoption = Adoption::default();
        let mut tailing = Tailing::new([0; 16], boot_id().unwrap_or_default());
        let mut bytes = Vec::new();
        for number in &self.0 {
            if scan::load(folder, *number, &mut bytes).is_ok() {
                let _ = scan::scan(&bytes, *number, |entry| {
                    tailing.take_in(entry, &adoption);
                    ControlFlow::Continue(())
                });
            }
        }
        adoption
    }
}

/// Those that tell how the log goes on, and which counts are entries; and before them all of this boot.
const TAIL: usize = 3;

/// The segments that tell of this boot: those before the tail, and the tail.
fn of_boot(folder: &Path, numbers: &[u64], boot: [u8; 16]) -> io::Result<(Vec<u64>, Vec<u64>)> {
    let (before, tail) = numbers.split_at(numbers.len().saturating_sub(TAIL));
    let mut history = Vec::new();
    for number in before.iter().rev() {
        history.push(*number);
        // It may begin in that one.
        if segment::boot(folder, *number)?.is_some_and(|other| other != boot) {
            break;
        }
    }
    history.reverse();
    Ok((history, tail.to_vec()))
}

/// The segments that were begun, and one that was made for later.
struct Begun {
    numbers: Vec<u64>,
    spare: Option<Segment>,
}

fn begun(folder: &Path, options: Options) -> io::Result<Begun> {
    let mut numbers = segment::list(folder)?;
    let mut bytes = Vec::new();
    let mut spare = None;
    while let Some(number) = numbers.last().copied() {
        scan::load(folder, number, &mut bytes)?;
        let first = |_: &Entry<'_>| ControlFlow::Break(());
        let Err(Unread::Spare) = scan::scan(&bytes, number, first) else {
            break;
        };
        numbers.pop();
        spare = None;
        if bytes.len() == options.segment_size {
            spare = Some(Segment::open(folder, number, bytes.len())?);
        } else {
            segment::remove(&segment::path(folder, number))?;
        }
    }
    // Only the one that follows the last.
    let next = numbers.last().map_or(1, |last| last + 1);
    let spare = spare.filter(|spare| spare.number == next);
    Ok(Begun { numbers, spare })
}

/// The last entry of the segments before the last one, as far as one of them can be read.
fn before(folder: &Path, numbers: &[u64]) -> io::Result<Anchor> {
    let mut bytes = Vec::new();
    for number in numbers.iter().rev().skip(1) {
        scan::load(folder, *number, &mut bytes)?;
        if let Ok(scanned) = scan::scan(&bytes, *number, |_| ControlFlow::Continue(())) {
            return Ok(scanned.last);
        }
    }
    Ok(Anchor::default())
}

/// The folder, locked for as long as it is open. A log that was just dropped may have its thread at
/// work yet, and a killed process may not have ended yet.
fn lock_folder(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    let start = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) if start.elapsed() < PATIENCE => thread::sleep(LOOK),
            Err(Errno::WOULDBLOCK) => return Err(io::Error::other("another process writes it")),
            Err(error) => return Err(error.into()),
        }
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {
            fs::set_permissions(folder, Permissions::from_mode(0o700))?;
            let parent = folder.parent().filter(|parent| *parent != Path::new(""));
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::set_permissions(folder, Permissions::from_mode(0o700))
        }
        Err(error) => Err(error),
    }
}
