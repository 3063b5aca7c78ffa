//! The journal: a transaction is acknowledged once its frame is synced here.
//!
//! The file is made long by writing zeros and syncing them, and grows the same way, so that writing a
//! frame neither allocates nor changes metadata. The next frame is written only after the sync of the
//! one before: so only the last one can be torn.

mod frame;
mod scan;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use frame::{BODY, Payload, SECTOR, STAMP};
pub(crate) use frame::{Before, ChangeHeader, Frame, Kind};
pub(crate) use scan::{Begin, End, Found, Scan, scan};

use crate::error::RecordsError;
use crate::files;
use crate::mac::{Chain, Keys};
use crate::name::NameHash;
use crate::table::Place;
use crate::tuning::Tuning;

/// A buffer larger than this is not kept for the next frame.
const KEPT_BUFFER: usize = 1 << 20;

/// The journal's end, where one writer at a time goes on.
pub(crate) struct Journal {
    pub(crate) file: Arc<File>,
    path: PathBuf,
    pub(crate) number: u64,
    end: End,
    buffer: Vec<u8>,
    tuning: Tuning,
}

/// Why a frame is not there.
pub(crate) struct AppendError {
    pub(crate) error: RecordsError,
    /// What the file holds now is not known: nothing may be written behind it.
    pub(crate) unknown: bool,
}

impl AppendError {
    /// Of what failed, and was undone or not.
    fn of(act: &'static str, path: &Path, error: io::Error, undone: &io::Result<()>) -> Self {
        let unknown = undone.is_err();
        let error = if unknown {
            RecordsError::unclear(act, path)(error)
        } else {
            RecordsError::at(act, path)(error)
        };
        Self { error, unknown }
    }
}

impl Journal {
    /// A journal without a frame: zeros, synced. Takes its place by [`Journal::begin`] and a rename.
    pub(crate) fn prepare(path: &Path, number: u64, tuning: &Tuning) -> Result<Self, RecordsError> {
        let file = files::create(path).map_err(RecordsError::at("could not make", path))?;
        let len = tuning.step;
        extend(&file, 0, len)
            .and_then(|()| file.sync_all())
            .map_err(RecordsError::at("could not write", path))?;
        let end = End {
            sector: 0,
            frame: 1,
            chain: [0; 32],
            file_len: len,
        };
        Ok(Self::at(file, path, number, end, tuning))
    }

    /// Goes on where a scan ended.
    pub(crate) fn at(file: File, path: &Path, number: u64, end: End, tuning: &Tuning) -> Self {
        Self {
            file: Arc::new(file),
            path: path.to_path_buf(),
            number,
            end,
            buffer: Vec::new(),
            tuning: tuning.clone(),
        }
    }

    /// Writes the first frame.
    pub(crate) fn begin(&mut self, keys: &Keys, begin: &Begin) -> Result<(), RecordsError> {
        let mut frame = self.frame(keys, Kind::Begin, begin.seq);
        frame.signed(keys.store());
        frame.signed(&begin.number.to_le_bytes());
        frame.signed(&begin.count.to_le_bytes());
        frame.signed(&begin.digest);
        self.append(frame).map_err(|failed| failed.error)
    }

    /// The file has another name now.
    pub(crate) fn renamed(&mut self, path: &Path) {
        self.path = path.to_path_buf();
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the frames.
    pub(crate) fn bytes(&self) -> u64 {
        self.end.sector * SECTOR
    }

    /// The last frame's MAC.
    pub(crate) fn chain(&self) -> Chain {
        self.end.chain
    }

    /// Begins a frame; [`Journal::append`] writes it.
    pub(crate) fn frame(&mut self, keys: &Keys, kind: Kind, seq: u64) -> Frame {
        let buffer = std::mem::take(&mut self.buffer);
        Frame::begin(
            buffer,
            self.end.frame,
            kind,
            seq,
            keys.frame(),
            &self.end.chain,
        )
    }

    /// Where something in the next frame's payload will lie.
    pub(crate) fn place(&self, offset: u64) -> Place {
        Place::journal(self.number, self.end.sector * BODY as u64 + offset)
    }

    /// Writes a frame and syncs it.
    pub(crate) fn append(&mut self, frame: Frame) -> Result<(), AppendError> {
        let start = self.bytes();
        // One sector stays free behind each frame: the next one's header is in bytes that were there
        // before, so that a file which is cut later cannot look whole.
        self.grow(start + frame.file_bytes() + SECTOR)?;
        let (bytes, chain) = frame.finish(self.end.file_len);
        if let Err(error) = self
            .tuning
            .before_write()
            .and_then(|()| self.file.write_all_at(&bytes, start))
        {
            // Part of it may reach the disk yet. Another frame in its place could then be torn in a
            // way that looks like damage, so the zeros must be back first.
            let undone = write_zeros(&self.file, start, start + bytes.len() as u64)
                .and_then(|()| self.sync());
            return Err(AppendError::of(
                "could not write",
                &self.path,
                error,
                &undone,
            ));
        }
        self.sync().map_err(|error| AppendError {
            error: RecordsError::unclear("could not sync", &self.path)(error),
            unknown: true,
        })?;
        self.end.sector += bytes.len() as u64 / SECTOR;
        self.end.frame += 1;
        self.end.chain = chain;
        if bytes.capacity() <= KEPT_BUFFER {
            self.buffer = bytes;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.tuning.before_sync()?;
        self.file.sync_data()
    }

    fn grow(&mut self, needed: u64) -> Result<(), AppendError> {
        let from = self.end.file_len;
        if needed <= from {
            return Ok(());
        }
        let to = needed.next_multiple_of(self.tuning.step_at(from));
        let path = &self.path;
        if let Err(error) = extend(&self.file, from, to) {
            // Nothing but zeros was written, behind everything that the frames speak of.
            let undone = self.file.set_len(from);
            return Err(AppendError::of("could not grow", path, error, &undone));
        }
        self.tuning
            .before_sync()
            .and_then(|()| self.file.sync_all())
            .map_err(|error| AppendError {
                error: RecordsError::unclear("could not sync", path)(error),
                unknown: true,
            })?;
        self.end.file_len = to;
        Ok(())
    }

    /// Zeroes a frame that was cut short, and syncs that.
    pub(crate) fn erase(&self, bytes: u64) -> Result<(), RecordsError> {
        let start = self.bytes();
        write_zeros(&self.file, start, start + bytes)
            .and_then(|()| self.sync())
            .map_err(RecordsError::at("could not write", &self.path))
    }
}

/// Reads the record of a put, whose bytes begin at `offset` of the journal's payload.
pub(crate) fn read_put(file: &File, offset: u64, name: &NameHash) -> io::Result<Vec<u8>> {
    let other = || io::Error::new(io::ErrorKind::InvalidData, "another record lies there");
    let bytes = read_payload(file, offset, ChangeHeader::PUT)?;
    let header = ChangeHeader::read(&mut Payload(&bytes)).ok_or_else(other)?;
    let (len, _) = header
        .put
        .filter(|_| header.name == *name)
        .ok_or_else(other)?;
    if u64::from(len) > file.metadata()?.len() {
        return Err(other());
    }
    read_payload(file, offset + ChangeHeader::PUT as u64, len as usize)
}

fn read_payload(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let body = BODY as u64;
    let (first, end) = (offset / body, (offset + len as u64).div_ceil(body));
    let mut sectors = vec![0; ((end - first) * SECTOR) as usize];
    file.read_exact_at(&mut sectors, first * SECTOR)?;
    let mut payload: Vec<u8> = Vec::with_capacity(sectors.len());
    for sector in sectors.chunks_exact(SECTOR as usize) {
        payload.extend(&sector[STAMP..]);
    }
    payload.drain(..(offset % body) as usize);
    payload.truncate(len);
    Ok(payload)
}

/// Writes zeros at the end of a file. Not `fallocate`: its blocks become written ones only with a
/// change of metadata, at each first write.
fn extend(file: &File, from: u64, to: u64) -> io::Result<()> {
    write_zeros(file, from, to)
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let mut at = from;
    while at < to {
        let now = ZEROS.len().min((to - at) as usize);
        file.write_all_at(&ZEROS[..now], at)?;
        at += now as u64;
    }
    Ok(())
}
