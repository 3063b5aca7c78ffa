//! A folder in memory that goes with its value.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        Folder(dir.unwrap().keep())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A file of this folder, 0600, as one of ours is.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    /// The same, with zeros behind it up to a length.
    pub(crate) fn write_long(&self, name: &str, bytes: &[u8], length: u64) {
        self.write(name, bytes);
        let file = File::options().write(true).open(self.0.join(name)).unwrap();
        file.set_len(length.max(bytes.len() as u64)).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).unwrap()
    }

    /// The only file whose name begins so.
    pub(crate) fn named(&self, start: &str) -> String {
        let names = fs::read_dir(&self.0).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.find(|name| name.starts_with(start)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A thread that has not ended yet may make a file meanwhile.
        for _ in 0..100 {
            if fs::remove_dir_all(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// Files are long, and mostly zeros at their end: a corpus has them without.
pub(crate) fn without_zeros(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0);
    &bytes[..end.map_or(0, |at| at + 1)]
}
