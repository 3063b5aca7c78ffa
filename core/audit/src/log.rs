//! The log, as secretsd has it open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use sys::lock::lock;

use crate::adoption::Adoption;
use crate::anchor::Anchor;
use crate::entry::{Event, Record};
use crate::open::{self, Found, OpenError, Options};
use crate::segment::{self, Next};
use crate::time::Now;
use crate::writer::{AppendError, Bell, Writer};

/// At most so long an open's entry is in the page cache alone.
const ROUND: Duration = Duration::from_millis(500);

/// The audit log. Clones are the same log; it ends with the last one.
#[derive(Debug, Clone)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    writer: Mutex<Writer>,
    synced: Mutex<Synced>,
    /// Somebody has synced.
    synced_more: Condvar,
    folder: PathBuf,
    next: Arc<Mutex<Next>>,
    keep: u64,
    adoption: Adoption,
    bell: Arc<Bell>,
}

/// What is on the disk. Not held over a sync: those who wait for one are woken together, where a lock
/// would be handed on one by one.
#[derive(Debug, Default)]
struct Synced {
    /// All entries up to this one are, but for those that `lost` says.
    seq: u64,
    /// A sync failed: the kernel reports that once, and forgets what it could not write. So entries up
    /// to this one may be lost, whatever a later sync says.
    lost: u64,
    /// Somebody syncs, for all who wait.
    running: bool,
    #[cfg(test)]
    syncs: u64,
}

/// How the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The newest entry.
    pub last: Anchor,
    /// Why events are refused, if they are: all of them, or opens for which there is no room.
    pub failing: Option<String>,
    /// Events that were refused because of that.
    pub refused: u64,
}

impl Log {
    /// Opens the log in `folder`, which is made if it is not there; `program` is who writes.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn open(folder: &Path, options: Options, program: &str) -> Result<(Log, Found), OpenError> {
        let failed = |source| OpenError {
            path: folder.to_path_buf(),
            source,
        };
        let adoption = Adoption::default();
        let bell = Arc::<Bell>::default();
        let opened = open::open(folder, options, program, &adoption, Arc::clone(&bell));
        let (writer, found, history) = opened.map_err(failed)?;
        let log = Log(Arc::new(Inner {
            folder: folder.to_path_buf(),
            next: Arc::clone(&writer.next),
            keep: writer.keep,
            writer: Mutex::new(writer),
            synced: Mutex::default(),
            synced_more: Condvar::new(),
            adoption,
            bell: Arc::clone(&bell),
        }));
        log.sync().map_err(failed)?;
        let inner = Arc::downgrade(&log.0);
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || keep(&inner, &bell))
            .map_err(failed)?;
        if !history.is_empty() {
            let inner = Arc::downgrade(&log.0);
            let folder = folder.to_path_buf();
            std::thread::Builder::new()
                .name("audit-history".into())
                .spawn(move || {
                    let read = history.read(&folder);
                    if let Some(inner) = inner.upgrade() {
                        inner.adoption.add_history(read);
                    }
                })
                .map_err(failed)?;
        }
        Ok((log, found))
    }

    /// Writes an event down: it survives the end of this process, however that comes, and within a
    /// second a power cut. `resent`: the kernel may have sent this request before, to a process that
    /// has died.
    ///
    /// # Errors
    /// It was not written. Whoever asked must not get what the event would tell of.
    pub fn append(&self, event: &Event<'_>, resent: bool) -> Result<(), AppendError> {
        let now = Now::read();
        let is_new = lock(&self.0.writer).append(event, resent, now)?;
        if is_new && let Event::Open(access) = event {
            self.0.adoption.access(access, now.wall);
        }
        Ok(())
    }

    /// The same, and it survives a power cut when this returns. All who call at once share a sync.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_durable(&self, event: &Event<'_>) -> Result<(), AppendError> {
        let seq = {
            let mut writer = lock(&self.0.writer);
            writer.append(event, false, Now::read())?;
            writer.last.seq
        };
        self.0
            .sync_up_to(seq)
            .map_err(|error| AppendError(error.to_string().into()))
    }

    /// Puts every entry that there is by now onto the disk. All who call at once share a sync.
    ///
    /// # Errors
    /// The disk fails, or has failed since one of them was written.
    pub fn sync_entries(&self) -> io::Result<()> {
        // Not whatever comes meanwhile: then each of those who wait would do a sync of its own.
        let seq = lock(&self.0.writer).last.seq;
        self.0.sync_up_to(seq)
    }

    /// Puts all that was written onto the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync(&self) -> io::Result<()> {
        self.0.sync_up_to(u64::MAX)
    }

    /// The newest entry.
    pub fn anchor(&self) -> Anchor {
        lock(&self.0.writer).last
    }

    /// How the log is.
    pub fn health(&self) -> Health {
        let writer = lock(&self.0.writer);
        let (failed, refused) = (writer.failed.as_ref(), writer.refused.as_ref());
        let why = failed
            .map(|(why, _)| why)
            .or(refused.map(|refused| &refused.why));
        Health {
            last: writer.last,
            failing: why.map(|why| why.to_string()),
            refused: refused.map_or(0, |refused| refused.count),
        }
    }

    /// Who has opened which version.
    pub fn adoption(&self) -> &Adoption {
        &self.0.adoption
    }

    /// Makes entries of what is only counted yet.
    pub fn flush(&self) {
        self.0.flush();
    }

    /// Ends the log in order.
    pub fn close(&self) {
        self.flush();
        if let Err(error) = lock(&self.0.writer).record(&Record::Stop, Now::read()) {
            log::error!("the end of the audit log: {error}");
        }
        if let Err(error) = self.sync() {
            log::error!("the end of the audit log is not synced: {error}");
        }
    }
}

impl Inner {
    fn sync_up_to(&self, seq: u64) -> io::Result<()> {
        let mut synced = lock(&self.synced);
        while synced.seq < seq && synced.running {
            synced = self
                .synced_more
                .wait(synced)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if synced.seq >= seq {
            if seq <= synced.lost {
                return Err(io::Error::other("a sync of it failed"));
            }
            return Ok(());
        }
        synced.running = true;
        drop(synced);
        let (files, last) = {
            let mut writer = lock(&self.writer);
            let mut files = std::mem::take(&mut writer.unsynced);
            // Behind the entries: what is on the disk as one is known not to be another count.
            files.extend(writer.merger.unsynced());
            (files, writer.last.seq)
        };
        let done = files.iter().try_for_each(|file| file.sync_data());
        if let Err(error) = &done {
            // Before anybody syncs again: what comes now goes into another segment.
            lock(&self.writer).leave(error, Now::read());
        }
        let mut synced = lock(&self.synced);
        synced.running = false;
        synced.seq = last;
        #[cfg(test)]
        {
            synced.syncs += 1;
        }
        if done.is_err() {
            synced.lost = last;
        }
        drop(synced);
        self.synced_more.notify_all();
        done
    }

    fn flush(&self) {
        let now = Now::read();
        let mut writer = lock(&self.writer);
        writer.resume(now);
        writer.flush(now);
    }

    fn keep(&self) {
        self.flush();
        if let Err(error) = self.sync_up_to(u64::MAX) {
            log::error!("the audit log is not synced: {error}");
        }
        let newest = lock(&self.writer).segment.number;
        let oldest = (newest + 1).saturating_sub(self.keep);
        let old = segment::list(&self.folder).unwrap_or_default();
        for number in old.into_iter().filter(|number| *number < oldest) {
            if let Err(error) = segment::remove(&segment::path(&self.folder, number)) {
                log::warn!("segment {number} of the audit log is not removed: {error}");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.bell.ring(|rung| rung.ended = true);
    }
}

/// What goes on beside appends, until the log ends.
fn keep(inner: &Weak<Inner>, bell: &Bell) {
    let mut due = Instant::now() + ROUND;
    loop {
        let rung = bell.wait(due.saturating_duration_since(Instant::now()));
        let Some(inner) = inner.upgrade().filter(|_| !rung.ended) else {
            return;
        };
        // Before it is needed, so that nobody who waits for an answer waits for this.
        if let Err(why) = lock(&inner.next).make(Now::read()) {
            log::debug!("audit log: {why}");
        }
        if Instant::now() >= due {
            inner.keep();
            due = Instant::now() + ROUND;
        }
    }
}

#[cfg(test)]
mod tests;
