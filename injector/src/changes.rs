//! What a service with `on_change` is told: RUN_DIR/changes/NUMBER, the versions of all that its
//! manifest asks for, one line of JSON without a value in it. The injector writes it, the supervisor
//! watches it. A file and no message: it waits for a supervisor that is stopped, and is there for one
//! that looks later; whoever comes back writes it anew, so that no change is lost with anybody.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use model::{ConfigName, SecretName};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use serde::{Deserialize, Serialize};

use crate::run_dir::RunDir;

/// The versions of what one instance asks for. What is not there has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Versions {
    pub secrets: BTreeMap<SecretName, u64>,
    pub configs: BTreeMap<ConfigName, u64>,
    /// How often the manifest's own configuration was replaced.
    pub reloads: u32,
}

impl Versions {
    /// Is this a change for a service that knows `before`? A secret that is gone is none: that is
    /// for a revoke to say.
    pub fn is_news_after(&self, before: &Versions) -> bool {
        let newer = |(name, version)| before.secrets.get(name) != Some(version);
        self.secrets.iter().any(newer)
            || (&self.configs, self.reloads) != (&before.configs, before.reloads)
    }
}

fn place(run_dir: &RunDir, number: u32) -> PathBuf {
    run_dir.changes().join(number.to_string())
}

/// Writes an instance's file. In place: a watch stays with its inode. A reader who meets half of it
/// is woken again when it is whole.
pub(crate) fn write(run_dir: &RunDir, number: u32, versions: Option<&Versions>) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(run_dir.changes()) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut text = serde_json::to_vec(&versions)?;
    text.push(b'\n');
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(place(run_dir, number))?;
    file.write_all(&text)
}

/// Removes it; it is no error that it is not there.
pub(crate) fn remove(run_dir: &RunDir, number: u32) -> io::Result<()> {
    match std::fs::remove_file(place(run_dir, number)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A supervisor's eye on its instance's file.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: OwnedFd,
    path: PathBuf,
}

impl Watch {
    /// Sees whatever is written from now on.
    ///
    /// # Errors
    /// There is no such file, or as inotify(7).
    pub fn begin(run_dir: &RunDir, number: u32) -> io::Result<Watch> {
        let path = place(run_dir, number);
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&inotify, &path, WatchFlags::CLOSE_WRITE)?;
        Ok(Watch { inotify, path })
    }

    /// Was something written since it was asked last?
    pub fn woken(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut woken = false;
        while let Ok(event) = reader.next() {
            woken |= !event.events().contains(ReadFlags::IGNORED);
        }
        woken
    }

    /// What the file says; `None` if nobody knows, or if it is half written.
    pub fn read(&self) -> Option<Versions> {
        read(&self.path)
    }
}

fn read(path: &Path) -> Option<Versions> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()?
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn versions(secrets: &[(&str, u64)], configs: &[(&str, u64)], reloads: u32) -> Versions {
        let secrets = secrets
            .iter()
            .map(|(name, at)| (name.parse().unwrap(), *at));
        let configs = configs
            .iter()
            .map(|(name, at)| (name.parse().unwrap(), *at));
        Versions {
            secrets: secrets.collect(),
            configs: configs.collect(),
            reloads,
        }
    }

    #[test]
    fn a_new_version_is_news_and_a_secret_that_is_gone_is_none() {
        let before = versions(&[("a", 1), ("b", 7)], &[("app", 2)], 0);
        for (now, news) in [
            (versions(&[("a", 1), ("b", 7)], &[("app", 2)], 0), false),
            (versions(&[("a", 1)], &[("app", 2)], 0), false),
            (versions(&[("a", 2), ("b", 7)], &[("app", 2)], 0), true),
            (
                versions(&[("a", 1), ("b", 7), ("c", 1)], &[("app", 2)], 0),
                true,
            ),
            (versions(&[("a", 1), ("b", 7)], &[("app", 3)], 0), true),
            (versions(&[("a", 1), ("b", 7)], &[], 0), true),
            (versions(&[("a", 1), ("b", 7)], &[("app", 2)], 1), true),
        ] {
            assert_eq!(now.is_news_after(&before), news, "{now:?}");
        }
    }

    #[test]
    fn a_watcher_hears_of_every_writing_and_reads_what_was_written_last() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(dir.path());
        assert!(Watch::begin(&run_dir, 7).is_err());
        write(&run_dir, 7, None).unwrap();
        let watch = Watch::begin(&run_dir, 7).unwrap();
        assert!(!watch.woken());
        assert_eq!(watch.read(), None);
        for version in [1, 123_456, 2] {
            let now = versions(&[("a", version)], &[], 0);
            write(&run_dir, 7, Some(&now)).unwrap();
            assert!(watch.woken());
            assert_eq!(watch.read(), Some(now));
            assert!(!watch.woken());
        }
        std::fs::write(place(&run_dir, 7), "{\"secrets\":").unwrap();
        assert_eq!(watch.read(), None);
        remove(&run_dir, 7).unwrap();
        remove(&run_dir, 7).unwrap();
    }
}
