//! What was found when records were opened.

use std::fmt;

/// How [`crate::Records::open`] found the folder. Nothing acknowledged was lost, except where
/// [`Opened::end_is_known`] says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// How many records there are.
    pub records: u64,
    /// Sequence number of the last transaction.
    pub last_seq: u64,
    /// Transactions that came from the journal, beyond the snapshot.
    pub replayed: u64,
    /// The records were not closed: a crash, a kill or a power cut.
    pub unclean: bool,
    /// The last frame was cut short. It was never acknowledged, and was dropped.
    pub torn: bool,
    /// How the index was found.
    pub index: IndexFound,
    /// The snapshot was damaged; the index had its records, and a new one was written.
    pub snapshot_rewritten: bool,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// How sled was found. What it lacks comes from snapshot and journal until it has taken it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexFound {
    /// It has every transaction.
    Whole,
    /// It lacked so many records, and takes them now.
    Behind(u64),
    /// It is being filled anew; why.
    Rebuilt(String),
    /// There is none, so snapshot and journal serve; why.
    None(String),
}

impl Opened {
    /// Whether last frames that something has overwritten with zeros would show: the journal is
    /// closed, and the index, which was synced with it, has just as much. One of the two is not
    /// enough: a journal that was zeroed up to an earlier close looks closed.
    #[must_use]
    pub fn end_is_known(&self) -> bool {
        !self.unclean && self.index == IndexFound::Whole
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records, last transaction {}",
            self.records, self.last_seq
        )?;
        if self.unclean {
            write!(
                f,
                "; not closed cleanly, {} transactions from the journal",
                self.replayed
            )?;
        }
        if !self.end_is_known() {
            f.write_str(" (what something has zeroed behind it since would leave no trace)")?;
        }
        if self.torn {
            f.write_str("; a frame that was never acknowledged was cut short, and dropped")?;
        }
        if self.snapshot_rewritten {
            f.write_str("; the snapshot was damaged, and was written anew from the index")?;
        }
        match &self.index {
            IndexFound::Whole => {}
            IndexFound::Behind(records) => write!(f, "; the index lacked {records} records")?,
            IndexFound::Rebuilt(why) => write!(f, "; the index is filled anew: {why}")?,
            IndexFound::None(why) => write!(f, "; no index, reads are slower: {why}")?,
        }
        self.warnings
            .iter()
            .try_for_each(|warning| write!(f, "; {warning}"))
    }
}
