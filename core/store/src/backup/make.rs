//! Making a backup of a store that is in use.
//!
//! Its moment is the one in which the records are frozen: writers go on, and none of what they write
//! later is in it. What is written goes at once, as it is encrypted, to a reader that opens every
//! record of it again: nothing is called a backup that does not open.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use model::Timestamp;

use super::{BackupError, BackupTo, Contents, Header, Moment, TITLE};
use crate::catalog::Catalog;
use crate::clock;
use crate::error::{EnvelopeError, RecordError, UnsealError};
use crate::keys_file::{self, KeysFile};
use crate::layout::read_limited;
use crate::live::{Generation, Live};
use crate::operator::Operator;
use crate::store::{Home, Store};

/// So many pieces wait for the reader.
const AHEAD: usize = 8;
/// Progress is told after so many records.
const STEP: u64 = 64;

impl Store {
    /// Writes all of the store at one moment to `out`, encrypted to the backup's own recipients, and
    /// reads it again on the way. `anchor` is the newest entry of the audit log. `progress` hears
    /// records done and to do.
    ///
    /// # Errors
    /// The store is sealed or was sealed meanwhile, a recipient is none, a record does not open, or
    /// `out` takes no more: what `out` got is no backup then.
    pub fn backup(
        &self,
        _: &Operator,
        to: &BackupTo,
        anchor: Option<String>,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Contents, BackupError> {
        let live = self.live().ok_or(BackupError::Sealed)?;
        let (generation, keys_bytes) = self.frozen(&live)?;
        let moment = Moment {
            store: self.inner.id,
            cipher: self.inner.cipher,
            generation: generation.number(),
            transaction: generation.records.last_seq(),
            made: Timestamp(clock::wall()),
            anchor,
        };
        // From the frozen records alone: what is known in memory may be ahead of them.
        let (catalog, _) = Catalog::load(&generation)?;
        let (encryptor, key) = to.encryptor()?;
        let (sender, receiver) = sync_channel(AHEAD);
        thread::scope(|threads| {
            let checking = thread::Builder::new().name("backup-check".into());
            let checking = checking
                .spawn_scoped(threads, || Contents::verify(Pipe::new(receiver), &key))
                .map_err(BackupError::System)?;
            let mut tee = Tee { out, sender };
            let text = Text {
                live: &live,
                generation: &generation,
                keys: &keys_bytes,
                catalog: &catalog,
            };
            let written = (|| {
                let mut to = encryptor.wrap_output(&mut tee).map_err(BackupError::Io)?;
                text.write(&moment, &mut to, progress)?;
                to.finish().map(drop).map_err(BackupError::Io)
            })();
            // The reader finds the end.
            drop(tee);
            let checked = checking.join().unwrap_or(Err(BackupError::Differs));
            written?;
            let checked = checked?;
            if checked.moment != moment {
                return Err(BackupError::Differs);
            }
            Ok(checked)
        })
    }

    /// All records at one moment, and the `keys` file of their generation.
    fn frozen(&self, live: &Live) -> Result<(Generation, Vec<u8>), BackupError> {
        let Home::Disk(layout) = &self.inner.home else {
            let why = "a store in memory has no key slots, and so no backup";
            return Err(BackupError::System(io::Error::other(why)));
        };
        loop {
            let generation = live.generation();
            let path = layout.keys_path(generation.number());
            let taken = (|| {
                let records = generation.records.frozen()?;
                let bytes = read_limited(&path, keys_file::MAX)?;
                let (id, number) = (self.inner.id, generation.number());
                KeysFile::of_bytes(&path, &bytes, id, number)?.verify(&generation.sealer.keys)?;
                let sealer = generation.sealer.copied().map_err(BackupError::System)?;
                Ok((Generation { sealer, records }, bytes))
            })();
            // A rotation takes a generation away under us: then the next one is asked.
            if live.generation().number() == generation.number() {
                return taken;
            }
        }
    }
}

/// What is encrypted.
struct Text<'a> {
    live: &'a Live,
    generation: &'a Generation,
    keys: &'a [u8],
    catalog: &'a Catalog,
}

impl Text<'_> {
    fn write(
        &self,
        moment: &Moment,
        to: &mut impl Write,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), BackupError> {
        let places = self.catalog.places();
        let total = places.len() as u64;
        let header = serde_json::to_string(&Header::of(moment, total))
            .map_err(|error| BackupError::System(error.into()))?;
        let sealer = &self.generation.sealer;
        let mut write = |bytes: &[u8]| to.write_all(bytes).map_err(BackupError::Io);
        write(TITLE.as_bytes())?;
        write(header.as_bytes())?;
        write(b"\n")?;
        write(sealer.keys.root())?;
        write(&length(self.keys)?)?;
        write(self.keys)?;
        progress(0, total);
        for (place, done) in places.iter().zip(1..) {
            if self.live.is_closing() {
                return Err(BackupError::Sealed);
            }
            let missing = || {
                UnsealError::Record(RecordError {
                    what: place.describe(),
                    why: EnvelopeError::Missing,
                })
            };
            let record = self.generation.get(place)?.ok_or_else(missing)?;
            write(&place.hash(&sealer.keys).0)?;
            write(&length(&record)?)?;
            write(&record)?;
            if done % STEP == 0 || done == total {
                progress(done, total);
            }
        }
        Ok(())
    }
}

fn length(bytes: &[u8]) -> Result<[u8; 4], BackupError> {
    let length = u32::try_from(bytes.len());
    let length = length.map_err(|error| BackupError::System(io::Error::other(error)))?;
    Ok(length.to_le_bytes())
}

/// To the one who asked, and to the reader beside.
struct Tee<'a> {
    out: &'a mut dyn Write,
    sender: SyncSender<Vec<u8>>,
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        // A reader that has found something wrong has gone, and says what.
        let _ = self.sender.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What the reader reads.
struct Pipe {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Pipe {
    fn new(receiver: Receiver<Vec<u8>>) -> Self {
        Self {
            receiver,
            piece: Vec::new(),
            at: 0,
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.piece, self.at) = (piece, 0),
                Err(_) => return Ok(0),
            }
        }
        let count = into.len().min(self.piece.len() - self.at);
        into[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
