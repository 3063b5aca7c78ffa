//! A file that gets its name when it is whole, and not before.
//!
//! Until then the kernel knows it without a name (O_TMPFILE), so that nothing is left of it whatever
//! ends this process. Where a file system cannot do that, it has a name of its own, and is removed.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// A file in the making, 0600.
pub struct Unnamed {
    pub file: File,
    path: PathBuf,
    /// Where the file system knows no file without a name.
    beside: Option<PathBuf>,
}

impl Unnamed {
    /// In the folder of `path`, which nobody sees yet.
    pub fn create(path: &Path) -> io::Result<Unnamed> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let made = rustix::fs::open(folder_of(path), flags, Mode::RUSR | Mode::WUSR);
        let (file, beside) = match made {
            Ok(file) => (File::from(file), None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let beside = beside(path);
                let _ = fs::remove_file(&beside);
                let mut options = OpenOptions::new();
                options.read(true).write(true).create_new(true).mode(0o600);
                (options.open(&beside)?, Some(beside))
            }
            Err(errno) => return Err(errno.into()),
        };
        let path = path.to_path_buf();
        Ok(Unnamed { file, path, beside })
    }

    /// Gives it its name, durably; in place of a file of that name only if `replaces`.
    pub fn place(mut self, replaces: bool) -> io::Result<()> {
        self.file.sync_all()?;
        match self.beside.take() {
            None if !replaces => link(&self.file, &self.path)?,
            None => {
                let beside = beside(&self.path);
                let _ = fs::remove_file(&beside);
                link(&self.file, &beside)?;
                self.beside = Some(beside.clone());
                fs::rename(&beside, &self.path)?;
            }
            Some(beside) => {
                self.beside = Some(beside.clone());
                let flags = if replaces {
                    RenameFlags::empty()
                } else {
                    RenameFlags::NOREPLACE
                };
                rustix::fs::renameat_with(CWD, &beside, CWD, &self.path, flags)?;
            }
        }
        self.beside = None;
        File::open(folder_of(&self.path))?.sync_all()
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            let _ = fs::remove_file(beside);
        }
    }
}

fn link(file: &File, path: &Path) -> io::Result<()> {
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(
        CWD,
        open,
        CWD,
        path,
        AtFlags::SYMLINK_FOLLOW,
    )?)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".partial");
    folder_of(path).join(name)
}

/// The folder that a path is in; of a bare name, the current one.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn nothing_is_there_until_all_of_it_is_and_another_file_is_not_replaced_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let names = || fs::read_dir(dir.path()).unwrap().count();
        let path = dir.path().join("f");
        let made = |text: &str| {
            let mut made = Unnamed::create(&path).unwrap();
            made.file.write_all(text.as_bytes()).unwrap();
            made
        };
        drop(made("one"));
        assert_eq!(names(), 0);
        made("two").place(false).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        let refused = made("three").place(false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        made("four").place(true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"four");
        assert_eq!(names(), 1);
    }

    #[test]
    fn where_every_file_has_a_name_the_same_holds() {
        let dir = tempfile::tempdir().unwrap();
        let names = || fs::read_dir(dir.path()).unwrap().count();
        let path = dir.path().join("f");
        let made = |text: &str| {
            let beside = beside(&path);
            fs::write(&beside, text).unwrap();
            let file = File::open(&beside).unwrap();
            Unnamed {
                file,
                path: path.clone(),
                beside: Some(beside),
            }
        };
        drop(made("one"));
        assert_eq!(names(), 0);
        made("two").place(false).unwrap();
        assert!(made("three").place(false).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        made("four").place(true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"four");
        assert_eq!(names(), 1);
    }
}
