//! Records without a folder, for tests of whoever uses this crate: the same rules, nothing durable.

use std::sync::RwLock;

use sys::lock::{read, write};

use crate::commit::checked;
use crate::error::RecordsError;
use crate::health::Health;
use crate::index::{Index, IndexError, MemoryIndex};
use crate::mac::{Keys, same};
use crate::name::NameHash;
use crate::records::Change;
use crate::table::{Entry, Place, Table};

pub(crate) struct Memory {
    keys: Keys,
    index: MemoryIndex,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    table: Table,
    commits: u64,
    closed: bool,
    /// Takes no change.
    frozen: bool,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let keys = Keys::derive(&[0; 32], [0; 16]);
        Self {
            keys,
            index: MemoryIndex::default(),
            state: RwLock::default(),
        }
    }

    pub(crate) fn commit(&self, changes: Vec<Change>) -> Result<u64, RecordsError> {
        let (changes, _) = checked(changes)?;
        let mut state = write(&self.state);
        if state.closed || state.frozen {
            return Err(RecordsError::Closed);
        }
        if changes.is_empty() {
            return Ok(state.table.last_seq);
        }
        let seq = state.table.last_seq + 1;
        for change in changes {
            match change {
                Change::Put { name, record } => {
                    self.index.put(&name, seq, &record).map_err(failed)?;
                    let tag = self.keys.tag(&name, seq, &record);
                    state.table.put(
                        name,
                        Entry {
                            seq,
                            tag,
                            place: Place::journal(0, 0),
                        },
                    );
                }
                Change::Remove { name } => {
                    self.index.remove(&name).map_err(failed)?;
                    state.table.remove(&name);
                }
            }
        }
        state.table.last_seq = seq;
        state.commits += 1;
        Ok(seq)
    }

    pub(crate) fn get(&self, name: &NameHash) -> Result<Option<Vec<u8>>, RecordsError> {
        let state = read(&self.state);
        if state.closed {
            return Err(RecordsError::Closed);
        }
        let Some(entry) = state.table.get(name) else {
            return Ok(None);
        };
        match self.index.get(name).map_err(failed)? {
            Some((seq, record)) if same(&self.keys.tag(name, seq, &record), &entry.tag) => {
                Ok(Some(record))
            }
            _ => Err(failed(IndexError("a record is missing".into()))),
        }
    }

    pub(crate) fn entries(&self) -> Vec<(NameHash, u64)> {
        read(&self.state).table.entries()
    }

    /// The same records apart, which take no change.
    pub(crate) fn copied(&self) -> Result<Self, RecordsError> {
        let state = read(&self.state);
        if state.closed {
            return Err(RecordsError::Closed);
        }
        let index = MemoryIndex::default();
        for (name, _) in state.table.iter() {
            if let Some((seq, record)) = self.index.get(name).map_err(failed)? {
                index.put(name, seq, &record).map_err(failed)?;
            }
        }
        Ok(Self {
            keys: self.keys.clone(),
            index,
            state: RwLock::new(State {
                table: state.table.clone(),
                frozen: true,
                ..State::default()
            }),
        })
    }

    pub(crate) fn last_seq(&self) -> u64 {
        read(&self.state).table.last_seq
    }

    pub(crate) fn health(&self) -> Health {
        let state = read(&self.state);
        Health {
            records: state.table.len() as u64,
            last_seq: state.table.last_seq,
            commits: state.commits,
            ..Health::default()
        }
    }

    pub(crate) fn close(&self) {
        write(&self.state).closed = true;
    }
}

fn failed(error: IndexError) -> RecordsError {
    RecordsError::Stopped(error.to_string())
}
