//! A segment: a file of fixed length, its blocks allocated and zeros, written from the beginning.
//!
//! Entries are written with pwrite(2) into blocks that the file has already. A mapping would save
//! some 0.4 us of an append's microsecond, but a disk that fails would then end secretsd by SIGBUS
//! instead of failing a call.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::anchor::{Anchor, Hash};
use crate::entry::Record;
use crate::frame::{Bad, MAX_FRAME, Reader, Writer};
use crate::scan;
use crate::time::Now;

/// Where entries begin.
pub(crate) const HEADER: usize = 128;
/// Segments are read whole.
pub(crate) const LONGEST: usize = 1 << 30;
const MAGIC: [u8; 8] = *b"dsaudit1";
/// Of ten digits. Whatever else is there is none of the log's, and begins no numbers beyond all ends.
const LAST: u64 = 9_999_999_999;
const UNFINISHED: &str = "segment.new";
const NAME: &str = "segment-";
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) number: u64,
    /// Of the whole file.
    pub(crate) size: usize,
    /// The last entry before this segment.
    pub(crate) previous: Anchor,
    /// The number of the first entry in it: the next one, but for damage.
    pub(crate) first: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut writer = Writer::new(&mut bytes);
        writer.put(&MAGIC);
        writer.u64(self.size as u64);
        writer.u64(self.number);
        writer.u64(self.previous.seq);
        writer.put(&self.previous.hash.0);
        writer.u64(self.first);
        bytes
    }

    /// `None`: the segment was never begun.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Header>, Bad> {
        let mut reader = Reader(bytes.get(..HEADER).ok_or(Bad("it is too short"))?);
        match reader.array()? {
            MAGIC => {}
            [0, 0, 0, 0, 0, 0, 0, 0] => return Ok(None),
            _ => return Err(Bad("it is no segment of this format")),
        }
        let size = reader.u64()?;
        let header = Header {
            size: usize::try_from(size).map_err(|_| Bad("its size cannot be"))?,
            number: reader.u64()?,
            previous: Anchor {
                seq: reader.u64()?,
                hash: Hash(reader.array()?),
            },
            first: reader.u64()?,
        };
        if reader.0.iter().any(|byte| *byte != 0) {
            return Err(Bad("its header has what it cannot have"));
        }
        if header.first <= header.previous.seq {
            return Err(Bad("its entries begin before those of the one before"));
        }
        Ok(Some(header))
    }

    /// What its first entry follows.
    pub(crate) fn before(&self) -> Anchor {
        Anchor {
            seq: self.first - 1,
            hash: Hash::chain(&Hash::default(), &self.encode()),
        }
    }
}

/// One that is written.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) size: usize,
    pub(crate) file: Arc<File>,
}

impl Segment {
    /// Makes a segment of zeros, every block of it allocated: from here on no entry finds the disk
    /// full.
    pub(crate) fn prepare(folder: &Path, number: u64, size: usize) -> io::Result<Segment> {
        if number > LAST {
            return Err(io::Error::other("there is no number left"));
        }
        let unfinished = folder.join(UNFINISHED);
        remove(&unfinished)?;
        let made = create(&unfinished).and_then(|file| {
            allocate(&file, size as u64)?;
            // Whoever finds the name finds the length too.
            file.sync_all()?;
            fs::rename(&unfinished, path(folder, number))?;
            File::open(folder)?.sync_all()?;
            Ok(Segment {
                number,
                size,
                file: Arc::new(file),
            })
        });
        if made.is_err() {
            let _ = remove(&unfinished);
        }
        made
    }

    /// One that is there already.
    pub(crate) fn open(folder: &Path, number: u64, size: usize) -> io::Result<Segment> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path(folder, number))?;
        Ok(Segment {
            number,
            size,
            file: Arc::new(file),
        })
    }

    /// Writes the header and the first entry: within a page, so that a kill leaves both or none.
    pub(crate) fn begin(&self, header: &Header, first: &[u8]) -> io::Result<()> {
        let mut page = [0; HEADER + MAX_FRAME];
        let begin = &mut page[..HEADER + first.len()];
        begin[..HEADER].copy_from_slice(&header.encode());
        begin[HEADER..].copy_from_slice(first);
        self.write(0, begin)
    }

    pub(crate) fn write(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at as u64)
    }

    /// Zeros from `at` up to `end`.
    pub(crate) fn clear(&self, at: usize, end: usize) -> io::Result<()> {
        let mut at = at;
        while at < end.min(self.size) {
            let length = ZEROS.len().min(end.min(self.size) - at);
            self.write(at, &ZEROS[..length])?;
            at += length;
        }
        Ok(())
    }
}

/// The segment after the newest one, made before it is needed. It has a lock of its own: a file system
/// that takes its time to make a file stops nobody who appends.
#[derive(Debug)]
pub(crate) struct Next {
    folder: PathBuf,
    size: usize,
    number: u64,
    spare: Option<Segment>,
    /// Why it cannot be made, and until when that is not tried again.
    failed: Option<(Arc<str>, u64)>,
}

/// After a failure nothing is tried for so long, in microseconds.
pub(crate) const PAUSE: u64 = 1_000_000;

impl Next {
    pub(crate) fn new(folder: &Path, size: usize, number: u64, spare: Option<Segment>) -> Next {
        Next {
            folder: folder.to_path_buf(),
            size,
            number,
            spare,
            failed: None,
        }
    }

    /// Makes it, unless it is there.
    pub(crate) fn make(&mut self, now: Now) -> Result<(), Arc<str>> {
        if self.spare.is_some() {
            return Ok(());
        }
        if let Some((why, until)) = &self.failed
            && now.uptime < *until
        {
            return Err(Arc::clone(why));
        }
        match Segment::prepare(&self.folder, self.number, self.size) {
            Ok(spare) => {
                (self.spare, self.failed) = (Some(spare), None);
                Ok(())
            }
            Err(error) => {
                let why: Arc<str> = format!("the next segment cannot be made: {error}").into();
                self.failed = Some((Arc::clone(&why), now.uptime + PAUSE));
                Err(why)
            }
        }
    }

    /// Takes it; the next one is the one behind it.
    pub(crate) fn take(&mut self, now: Now) -> Result<Segment, Arc<str>> {
        self.make(now)?;
        let spare = self.spare.take().ok_or("there is no next segment")?;
        self.number = spare.number + 1;
        Ok(spare)
    }

    /// One that could not be begun.
    pub(crate) fn give_back(&mut self, spare: Segment) {
        let _ = spare.clear(0, HEADER + MAX_FRAME);
        self.number = spare.number;
        self.spare = Some(spare);
    }
}

pub(crate) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{NAME}{number:010}"))
}

/// What a segment says of itself; `None`: nothing that can be read, or it is not there.
pub(crate) fn header(folder: &Path, number: u64) -> io::Result<Option<Header>> {
    let mut bytes = [0; HEADER];
    let read = File::open(path(folder, number)).and_then(|file| file.read_exact_at(&mut bytes, 0));
    match read {
        Ok(()) => Ok(Header::decode(&bytes).unwrap_or(None)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// In which boot a segment was begun; `None`: its first entry cannot be read.
pub(crate) fn boot(folder: &Path, number: u64) -> io::Result<Option<[u8; 16]>> {
    let mut bytes = Vec::new();
    let file = File::open(path(folder, number))?;
    file.take((HEADER + MAX_FRAME) as u64)
        .read_to_end(&mut bytes)?;
    let mut boot = None;
    let _ = scan::scan(&bytes, number, |entry| {
        if let Record::Segment(switch) = &entry.record {
            boot = Some(switch.boot);
        }
        ControlFlow::Break(())
    });
    Ok(boot)
}

/// The numbers of the segments that are there, ascending. A folder that changes while it is listed may
/// hide a name that is there, and show a later one: so a gap is looked at twice.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut before = Vec::new();
    loop {
        let numbers = names(folder)?;
        let is_gapless = numbers.windows(2).all(|two| two[0] + 1 == two[1]);
        if is_gapless || numbers == before {
            return Ok(numbers);
        }
        before = numbers;
    }
}

fn names(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let found = entry?.file_name();
        let number = found.to_str().and_then(|found| {
            let number = found.strip_prefix(NAME)?.parse().ok()?;
            let is_one = number <= LAST && path(Path::new(""), number) == Path::new(found);
            is_one.then_some(number)
        });
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A file that is not there yet, 0600 under any umask.
fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Gives a file all of its blocks, zeros.
fn allocate(file: &File, size: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => return Ok(()),
        // Not every file system can; writing does it too.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let mut at = 0;
    while at < size {
        let length = (ZEROS.len() as u64).min(size - at) as usize;
        file.write_all_at(&ZEROS[..length], at)?;
        at += length as u64;
    }
    Ok(())
}
