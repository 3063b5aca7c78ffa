//! The store's folder: STORE, CURRENT, lock, and one folder for each generation.
//!
//! Everything is made 0700 and 0600 whatever the umask. A file changes by writing another, syncing
//! it, renaming it and syncing the folder, so that a kill leaves the old or the new one.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::cipher::Cipher;
use crate::error::{FileError, InitError, OpenError};
use crate::hex;
use crate::meta::StoreId;

const STORE: &str = "STORE";
const CURRENT: &str = "CURRENT";
const LOCK: &str = "lock";
const TITLE: &str = "deploy-secrets store";
/// Of the whole folder; docs/format.md.
const FORMAT: u32 = 1;
/// STORE and CURRENT are a few dozen bytes; more is not ours.
const MAX_TEXT: u64 = 4096;

/// An open store folder. While this lives, no other process opens it.
pub(crate) struct Layout {
    dir: PathBuf,
    pub(crate) id: StoreId,
    pub(crate) cipher: Cipher,
    /// Holds the lock; it goes with the descriptor.
    _lock: File,
}

impl Layout {
    /// Takes an empty folder (made if it is not there). STORE is written last, by
    /// [`Layout::finish`]: until then there is no store.
    pub(crate) fn begin(dir: &Path, id: StoreId, cipher: Cipher) -> Result<Self, InitError> {
        if make_dir(dir)? {
            // Whoever made one that is there already has to do it.
            sync_dir(&parent(dir))?;
        }
        let mut entries = fs::read_dir(dir).map_err(FileError::at("could not read", dir))?;
        if entries.next().is_some() {
            return Err(InitError::NotEmpty(dir.to_path_buf()));
        }
        fs::set_permissions(dir, Permissions::from_mode(0o700))
            .map_err(FileError::at("could not close to others", dir))?;
        let lock = take_lock(dir)?.ok_or_else(|| InitError::Busy(dir.to_path_buf()))?;
        Ok(Self {
            dir: dir.to_path_buf(),
            id,
            cipher,
            _lock: lock,
        })
    }

    pub(crate) fn finish(&self) -> Result<(), FileError> {
        let text = format!(
            "{TITLE}\nformat {FORMAT}\nid {}\ncipher {}\n",
            self.id, self.cipher
        );
        write_file(&self.dir.join(STORE), text.as_bytes())
    }

    /// Takes away what an init that failed has made, as far as that goes.
    pub(crate) fn undo(&self, key_file: Option<&Path>) {
        for generation in self.others(0).unwrap_or_default() {
            let _ = self.destroy(generation);
        }
        if let Some(path) = key_file {
            let _ = overwrite_and_remove(path);
        }
        for name in [STORE, CURRENT, LOCK] {
            let _ = fs::remove_file(self.dir.join(name));
        }
    }

    /// Opens and locks a folder that holds a store.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(STORE);
        // A disk that does not say whether it is there is no reason to make another.
        let exists = path.try_exists();
        if !exists.map_err(FileError::at("could not read", &path))? {
            return Err(OpenError::NoStore(dir.to_path_buf()));
        }
        let lock = take_lock(dir)?.ok_or_else(|| OpenError::AlreadyRunning(dir.to_path_buf()))?;
        let (id, cipher) = read_store(path)?;
        let layout = Self {
            dir: dir.to_path_buf(),
            id,
            cipher,
            _lock: lock,
        };
        layout.current()?;
        Ok(layout)
    }

    /// What STORE and CURRENT of a folder say, which nobody locks for it and where nothing changes.
    pub(crate) fn peek(dir: &Path) -> Result<(StoreId, Cipher, u32), OpenError> {
        let path = dir.join(STORE);
        if !path.exists() {
            return Err(OpenError::NoStore(dir.to_path_buf()));
        }
        let (id, cipher) = read_store(path)?;
        Ok((id, cipher, current(dir)?))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The generation that CURRENT names.
    pub(crate) fn current(&self) -> Result<u32, OpenError> {
        current(&self.dir)
    }

    /// The switch from one generation to another: one rename.
    pub(crate) fn set_current(&self, generation: u32) -> Result<(), FileError> {
        write_file(
            &self.dir.join(CURRENT),
            format!("{}\n", folder_name(generation)).as_bytes(),
        )
    }

    pub(crate) fn folder(&self, generation: u32) -> PathBuf {
        self.dir.join(folder_name(generation))
    }

    pub(crate) fn keys_path(&self, generation: u32) -> PathBuf {
        self.folder(generation).join("keys")
    }

    pub(crate) fn make_folder(&self, generation: u32) -> Result<(), FileError> {
        let path = self.folder(generation);
        make_dir(&path)?;
        sync_dir(&self.dir)
    }

    /// Generations that are on disk beside the one in use: what a killed rotation left.
    pub(crate) fn others(&self, current: u32) -> Result<Vec<u32>, FileError> {
        let failed = || FileError::at("could not read", &self.dir);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            if let Some(generation) = name.to_str().and_then(generation_of)
                && generation != current
            {
                found.push(generation);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Makes the names that are found durable. After a kill the rename of CURRENT may be in the page
    /// cache alone: a power cut would bring the generation before back, which must be whole then.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        sync_dir(&self.dir)
    }

    /// Removes a generation, its keys first and overwritten: without them the rest is noise, also
    /// where a kill leaves it lying.
    pub(crate) fn destroy(&self, generation: u32) -> Result<(), FileError> {
        let keys = self.keys_path(generation);
        let failed = FileError::at("could not remove", &keys);
        match overwrite_and_remove(&keys) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let folder = self.folder(generation);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::at("could not remove", &folder)(error));
            }
            _ => {}
        }
        sync_dir(&self.dir)
    }
}

fn current(dir: &Path) -> Result<u32, OpenError> {
    let path = dir.join(CURRENT);
    let text = read_text(&path)?;
    let generation = text.strip_suffix('\n').and_then(generation_of);
    let what = match generation {
        None => "it names no generation".into(),
        Some(generation) => {
            let folder = folder_name(generation);
            if dir.join(&folder).try_exists().unwrap_or(true) {
                return Ok(generation);
            }
            format!("it names {folder}, which is not there")
        }
    };
    Err(OpenError::Damaged { path, what })
}

pub(crate) fn folder_name(generation: u32) -> String {
    format!("gen-{generation:08}")
}

fn generation_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("gen-")?;
    let generation = digits.parse().ok().filter(|number| *number > 0)?;
    // One spelling alone: neither a sign nor missing or surplus zeros.
    (folder_name(generation) == name).then_some(generation)
}

fn read_store(path: PathBuf) -> Result<(StoreId, Cipher), OpenError> {
    let text = read_text(&path)?;
    let damaged = |what: &str| OpenError::Damaged {
        path: path.clone(),
        what: what.into(),
    };
    let rest = text
        .strip_prefix(TITLE)
        .and_then(|rest| rest.strip_prefix("\nformat "));
    let Some((format, rest)) = rest.and_then(|rest| rest.split_once('\n')) else {
        return Err(damaged("it is not the STORE file of a store"));
    };
    // Before all else: what follows may be anything in another format.
    match format.parse() {
        Ok(FORMAT) if format == FORMAT.to_string() => {}
        Ok(found) if found != FORMAT => {
            return Err(OpenError::Format {
                path,
                found,
                known: FORMAT,
            });
        }
        _ => return Err(damaged("it says no format")),
    }
    parse_store(rest).map_err(damaged)
}

/// What follows the format.
fn parse_store(text: &str) -> Result<(StoreId, Cipher), &'static str> {
    let mut lines = text.split('\n');
    let id = lines
        .next()
        .and_then(|line| hex::decode(line.strip_prefix("id ")?))
        .ok_or("it has no id")?;
    let cipher = lines
        .next()
        .and_then(|line| line.strip_prefix("cipher ")?.parse().ok())
        .ok_or("its cipher is not known to this version")?;
    match (lines.next(), lines.next()) {
        (Some(""), None) => Ok((StoreId(id), cipher)),
        _ => Err("it has more lines than it should"),
    }
}

/// False: it is there already.
fn make_dir(path: &Path) -> Result<bool, FileError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(FileError::at("could not make", path)(error)),
    }
}

/// The folder that a path is in; of a bare name, the current one.
fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        Some(_) => ".".into(),
        None => path.to_path_buf(),
    }
}

fn take_lock(dir: &Path) -> Result<Option<File>, FileError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(FileError::at("could not open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(FileError::at("could not lock", &path)(error.into())),
    }
}

fn read_text(path: &Path) -> Result<String, OpenError> {
    let damaged = |what: String| OpenError::Damaged {
        path: path.to_path_buf(),
        what,
    };
    let bytes = match read_limited(path, MAX_TEXT) {
        Ok(bytes) => bytes,
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("it is missing".into()));
        }
        Err(error) if error.source.kind() == io::ErrorKind::InvalidData => {
            return Err(damaged(error.source.to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    String::from_utf8(bytes).map_err(|_| damaged("it is not text".into()))
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let read = || {
        let file = File::open(path)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, limit + 1), &mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
        }
        Ok(bytes)
    };
    read().map_err(FileError::at("could not read", path))
}

/// Writes a file whole: beside, synced, renamed, folder synced.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(FileError::at("could not write", path))?;
    sync_dir(&parent(path))
}

pub(crate) fn sync_dir(path: &Path) -> Result<(), FileError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(FileError::at("could not sync", path))
}

fn overwrite_and_remove(path: &Path) -> io::Result<()> {
    let length = fs::metadata(path)?.len();
    let mut file = OpenOptions::new().write(true).open(path)?;
    io::copy(&mut io::Read::take(io::repeat(0), length), &mut file)?;
    file.sync_all()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_generation_has_one_spelling() {
        assert_eq!(generation_of("gen-00000001"), Some(1));
        assert_eq!(generation_of("gen-123456789"), Some(123_456_789));
        for other in [
            "gen-1",
            "gen-00000000",
            "gen-+0000001",
            "gen-000000001",
            "gen-",
            "x",
        ] {
            assert_eq!(generation_of(other), None, "{other}");
        }
    }

    #[test]
    fn every_change_of_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(STORE);
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            read_store(path.clone())
        };
        let good = format!(
            "{TITLE}\nformat 1\nid {}\ncipher aes-256-gcm\n",
            "ab".repeat(16)
        );
        assert!(read(&good).is_ok());
        for bad in [
            good.replace("format 1", "format 01"),
            good.replace("format 1", "format +1"),
            good.replace("format 1", "format one"),
            good.replace("aes-256-gcm", "aes-128-gcm"),
            good.replacen("ab", "AB", 1),
            good.replacen("store", "shop", 1),
            format!("{good}more\n"),
            good.trim_end().to_string(),
            String::new(),
        ] {
            let refused = read(&bad).unwrap_err();
            assert!(matches!(refused, OpenError::Damaged { .. }), "{bad}");
        }
        // Of another format, whatever else is in it: both are named, and damage is what else it may be.
        for later in [
            good.replace("format 1", "format 2"),
            format!("{TITLE}\nformat 2\nx"),
        ] {
            let words = read(&later).unwrap_err().to_string();
            assert!(
                words.contains("has format 2, and this version knows format 1"),
                "{words}"
            );
            assert!(
                words.ends_with("it is damaged: `deploy restore`"),
                "{words}"
            );
        }
    }
}
