//! Checking the whole log.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use crate::anchor::Anchor;
use crate::entry::Record;
use crate::scan::{self, Tail, Unread};
use crate::segment;

/// What a log turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Entries that fit.
    pub entries: u64,
    /// Segments that are there.
    pub segments: u64,
    /// The number of the first entry.
    pub first: u64,
    /// The last entry.
    pub last: Anchor,
    /// What does not fit, in the order of the log; none: the chain is whole.
    pub damage: Vec<Damage>,
    /// What became of the anchor that was given.
    pub anchored: Option<Anchored>,
}

impl Verified {
    /// Whether nothing is wrong, as far as this log and the anchor can tell.
    pub fn is_whole(&self) -> bool {
        let fits = |anchored| anchored == Anchored::Fits;
        self.damage.is_empty() && self.anchored.is_none_or(fits)
    }
}

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// In which segment.
    pub segment: u64,
    /// After which entry.
    pub after: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage {
            segment,
            after,
            what,
        } = self;
        write!(f, "segment {segment}, after entry {after}: {what}")
    }
}

/// How a log stands to an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchored {
    /// The entry is there, and all before it is what it was.
    Fits,
    /// The entry of that number is another one: the log was written anew.
    Differs,
    /// The log ends before it: its tail was cut.
    Cut,
    /// It is older than the oldest segment that is kept: nothing can be said.
    TooOld,
}

/// Checks every segment, their order, and the chain over all of them; and whether `anchor` is in it.
///
/// # Errors
/// The folder or a file cannot be read.
pub fn verify(folder: &Path, anchor: Option<Anchor>) -> io::Result<Verified> {
    loop {
        let numbers = scan::begun(folder)?;
        let verified = verify_all(folder, &numbers, anchor)?;
        // Whoever writes the log removes its oldest segments: those of this list that are gone now may
        // have gone before they were read.
        let now = segment::list(folder)?;
        let oldest = now.first().copied();
        let went = numbers.first().copied() < oldest && !verified.damage.is_empty();
        if !went {
            return Ok(verified);
        }
    }
}

fn verify_all(folder: &Path, numbers: &[u64], anchor: Option<Anchor>) -> io::Result<Verified> {
    let mut verified = Verified::default();
    let mut before: Option<(u64, Anchor)> = None;
    let mut oldest = 0;
    let mut bytes = Vec::new();
    let mut seen = None;
    for number in numbers {
        let is_last = numbers.last() == Some(number);
        let mut entries = 0;
        let scanned = scan::read(folder, *number, is_last, &mut bytes, |entry| {
            entries += 1;
            if let Record::Segment(one) = &entry.record {
                oldest = one.oldest;
            }
            if anchor.is_some_and(|anchor| anchor.seq == entry.seq) {
                seen = Some(entry.hash);
            }
            ControlFlow::Continue(())
        })?;
        let after = before.map_or(0, |(_, last)| last.seq);
        let mut damaged = |after, what: String| {
            verified.damage.push(Damage {
                segment: *number,
                after,
                what,
            });
        };
        let scanned = match scanned {
            // Whoever writes the log has removed it: the next one says that it is missing.
            None => continue,
            Some(Ok(scanned)) => scanned,
            Some(Err(Unread::Spare)) => {
                damaged(after, "it is empty".into());
                continue;
            }
            Some(Err(Unread::Broken(why))) => {
                damaged(after, why);
                continue;
            }
        };
        let header = scanned.header;
        match before {
            Some((last, _)) if last + 1 != *number => {
                let what = format!("segments {} to {} are missing", last + 1, number - 1);
                damaged(after, what);
            }
            Some((_, last)) if last != header.previous => {
                damaged(after, "it does not follow the segment before".into());
            }
            Some((_, last)) if header.first != last.seq + 1 => {
                let lost = header.first - last.seq - 1;
                damaged(after, format!("up to {lost} entries before it are lost"));
            }
            Some(_) => {}
            None => {
                verified.first = header.first;
                // An entry that the removal of older segments has taken, and of which the hash stands
                // in the header still.
                if anchor.is_some_and(|anchor| anchor.seq == header.previous.seq) {
                    seen = Some(header.previous.hash);
                }
            }
        }
        match &scanned.tail {
            Tail::Clean | Tail::Unread => {}
            // Somebody writes it, or was killed and the next one has not begun yet.
            Tail::Torn { .. } if is_last => {}
            Tail::Torn { .. } => damaged(scanned.last.seq, "an entry is cut off".into()),
            Tail::Broken { why, .. } => damaged(scanned.last.seq, why.clone()),
        }
        verified.entries += entries;
        verified.segments += 1;
        verified.last = scanned.last;
        before = Some((*number, scanned.last));
    }
    if let Some(first) = numbers.first().filter(|first| **first > oldest.max(1)) {
        let what = format!("segments {} to {} are missing", oldest.max(1), first - 1);
        verified.damage.insert(
            0,
            Damage {
                segment: *first,
                after: 0,
                what,
            },
        );
    }
    verified.anchored = anchor.map(|anchor| match seen {
        Some(hash) if hash == anchor.hash => Anchored::Fits,
        Some(_) => Anchored::Differs,
        None if anchor.seq == 0 => Anchored::Fits,
        None if anchor.seq > verified.last.seq => Anchored::Cut,
        None if anchor.seq < verified.first => Anchored::TooOld,
        None => Anchored::Differs,
    });
    Ok(verified)
}
