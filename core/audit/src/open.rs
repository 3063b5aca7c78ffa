//! Opening the log where an earlier process has left it, however that ended.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::adoption::Adoption;
use crate::anchor::Anchor;
use crate::entry::{Entry, Event, Merged, Record, Start};
use crate::frame::{MAX_FRAME, MIN_FRAME};
use crate::merge::Merger;
use crate::quota::{Quota, Quotas};
use crate::scan::{self, Tail, Unread};
use crate::segment::{self, HEADER, Segment};
use crate::time::{Now, boot_id};
use crate::writer::Writer;

/// So many segments are read for what instances have opened: some 400,000 opens, a tenth of a second.
const TAIL: usize = 16;
/// So many requests are known again when they are sent again.
const REQUESTS: usize = 1 << 16;

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
    /// 64 segments of 8 MiB. A service that opens its secrets without end gets an entry a second and
    /// secret beside 20 entries a second: it does not push the history of others out within days.
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
    requests: HashSet<(u32, u64)>,
    merged: HashSet<(u16, u64)>,
    boot: [u8; 16],
    boot_now: [u8; 16],
}

impl Tailing {
    fn take_in(&mut self, entry: &Entry<'_>, adoption: &Adoption) {
        match &entry.record {
            Record::Start(Start { boot, .. }) => self.boot = *boot,
            Record::Segment(one) => self.boot = one.boot,
            Record::Merged(Merged { slot, since, .. }) => {
                self.merged.insert((*slot, *since));
            }
            Record::Event(Event::Open(access) | Event::Read(access)) => {
                if self.requests.len() >= REQUESTS {
                    self.requests.clear();
                }
                self.requests.insert((access.connection, access.unique));
            }
            _ => {}
        }
        // Instances of another boot have ended, and their numbers are given again.
        if self.boot == self.boot_now {
            adoption.read(entry);
        }
    }
}

/// Opens the log, makes it if it is not there, and writes that it begins.
pub(crate) fn open(
    folder: &Path,
    options: Options,
    program: &str,
    adoption: &Adoption,
) -> io::Result<(Writer, Found)> {
    make_folder(folder)?;
    let boot = boot_id().unwrap_or_default();
    let mut tailing = Tailing {
        requests: HashSet::new(),
        merged: HashSet::new(),
        boot: [0; 16],
        boot_now: boot,
    };
    let mut begun = begun(folder, options)?;
    let mut end = None;
    let mut bytes = Vec::new();
    let skipped = begun.numbers.len().saturating_sub(TAIL);
    for number in begun.numbers.iter().skip(skipped) {
        scan::load(folder, *number, &mut bytes)?;
        let scanned = scan::scan(&bytes, *number, |entry| {
            tailing.take_in(entry, adoption);
            ControlFlow::Continue(())
        });
        end = Some((*number, scanned));
    }
    let (merger, left) = Merger::open(folder)?;
    let last = end.as_ref().map_or(0, |(number, _)| *number);
    let spare = match begun.spare.take() {
        Some(spare) => spare,
        None => Segment::prepare(folder, last + 1, options.segment_size)?,
    };
    let now = Now::read();
    let mut found = Found::default();
    let mut writer = Writer {
        folder: folder.to_path_buf(),
        options,
        boot,
        segment: spare,
        at: HEADER,
        dirty: 0,
        last: Anchor::default(),
        spare: None,
        unsynced: Vec::new(),
        folder_changed: true,
        frame: Box::new([0; MAX_FRAME]),
        quotas: Quotas::new(options.opens),
        merger,
        requests: tailing.requests,
        failing: None,
    };
    // Where it goes on: in the last segment, or behind damage in another one.
    let mut skip = 1;
    let mut goes_on = false;
    match end {
        None => {}
        Some((number, Ok(scanned))) => {
            writer.last = scanned.last;
            let (at, size) = (scanned.end, scanned.header.size);
            let go_on = || Segment::open(folder, number, size);
            match scanned.tail {
                Tail::Clean | Tail::Unread => {
                    let segment = go_on()?;
                    writer.spare = Some(std::mem::replace(&mut writer.segment, segment));
                    goes_on = true;
                }
                Tail::Torn { used } => {
                    let segment = go_on()?;
                    segment.clear(at, used)?;
                    found.damage = format!("an entry that was never finished, in segment {number}");
                    writer.spare = Some(std::mem::replace(&mut writer.segment, segment));
                    goes_on = true;
                }
                Tail::Broken { why, used } => {
                    found.damage =
                        format!("segment {number} after entry {}: {why}", scanned.last.seq);
                    // What may have been there has numbers too.
                    skip += (used.saturating_sub(at) / MIN_FRAME) as u64;
                }
            }
            writer.at = at;
        }
        Some((number, Err(why))) => {
            let why = match why {
                Unread::Broken(why) => why,
                Unread::Spare { .. } => "it was never begun".to_owned(),
            };
            found.damage = format!("segment {number}: {why}");
            writer.last = before(folder, &begun.numbers)?;
            skip += (options.segment_size / MIN_FRAME) as u64;
        }
    }
    found.last = writer.last;
    if goes_on {
        writer.unsynced.push(writer.segment.file.clone());
    } else {
        let segment = Segment::open(folder, writer.segment.number, writer.segment.size)?;
        let first = writer.last.seq + skip;
        writer
            .begin(segment, first, &found.damage, now)
            .map_err(|failed| failed.1)?;
    }
    let start = Record::Start(Start {
        boot,
        pid: std::process::id(),
        program,
        found: &found.damage,
    });
    writer
        .record(&start)
        .map_err(|error| io::Error::other(error.0.to_string()))?;
    for one in left {
        if let Some(merged) = one
            .merged()
            .filter(|one| !tailing.merged.contains(&(one.slot, one.since)))
        {
            adoption.count(&merged);
            writer
                .record(&Record::Merged(merged))
                .map_err(|error| io::Error::other(error.0.to_string()))?;
        }
        writer.merger.clear(one.slot)?;
    }
    Ok((writer, found))
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
        let Err(Unread::Spare { clean }) = scan::scan(&bytes, number, first) else {
            break;
        };
        numbers.pop();
        spare = None;
        if clean && bytes.len() == options.segment_size {
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
