//! The registry of instances: RUN_DIR/instances/NUMBER, one JSON file each, root's alone (0600),
//! without a value in it. It is what an injector or a secretsd that comes back goes by, so a file is
//! there whole or not at all, and it is there before the service runs.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use control::inner::InstanceRecord;

use crate::run_dir::RunDir;

/// Instance numbers have 20 bits; 0 is the master mount's own.
const HIGHEST: u32 = (1 << 20) - 1;
/// What this program writes and understands.
pub(crate) const FORMAT: u32 = 1;
/// The folder of records.
#[derive(Debug)]
pub(crate) struct Registry {
    folder: PathBuf,
    /// The file that holds the number which was given last.
    last_file: PathBuf,
    last: u32,
}

impl Registry {
    /// Opens the folder, or makes it, and reads all records. A record that cannot be understood is
    /// left where it is and its number is not given again.
    pub fn open(run_dir: &RunDir) -> io::Result<(Registry, Vec<InstanceRecord>)> {
        let (folder, last_file) = (run_dir.instances(), run_dir.last_instance());
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let last = std::fs::read_to_string(&last_file)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        let registry = Registry {
            folder,
            last_file,
            last,
        };
        let mut records = Vec::new();
        for number in registry.numbers()? {
            match registry.read(number) {
                Ok(record) => records.push(record),
                Err(error) => log::error!("instance {number} is not taken up again: {error}"),
            }
        }
        Ok((registry, records))
    }

    /// A number that no other instance has; none is given again before all others were.
    pub fn next_number(&mut self) -> io::Result<u32> {
        // By name, and not by a list of all: there may be ten thousand.
        let is_taken = |number: &u32| self.folder.join(number.to_string()).try_exists();
        let number = (self.last + 1..=HIGHEST)
            .chain(1..=self.last.min(HIGHEST))
            .find(|number| matches!(is_taken(number), Ok(false)))
            .ok_or_else(|| io::Error::other("all instance numbers are in use"))?;
        write(&self.last_file, format!("{number}\n").as_bytes())?;
        self.last = number;
        Ok(number)
    }

    /// Writes a record, or writes it anew.
    pub fn put(&self, record: &InstanceRecord) -> io::Result<()> {
        let mut text = serde_json::to_vec(record)?;
        text.push(b'\n');
        write(&self.folder.join(record.number.to_string()), &text)
    }

    /// Forgets an instance; it is no error that it is not there.
    pub fn remove(&self, number: u32) -> io::Result<()> {
        match std::fs::remove_file(self.folder.join(number.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync(&self.folder),
        }
    }

    fn numbers(&self) -> io::Result<BTreeSet<u32>> {
        let mut numbers = BTreeSet::new();
        for entry in std::fs::read_dir(&self.folder)? {
            if let Some(number) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) {
                numbers.insert(number);
            }
        }
        Ok(numbers)
    }

    fn read(&self, number: u32) -> io::Result<InstanceRecord> {
        let text = std::fs::read(self.folder.join(number.to_string()))?;
        let record: InstanceRecord = serde_json::from_slice(&text)?;
        if record.format != FORMAT {
            let format = record.format;
            return Err(io::Error::other(format!(
                "its format is {format}, and this program knows {FORMAT}"
            )));
        }
        if record.number != number {
            let other = record.number;
            return Err(io::Error::other(format!("it says that it is {other}")));
        }
        Ok(record)
    }
}

/// A file is there as it was, or whole.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let hidden = folder.join(format!(".{}.new", name.display()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&hidden)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&hidden, path)?;
    sync(folder)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::record;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_put_comes_back_after_a_restart_and_is_roots_alone() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(dir.path());
        let folder = run_dir.instances();
        let (mut registry, none) = Registry::open(&run_dir).unwrap();
        assert!(none.is_empty());
        let number = registry.next_number().unwrap();
        registry.put(&record(number)).unwrap();
        drop(registry);

        let (registry, records) = Registry::open(&run_dir).unwrap();
        let texts = |r: &InstanceRecord| serde_json::to_string(r).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(texts(&records[0]), texts(&record(number)));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join(number.to_string())), 0o600);
        registry.remove(number).unwrap();
        registry.remove(number).unwrap();
        assert!(Registry::open(&run_dir).unwrap().1.is_empty());
    }

    #[test]
    fn a_number_is_not_given_again_after_its_end_nor_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (mut registry, _) = Registry::open(&RunDir::new(dir.path())).unwrap();
        let first = registry.next_number().unwrap();
        let second = registry.next_number().unwrap();
        let (mut registry, _) = Registry::open(&RunDir::new(dir.path())).unwrap();
        let third = registry.next_number().unwrap();
        assert_eq!([first, second, third], [1, 2, 3]);
    }

    #[test]
    fn numbers_start_over_past_those_in_use() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(RunDir::new(dir.path()).last_instance(), HIGHEST.to_string()).unwrap();
        let (mut registry, _) = Registry::open(&RunDir::new(dir.path())).unwrap();
        registry.put(&record(1)).unwrap();
        assert_eq!(registry.next_number().unwrap(), 2);
    }

    #[test]
    fn a_record_of_another_format_is_left_alone_and_its_number_stays_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, _) = Registry::open(&RunDir::new(dir.path())).unwrap();
        let mut later = record(1);
        later.format = FORMAT + 1;
        registry.put(&later).unwrap();
        let folder = RunDir::new(dir.path()).instances();
        std::fs::write(folder.join("2"), "{\"number\":").unwrap();
        let (mut registry, records) = Registry::open(&RunDir::new(dir.path())).unwrap();
        assert!(records.is_empty());
        assert_eq!(registry.next_number().unwrap(), 3);
        assert!(folder.join("1").exists() && folder.join("2").exists());
    }
}
