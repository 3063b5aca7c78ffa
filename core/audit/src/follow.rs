//! Entries as they come: reads on where it has stopped.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::anchor::Anchor;
use crate::entry::Entry;
use crate::frame::{self, MAX_FRAME};
use crate::scan;
use crate::segment::{self, HEADER};

/// How much is read at once.
const CHUNK: usize = 64 * MAX_FRAME;

/// A place in the log, from which it is read on.
#[derive(Debug)]
pub struct Follow {
    folder: PathBuf,
    /// The segment, and where in it; `None`: at the begin of the first one that there is.
    at: Option<Place>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Place {
    file: File,
    number: u64,
    offset: usize,
    last: Anchor,
}

impl Follow {
    /// From the oldest entry on.
    pub fn from_start(folder: &Path) -> Follow {
        Follow {
            folder: folder.to_path_buf(),
            at: None,
            bytes: Vec::new(),
        }
    }

    /// From the entry on that comes next.
    ///
    /// # Errors
    /// The folder or a file cannot be read.
    pub fn from_end(folder: &Path) -> io::Result<Follow> {
        let mut follow = Follow::from_start(folder);
        for number in segment::list(folder)?.into_iter().rev() {
            scan::load(folder, number, &mut follow.bytes)?;
            let all = |_: &Entry<'_>| ControlFlow::Continue(());
            if let Ok(scanned) = scan::scan(&follow.bytes, number, all) {
                follow.at = Some(Place {
                    file: File::open(segment::path(folder, number))?,
                    number,
                    offset: scanned.end,
                    last: match scanned.end {
                        HEADER => scanned.header.before(),
                        _ => scanned.last,
                    },
                });
                break;
            }
        }
        Ok(follow)
    }

    /// Gives all entries that have come since to `each`. Whoever is so late that what he has not read
    /// was removed goes on with the oldest that there is.
    ///
    /// # Errors
    /// The folder or a file cannot be read, or `each` failed: then it was not given that entry.
    pub fn read(&mut self, mut each: impl FnMut(&Entry<'_>) -> io::Result<()>) -> io::Result<()> {
        // Where the next segment begins, once there is one.
        let mut next = None;
        loop {
            if self.at.is_none() {
                self.at = self.first_begun(0)?;
            }
            let Some(place) = &mut self.at else {
                return Ok(());
            };
            self.bytes.resize(CHUNK, 0);
            let length = place.file.read_at(&mut self.bytes, place.offset as u64)?;
            if place.take(&self.bytes[..length], &mut each)? > 0 {
                continue;
            }
            let number = place.number + 1;
            if next.is_some() {
                self.at = next.take();
                continue;
            }
            // Another one is begun after this one's last entry, which may have come since we looked:
            // so this one is read once more.
            next = self.first_begun(number)?;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    /// Where the first segment from `number` on begins that was begun, if there is one.
    fn first_begun(&self, number: u64) -> io::Result<Option<Place>> {
        for number in segment::list(&self.folder)?
            .into_iter()
            .filter(|one| *one >= number)
        {
            let Some(header) = segment::header(&self.folder, number)? else {
                continue;
            };
            match File::open(segment::path(&self.folder, number)) {
                Ok(file) => {
                    return Ok(Some(Place {
                        file,
                        number,
                        offset: HEADER,
                        last: header.before(),
                    }));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Place {
    /// Gives the whole entries of `bytes`, and goes on behind them; says how many bytes that were.
    fn take(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(&Entry<'_>) -> io::Result<()>,
    ) -> io::Result<usize> {
        let mut taken = 0;
        while let Ok(Some(length)) = frame::length(&bytes[taken..]) {
            // One that is being written, or damage: nothing behind it is read before it is mended.
            let Ok(entry) = frame::decode(&bytes[taken..taken + length], &self.last.hash) else {
                break;
            };
            each(&entry)?;
            taken += length;
            self.offset += length;
            self.last = Anchor {
                seq: entry.seq,
                hash: entry.hash,
            };
        }
        Ok(taken)
    }
}
