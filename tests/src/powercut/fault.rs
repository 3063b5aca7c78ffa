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
    /// All later ones fail, too: that read where this one did, else that change something. A disk
    /// that takes no writes any more can be read.
    pub lasts: bool,
}

/// A call that failed.
#[derive(Debug, Clone)]
pub struct Failed {
    /// What was called, and on what, for whoever looks for the reason of what came of it.
    pub call: String,
    /// It was to change something.
    pub changes: bool,
}

/// How many calls there were.
pub type Counts = BTreeMap<Part, u64>;

/// Counts calls, and lets them fail.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) fault: Option<Fault>,
    pub(super) counts: Counts,
    pub(super) first: Option<Failed>,
}

impl Faults {
    pub(super) fn admit(
        &mut self,
        part: Part,
        changes: bool,
        call: impl FnOnce() -> String,
    ) -> Result<(), Errno> {
        let count = self.counts.entry(part).or_default();
        *count += 1;
        let Some(fault) = self.fault.filter(|fault| fault.part == part) else {
            return Ok(());
        };
        let like_the_first = self
            .first
            .as_ref()
            .is_some_and(|first| first.changes == changes);
        if *count == fault.nth || fault.lasts && like_the_first {
            let call = || Failed {
                call: call(),
                changes,
            };
            self.first.get_or_insert_with(call);
            return Err(Errno::from_i32(fault.errno));
        }
        Ok(())
    }
}
