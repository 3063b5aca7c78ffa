//! Writing a snapshot: beside the one in use, synced, then renamed.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{END, PUT_BYTES, Put, REMOVE, header};
use crate::error::RecordsError;
use crate::files;
use crate::mac::{Keys, Mac, Tag};
use crate::name::NameHash;
use crate::table::Place;

/// A snapshot in the making.
pub(crate) struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    number: u64,
    mac: Mac,
    bytes: u64,
    /// Taken away again unless finished.
    keep: bool,
}

/// A snapshot that is whole and synced, under its temporary name.
pub(crate) struct Finished {
    pub(crate) file: File,
    pub(crate) bytes: u64,
}

impl Writer {
    pub(crate) fn create(path: &Path, keys: &Keys, number: u64) -> Result<Self, RecordsError> {
        let file = files::create(path).map_err(RecordsError::at("could not make", path))?;
        let mut writer = Self {
            file: BufWriter::with_capacity(1 << 18, file),
            path: path.to_path_buf(),
            number,
            mac: keys.snapshot(),
            bytes: 0,
            keep: false,
        };
        writer.signed(&header(keys.store(), number))?;
        Ok(writer)
    }

    /// Adds a record, in place of an earlier one of this name. Gives its place.
    pub(crate) fn put(
        &mut self,
        name: NameHash,
        seq: u64,
        tag: Tag,
        record: &[u8],
    ) -> Result<Place, RecordsError> {
        let place = Place::snapshot(self.number, self.bytes);
        let put = Put {
            name,
            seq,
            len: record.len() as u32,
            tag,
        };
        let bytes: [u8; PUT_BYTES] = put.bytes();
        self.signed(&bytes)?;
        self.write(record)?;
        Ok(place)
    }

    /// Takes an earlier record of this name away.
    pub(crate) fn remove(&mut self, name: &NameHash) -> Result<(), RecordsError> {
        self.signed(&[REMOVE])?;
        self.signed(&name.0)
    }

    /// Syncs what there is, so that little is left to be synced at the end.
    pub(crate) fn sync(&mut self) -> Result<(), RecordsError> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_data())
            .map_err(RecordsError::at("could not write", &self.path))
    }

    /// Ends and syncs it.
    pub(crate) fn finish(
        mut self,
        count: u64,
        last_seq: u64,
        digest: &[u8; 32],
    ) -> Result<Finished, RecordsError> {
        self.signed(&[END])?;
        self.signed(&count.to_le_bytes())?;
        self.signed(&last_seq.to_le_bytes())?;
        self.signed(digest)?;
        let mac = self.mac.clone().finish();
        self.write(&mac)?;
        let finish = |writer: &mut Self| {
            writer.file.flush()?;
            writer.file.get_ref().sync_all()?;
            writer.file.get_ref().try_clone()
        };
        let file = finish(&mut self).map_err(RecordsError::at("could not write", &self.path))?;
        self.keep = true;
        Ok(Finished {
            file,
            bytes: self.bytes,
        })
    }

    fn signed(&mut self, bytes: &[u8]) -> Result<(), RecordsError> {
        self.mac.add(bytes);
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), RecordsError> {
        self.bytes += bytes.len() as u64;
        self.file
            .write_all(bytes)
            .map_err(RecordsError::at("could not write", &self.path))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.keep {
            files::discard(&self.path);
        }
    }
}
