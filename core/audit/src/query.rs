//! Finding entries.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use crate::entry::{Entry, Event, Kind, Record};
use crate::scan;
use crate::segment;
use crate::time::Time;

/// Which entries; what is `None` is of no interest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of accesses: whose view.
    pub service: Option<String>,
    /// Which secret; of changes, what was changed.
    pub secret: Option<String>,
    /// Which kind.
    pub kind: Option<Kind>,
    /// What was answered, or how it went: `allowed`, `denied`, `failed`, `done`, `begun`.
    pub verdict: Option<String>,
    /// Which operator's.
    pub operator: Option<String>,
    /// Which process's.
    pub pid: Option<u32>,
    /// Not before.
    pub from: Option<Time>,
    /// Not after.
    pub to: Option<Time>,
    /// Only entries after the one of this number.
    pub after: u64,
    /// Only so many, the newest.
    pub last: Option<usize>,
}

impl Filter {
    /// Is this one of them?
    pub fn takes(&self, entry: &Entry<'_>) -> bool {
        let facts = Facts::of(&entry.record);
        let is =
            |wanted: &Option<String>, fact: &str| wanted.as_ref().is_none_or(|one| one == fact);
        let kind = facts.merged.unwrap_or(entry.record.kind());
        entry.seq > self.after
            && self.from.is_none_or(|from| entry.time >= from)
            && self.to.is_none_or(|to| entry.time <= to)
            && self
                .kind
                .is_none_or(|wanted| wanted == kind || wanted == entry.record.kind())
            && self.pid.is_none_or(|pid| pid == facts.pid)
            && is(&self.service, facts.service)
            && is(&self.secret, facts.secret)
            && is(&self.verdict, facts.verdict)
            && is(&self.operator, facts.operator)
    }
}

/// What an entry says that can be asked for.
#[derive(Default)]
struct Facts<'a> {
    service: &'a str,
    secret: &'a str,
    verdict: &'a str,
    operator: &'a str,
    pid: u32,
    merged: Option<Kind>,
}

impl<'a> Facts<'a> {
    fn of(record: &Record<'a>) -> Facts<'a> {
        match record {
            Record::Event(Event::Open(access) | Event::Read(access)) => Facts {
                service: access.service,
                secret: access.secret,
                verdict: access.verdict.as_str(),
                pid: access.pid,
                ..Facts::default()
            },
            Record::Event(Event::Change(change) | Event::Seal(change) | Event::Unseal(change)) => {
                Facts {
                    secret: change.what,
                    verdict: change.outcome.as_str(),
                    operator: change.operator,
                    pid: change.pid,
                    ..Facts::default()
                }
            }
            Record::Merged(merged) => Facts {
                service: merged.service,
                secret: merged.secret,
                verdict: merged.verdict.as_str(),
                operator: merged.operator,
                pid: merged.pid,
                merged: Some(merged.of),
            },
            Record::Start(start) => Facts {
                pid: start.pid,
                ..Facts::default()
            },
            Record::Stop | Record::Segment(_) => Facts::default(),
        }
    }
}

/// Gives each entry that `filter` takes to `each`, in order, until that breaks. What does not fit the
/// chain is left out: [`verify`](crate::verify) names it. Gives the number of the last entry that was
/// looked at: whoever follows the log asks for those after it next.
///
/// # Errors
/// The folder or a file cannot be read.
pub fn query(
    folder: &Path,
    filter: &Filter,
    mut each: impl FnMut(&Entry<'_>) -> ControlFlow<()>,
) -> io::Result<u64> {
    let numbers = from(folder, filter.after)?;
    let (numbers, mut skip) = match filter.last {
        None => (&numbers[..], 0),
        Some(last) => newest(folder, filter, &numbers, last)?,
    };
    let mut bytes = Vec::new();
    let mut last = filter.after;
    for number in numbers {
        let is_last = numbers.last() == Some(number);
        let mut goes_on = ControlFlow::Continue(());
        let take = |entry: &Entry<'_>| {
            if entry.seq <= last {
                return goes_on;
            }
            last = entry.seq;
            if filter.takes(entry) {
                if skip == 0 {
                    goes_on = each(entry);
                } else {
                    skip -= 1;
                }
            }
            goes_on
        };
        // Removed meanwhile, because there are newer ones: then it is none.
        scan::read(folder, *number, is_last, &mut bytes, take)?;
        if goes_on.is_break() {
            break;
        }
    }
    Ok(last)
}

/// The segments that can hold entries after `seq`: those from the last one that begins before it.
fn from(folder: &Path, seq: u64) -> io::Result<Vec<u64>> {
    let mut wanted = Vec::new();
    for number in scan::begun(folder)?.into_iter().rev() {
        wanted.push(number);
        let header = segment::header(folder, number)?;
        if header.is_some_and(|header| header.first <= seq.saturating_add(1)) {
            break;
        }
    }
    wanted.reverse();
    Ok(wanted)
}

/// The segments that hold the newest `last` entries that are taken, and how many others are before those.
fn newest<'a>(
    folder: &Path,
    filter: &Filter,
    numbers: &'a [u64],
    last: usize,
) -> io::Result<(&'a [u64], usize)> {
    let mut bytes = Vec::new();
    let mut found = 0;
    for (at, number) in numbers.iter().enumerate().rev() {
        let is_last = at + 1 == numbers.len();
        scan::read(folder, *number, is_last, &mut bytes, |entry| {
            found += usize::from(filter.takes(entry));
            ControlFlow::Continue(())
        })?;
        if found >= last {
            return Ok((&numbers[at..], found - last));
        }
    }
    Ok((numbers, 0))
}
