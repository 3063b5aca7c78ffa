//! Calls that fail.

use std::collections::BTreeMap;

use fuser::Errno;

/// Whose files: those below a folder called `index…` are sled's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All others.
    Own,
    /// sled's.
    Index,
}

/// A call that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// On whose files.
    pub part: Part,
    /// Which call, from 1, since the fault was set.
    pub nth: u64,
    /// With which error.
    pub errno: i32,
    /// All later ones fail, too.
    pub lasts: bool,
}

/// How many calls there were.
pub type Counts = BTreeMap<Part, u64>;

/// Counts calls, and lets them fail.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) fault: Option<Fault>,
    pub(super) counts: Counts,
    /// The first call that failed.
    pub(super) first: Option<String>,
}

impl Faults {
    /// `call` says what was called, for whoever looks for the reason of what came of it.
    pub(super) fn admit(&mut self, part: Part, call: impl FnOnce() -> String) -> Result<(), Errno> {
        let count = self.counts.entry(part).or_default();
        *count += 1;
        match self.fault {
            Some(fault)
                if fault.part == part
                    && (*count == fault.nth || fault.lasts && *count > fault.nth) =>
            {
                self.first.get_or_insert_with(call);
                Err(Errno::from_i32(fault.errno))
            }
            _ => Ok(()),
        }
    }
}
