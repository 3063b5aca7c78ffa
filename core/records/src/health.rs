//! What `deploy status` shows of the records.

use crate::error::RecordsError;

/// The state of records at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Why nothing can be written; `None`: everything can.
    pub stopped: Option<String>,
    /// How many records there are.
    pub records: u64,
    /// Sequence number of the last transaction.
    pub last_seq: u64,
    /// Sequence number up to which the snapshot holds everything.
    pub snapshot_seq: u64,
    /// Bytes of the snapshot file.
    pub snapshot_bytes: u64,
    /// Bytes of the journal's frames; a new snapshot begins them anew.
    pub journal_bytes: u64,
    /// Transactions written since the records were opened.
    pub commits: u64,
    /// Syncs that it took to acknowledge them; fewer where writers waited together.
    pub syncs: u64,
    /// Removed or overwritten records whose sealed bytes still lie in files; the next snapshot
    /// takes them away.
    pub superseded: u64,
    /// Records that the index did not have as they were written, and that were taken from snapshot
    /// or journal instead.
    pub healed: u64,
    /// Changes that the index has yet to take; reads of those come from the journal.
    pub index_behind: u64,
    /// Why there is no index, and reads are slower; `None`: there is one.
    pub index: Option<String>,
    /// Why the last transaction was not taken, although the next one may be; `None`: it was.
    pub refused: Option<String>,
    /// Why there are no fresh files, which are tried again; `None`: the last try succeeded.
    pub snapshot: Option<String>,
}

impl Health {
    /// All that is wrong, and what to do about it; the worst first.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let stopped = self.stopped.clone().map(RecordsError::Stopped);
        let stopped = stopped.map(|error| error.to_string());
        let snapshot = self.snapshot.as_ref().map(|why| {
            format!("the journal is not folded into a snapshot, which is tried again: {why}")
        });
        [stopped, self.refused.clone(), snapshot, self.index.clone()]
            .into_iter()
            .flatten()
            .collect()
    }
}
