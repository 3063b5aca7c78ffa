//! The index on the disk: sled 0.34, held at arm's length.
//!
//! - No batches and no transactions: one of those makes every later read of any sled database in the
//!   process take a lock that writers hold. The mark is put last, and sled's log keeps the order.
//! - No flusher thread: should it panic, dropping the database would wait for ever.
//! - Every call may panic where the file is damaged; that is an error like another.

use std::fs::{self, File, Permissions};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Index, IndexError};
use crate::files;
use crate::name::NameHash;

/// Pages that sled keeps in memory; the kernel's page cache has the rest.
const CACHE: u64 = 16 << 20;
/// Shorter than any name.
const MARK: &[u8] = b"mark";
/// A database that was just closed may hold its lock a little longer, in threads of its own. One that
/// failed may hold it until the process ends. Nobody else has it: the store's folder is locked.
const LOCK_WAIT: Duration = Duration::from_secs(1);

pub(crate) struct SledIndex {
    folder: PathBuf,
    db: Option<sled::Db>,
    failed: AtomicBool,
}

/// Why there is no index.
#[derive(Debug)]
pub(crate) enum OpenIndexError {
    /// What lies there is not usable; a fresh one is.
    Damaged(String),
    /// The disk or the system refuses; what lies there may be good.
    Unavailable(String),
}

impl SledIndex {
    pub(crate) fn open(folder: &Path) -> Result<Self, OpenIndexError> {
        prepare(folder).map_err(|error| OpenIndexError::Unavailable(error.to_string()))?;
        let began = Instant::now();
        let db = loop {
            // Without a configuration of its own each time: one that has failed remembers the error.
            let config = sled::Config::new()
                .path(folder)
                .cache_capacity(CACHE)
                .flush_every_ms(None);
            match catch_unwind(AssertUnwindSafe(|| config.open())) {
                Ok(Ok(db)) => break db,
                Ok(Err(error)) if is_locked(&error) && began.elapsed() < LOCK_WAIT => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(Err(error)) => return Err(classify(&error)),
                Err(_) => return Err(OpenIndexError::Damaged("sled panicked opening it".into())),
            }
        };
        let index = Self {
            folder: folder.to_path_buf(),
            db: Some(db),
            failed: AtomicBool::new(false),
        };
        close_to_others(folder).map_err(|error| OpenIndexError::Unavailable(error.to_string()))?;
        Ok(index)
    }

    fn call<T>(&self, call: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, IndexError> {
        let db = self
            .db
            .as_ref()
            .ok_or_else(|| IndexError("it is closed".into()))?;
        let done = match catch_unwind(AssertUnwindSafe(|| call(db))) {
            Ok(done) => done.map_err(|error| IndexError(error.to_string())),
            Err(_) => Err(IndexError("sled panicked".into())),
        };
        self.failed.fetch_or(done.is_err(), Ordering::Relaxed);
        done
    }
}

impl Index for SledIndex {
    fn get(&self, name: &NameHash) -> Result<Option<(u64, Vec<u8>)>, IndexError> {
        let found = self.call(|db| db.get(name.0))?;
        Ok(found.and_then(|bytes| {
            let (seq, record) = split(&bytes)?;
            Some((seq, record.to_vec()))
        }))
    }

    fn put(&self, name: &NameHash, seq: u64, record: &[u8]) -> Result<(), IndexError> {
        let mut bytes = Vec::with_capacity(8 + record.len());
        bytes.extend(seq.to_le_bytes());
        bytes.extend(record);
        self.call(|db| db.insert(name.0, bytes)).map(drop)
    }

    fn remove(&self, name: &NameHash) -> Result<(), IndexError> {
        self.call(|db| db.remove(name.0)).map(drop)
    }

    fn mark(&self) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.call(|db| db.get(MARK))?.map(|bytes| bytes.to_vec()))
    }

    fn set_mark(&self, mark: &[u8]) -> Result<(), IndexError> {
        self.call(|db| db.insert(MARK, mark)).map(drop)
    }

    fn each(&self, show: &mut dyn FnMut(NameHash, u64, &[u8])) -> Result<(), IndexError> {
        self.call(|db| {
            for entry in db.iter() {
                let (key, bytes) = entry?;
                if let (Ok(name), Some((seq, record))) = (key[..].try_into(), split(&bytes)) {
                    show(NameHash(name), seq, record);
                }
            }
            Ok(())
        })
    }

    fn flush(&self) -> Result<(), IndexError> {
        self.call(|db| db.flush())?;
        close_to_others(&self.folder).map_err(|error| IndexError(error.to_string()))
    }

    /// sled's flush ends in sync_file_range, which makes nothing durable, and leaves out the files of
    /// large values.
    fn sync(&self) -> Result<(), IndexError> {
        self.flush()?;
        files::walk(&self.folder, &mut |path, _| File::open(path)?.sync_all())
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|error| IndexError(error.to_string()))
    }
}

impl Drop for SledIndex {
    /// sled flushes as it is dropped, and waits for ever for what it could not write: once it has
    /// failed, that is done where nobody waits for it, and where it may hang.
    fn drop(&mut self) {
        let db = ManuallyDrop::new(self.db.take());
        let close =
            move || catch_unwind(AssertUnwindSafe(|| drop(ManuallyDrop::into_inner(db)))).is_err();
        let panicked = if self.failed.load(Ordering::Relaxed) {
            thread::Builder::new()
                .name("records-failed".into())
                .spawn(close)
                .is_err()
        } else {
            close()
        };
        if panicked {
            log::warn!("sled did not close {}", self.folder.display());
        }
    }
}

fn split(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (seq, record) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*seq), record))
}

/// Makes the folder, or takes away what sled trips over: a snapshot of its own that it was writing
/// when it was killed.
fn prepare(folder: &Path) -> io::Result<()> {
    files::make_dir(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let empty = || {
            entry
                .metadata()
                .is_ok_and(|found| found.is_file() && found.len() == 0)
        };
        if name.ends_with(".generating") || (name.starts_with("snap.") && empty()) {
            files::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// sled makes its files as the umask lets it.
fn close_to_others(folder: &Path) -> io::Result<()> {
    files::walk(folder, &mut |path, found| {
        let mode = if found.is_dir() { 0o700 } else { 0o600 };
        if found.permissions().mode() & 0o7777 != mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        Ok(())
    })
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error)
        if error.kind() == io::ErrorKind::Other && error.to_string().contains("acquire lock"))
}

fn classify(error: &sled::Error) -> OpenIndexError {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error {
        sled::Error::Io(io)
            if matches!(
                io.kind(),
                StorageFull | QuotaExceeded | PermissionDenied | ReadOnlyFilesystem
            ) =>
        {
            OpenIndexError::Unavailable(error.to_string())
        }
        _ => OpenIndexError::Damaged(error.to_string()),
    }
}
