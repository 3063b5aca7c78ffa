//! Slots held by a file: an age identity, mode 0600, that secretsd reads by itself.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::PrivateHalf;
use crate::error::{FileError, SlotError};
use crate::layout::sync_dir;

/// An identity file is a few lines.
const MAX: u64 = 4096;

/// Makes the key file; one that exists is never overwritten.
pub(crate) fn create(path: &Path, private: &PrivateHalf) -> Result<(), SlotError> {
    let text = Zeroizing::new(format!(
        "# deploy-secrets key slot: whoever can read this file can unseal the store\n\
         # public key: {}\n{}\n",
        private.recipient(),
        private.text(),
    ));
    let mut file = match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(SlotError::FileExists(path.to_path_buf()));
        }
        other => other.map_err(FileError::at("could not make", path))?,
    };
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    if let Err(error) = written {
        let _ = fs::remove_file(path);
        return Err(FileError::at("could not write", path)(error).into());
    }
    Ok(sync_dir(path.parent().unwrap_or(Path::new(".")))?)
}

/// Reads the private half; refuses a file that others may read.
pub(crate) fn read(path: &Path) -> Result<PrivateHalf, SlotError> {
    let wrong = |what: &str| SlotError::KeyFile {
        path: path.to_path_buf(),
        what: what.into(),
    };
    let failed = || FileError::at("could not read", path);
    // The path comes from a table that is not authenticated yet: anything but a plain file (a FIFO
    // would block for ever) is refused before it is opened for reading.
    if !fs::metadata(path).map_err(failed())?.is_file() {
        return Err(wrong("it is not a plain file"));
    }
    let file = File::open(path).map_err(failed())?;
    let mode = file.metadata().map_err(failed())?.mode();
    if mode & 0o077 != 0 {
        return Err(wrong(
            "others may read it; `chmod 600` it, and add a new slot if others did",
        ));
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX as usize));
    file.take(MAX).read_to_string(&mut text).map_err(failed())?;
    let mut lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    match (lines.next().and_then(PrivateHalf::parse), lines.next()) {
        (Some(private), None) => Ok(private),
        _ => Err(wrong("it does not hold exactly one age identity")),
    }
}
