//! Reading a backup: each record is opened before it is given on.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read};
use std::path::Path;

use age::stream::StreamReader;
use records::{MAX_RECORD, NameHash};
use zeroize::Zeroizing;

use super::{BackupError, BackupKey, Contents, Header, MAX_HEADER, Moment, TITLE};
use crate::catalog::{Catalog, clock_of, places_of};
use crate::envelope;
use crate::error::{EnvelopeError, RecordError, UnsealError};
use crate::hierarchy::{KEY, Keys};
use crate::keys_file::{self, KeysFile};
use crate::live::Sealer;
use crate::place::{Kind, Place};

/// How errors name the `keys` file that is in a backup.
pub(super) const KEYS: &str = "the key slots in the backup";

/// A backup on its way in. As an iterator it gives its records, verified; that there are all of them
/// is known once it has given `None`.
pub(super) struct Reader<R: Read> {
    text: StreamReader<R>,
    pub(super) moment: Moment,
    pub(super) sealer: Sealer,
    pub(super) keys_file: KeysFile,
    /// The same, byte for byte.
    pub(super) keys_bytes: Vec<u8>,
    pub(super) catalog: Catalog,
    warnings: Vec<String>,
    records: u64,
    left: u64,
    /// Names of records that were there, but for versions'.
    seen: HashSet<NameHash>,
    /// Versions' records that must come before the next one of another kind.
    pending: HashMap<NameHash, Place>,
    is_whole: bool,
}

impl<R: Read> Reader<R> {
    /// Reads up to the first record.
    pub(super) fn open(source: R, key: &BackupKey) -> Result<Self, BackupError> {
        let mut text = key.open(source)?;
        let mut title = [0; TITLE.len()];
        text.read_exact(&mut title).map_err(BackupError::reading)?;
        if title != *TITLE.as_bytes() {
            return Err(BackupError::NotOne("it holds something else"));
        }
        let (moment, records) = Header::parse(&line(&mut text)?)?;
        let mut root = Zeroizing::new([0; KEY]);
        text.read_exact(&mut *root).map_err(BackupError::reading)?;
        let keys = Keys::from_root(moment.store, &*root).map_err(BackupError::System)?;
        let keys_bytes = counted(&mut text, keys_file::MAX as usize, "its key slots")?;
        let keys_file = KeysFile::of_bytes(
            Path::new(KEYS),
            &keys_bytes,
            moment.store,
            moment.generation,
        );
        let damaged = |error: UnsealError| BackupError::damaged(error.to_string());
        let keys_file = keys_file.map_err(damaged)?;
        keys_file.verify(&keys).map_err(damaged)?;
        let sealer = Sealer {
            number: moment.generation,
            cipher: moment.cipher,
            keys,
        };
        Ok(Self {
            text,
            moment,
            sealer,
            keys_file,
            keys_bytes,
            catalog: Catalog::default(),
            warnings: Vec::new(),
            records,
            left: records,
            seen: HashSet::new(),
            pending: HashMap::new(),
            is_whole: false,
        })
    }

    /// What it holds, after all of its records.
    pub(super) fn contents(&self) -> Result<Contents, BackupError> {
        if !self.is_whole {
            return Err(BackupError::damaged("not all of it was read"));
        }
        let (moment, warnings) = (self.moment.clone(), self.warnings.clone());
        let slots = self.keys_file.slots();
        Ok(Contents::new(
            moment,
            self.records,
            &self.catalog,
            slots,
            warnings,
        ))
    }

    fn read_next(&mut self) -> Result<Option<(NameHash, Vec<u8>)>, BackupError> {
        if self.left == 0 {
            self.nothing_pending()?;
            // The last piece of the age file says that it is the last: it is read here, if not before.
            if self.text.read(&mut [0]).map_err(BackupError::reading)? != 0 {
                return Err(BackupError::damaged("something follows its last record"));
            }
            self.is_whole = true;
            return Ok(None);
        }
        let mut name = NameHash([0; 32]);
        self.text
            .read_exact(&mut name.0)
            .map_err(BackupError::reading)?;
        let record = counted(&mut self.text, MAX_RECORD, "a record's length")?;
        self.check(&name, &record)?;
        self.left -= 1;
        Ok(Some((name, record)))
    }

    fn check(&mut self, name: &NameHash, record: &[u8]) -> Result<(), BackupError> {
        let unnamed = |why| {
            BackupError::Record(RecordError {
                what: "something".into(),
                why,
            })
        };
        let kind = envelope::kind_of(record).map_err(unnamed)?;
        if kind == Kind::Version {
            let place = self.pending.remove(name).ok_or_else(|| {
                BackupError::damaged("a version's record is not behind its secret's head")
            })?;
            // Opened and wiped: that it opens is all that is asked.
            let opened = self.sealer.open(&place, record);
            return opened.map(drop).map_err(BackupError::Record);
        }
        self.nothing_pending()?;
        if !self.seen.insert(*name) {
            return Err(BackupError::damaged("a record is there twice"));
        }
        if kind == Kind::Clock {
            if self.seen.len() > 1 {
                return Err(BackupError::damaged("its records are out of order"));
            }
            self.catalog.clock =
                clock_of(&self.sealer, Some(record)).map_err(BackupError::Record)?;
        }
        let taken = self.catalog.take_in(&self.sealer, kind, name, record);
        let taken = taken.map_err(BackupError::Record)?;
        self.warnings.extend(taken.warning);
        if let Place::Head(secret) = &taken.place
            && let Some(found) = self.catalog.secrets.get(secret)
        {
            let versions = found.versions.iter().chain(&found.doomed);
            let places = versions.flat_map(|version| places_of(secret, version));
            let named = places.map(|place| (place.hash(&self.sealer.keys), place));
            self.pending.extend(named);
        }
        Ok(())
    }

    fn nothing_pending(&self) -> Result<(), BackupError> {
        match self.pending.values().min() {
            None => Ok(()),
            Some(place) => Err(BackupError::Record(RecordError {
                what: place.describe(),
                why: EnvelopeError::Missing,
            })),
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<(NameHash, Vec<u8>), BackupError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_next().transpose()
    }
}

impl Contents {
    /// Reads a whole backup, and opens each of its records; nothing is written anywhere.
    ///
    /// # Errors
    /// The key does not open it, or it is not a whole backup as one was made.
    pub fn verify(source: impl Read, key: &BackupKey) -> Result<Self, BackupError> {
        let mut reader = Reader::open(source, key)?;
        for record in &mut reader {
            record?;
        }
        reader.contents()
    }
}

impl Moment {
    /// The moment that a backup says it is of; nothing beyond that is read.
    ///
    /// # Errors
    /// The key does not open it, or it is no backup.
    pub fn read(source: impl Read, key: &BackupKey) -> Result<Self, BackupError> {
        Ok(Reader::open(source, key)?.moment)
    }
}

/// Up to the end of a line, which is not given.
fn line(text: &mut impl Read) -> Result<Vec<u8>, BackupError> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        text.read_exact(&mut byte).map_err(BackupError::reading)?;
        if byte == *b"\n" {
            return Ok(line);
        }
        if line.len() == MAX_HEADER {
            return Err(BackupError::damaged("its header is too long"));
        }
        line.extend(byte);
    }
}

/// A `u32` length, and so many bytes.
fn counted(text: &mut impl Read, most: usize, what: &str) -> Result<Vec<u8>, BackupError> {
    let mut length = [0; 4];
    text.read_exact(&mut length).map_err(BackupError::reading)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > most {
        return Err(BackupError::damaged(what));
    }
    // Room for what is there, and not for what a length promises.
    let mut bytes = Vec::new();
    let read = text.take(length as u64).read_to_end(&mut bytes);
    if read.map_err(BackupError::reading)? < length {
        return Err(BackupError::reading(ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}
