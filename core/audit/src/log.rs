//! The log, as secretsd has it open.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use sys::lock::lock;

use crate::adoption::Adoption;
use crate::anchor::Anchor;
use crate::entry::{Event, Record};
use crate::open::{self, Found, OpenError, Options};
use crate::segment;
use crate::time::Time;
use crate::writer::{AppendError, Writer};

/// At most so long an open's entry is in the page cache alone.
const ROUND: Duration = Duration::from_millis(500);

/// The audit log. Clones are the same log; it ends with the last one.
#[derive(Debug, Clone)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    writer: Mutex<Writer>,
    /// Up to which entry all is on the disk. Held by whoever syncs, so that those who wait for it are
    /// served by one sync.
    synced: Mutex<u64>,
    adoption: Adoption,
    ends: Arc<Ends>,
}

/// Tells the log's thread to end, and others that there is something new.
#[derive(Debug, Default)]
struct Ends {
    ended: Mutex<bool>,
    changed: Condvar,
}

/// How the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The newest entry.
    pub last: Anchor,
    /// Why nothing is written, if nothing is.
    pub failing: Option<String>,
    /// Events that were not written because of that.
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
        let (writer, found) = open::open(folder, options, program, &adoption).map_err(failed)?;
        let log = Log(Arc::new(Inner {
            writer: Mutex::new(writer),
            synced: Mutex::new(0),
            adoption,
            ends: Arc::default(),
        }));
        log.sync().map_err(failed)?;
        let (inner, ends) = (Arc::downgrade(&log.0), Arc::clone(&log.0.ends));
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || keep(&inner, &ends))
            .map_err(failed)?;
        Ok((log, found))
    }

    /// Writes an event down: it survives the end of this process, however that comes, and within a
    /// second a power cut. `resent`: the kernel may have sent this request before, to a process that
    /// has died.
    ///
    /// # Errors
    /// It was not written. Whoever asked must not get what the event would tell of.
    pub fn append(&self, event: &Event<'_>, resent: bool) -> Result<(), AppendError> {
        lock(&self.0.writer).append(event, resent)?;
        self.0.adoption.event(event, Time::now());
        Ok(())
    }

    /// The same, and it survives a power cut when this returns. All who call at once share a sync.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_durable(&self, event: &Event<'_>) -> Result<(), AppendError> {
        let anchor = lock(&self.0.writer).append(event, false)?;
        self.0
            .sync_up_to(anchor.seq)
            .map_err(|error| AppendError(error.to_string().into()))
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
        let failing = writer.failing.as_ref();
        Health {
            last: writer.last,
            failing: failing.map(|failing| failing.why.to_string()),
            refused: failing.map_or(0, |failing| failing.refused),
        }
    }

    /// Who has opened which version.
    pub fn adoption(&self) -> &Adoption {
        &self.0.adoption
    }

    /// Makes entries of what is only counted yet.
    pub fn flush(&self) {
        lock(&self.0.writer).flush();
    }

    /// Ends the log in order.
    pub fn close(&self) {
        {
            let mut writer = lock(&self.0.writer);
            writer.flush();
            let _ = writer.record(&Record::Stop);
        }
        if let Err(error) = self.sync() {
            log::error!("the end of the audit log is not synced: {error}");
        }
    }
}

impl Inner {
    fn sync_up_to(&self, seq: u64) -> io::Result<()> {
        let mut synced = lock(&self.synced);
        if *synced >= seq {
            return Ok(());
        }
        let (files, folder, last) = {
            let mut writer = lock(&self.writer);
            let folder = std::mem::take(&mut writer.folder_changed).then(|| writer.folder.clone());
            (std::mem::take(&mut writer.unsynced), folder, writer.last)
        };
        let done = files
            .iter()
            .try_for_each(|file| file.sync_data())
            .and_then(|()| {
                folder
                    .as_ref()
                    .map_or(Ok(()), |path| File::open(path)?.sync_all())
            });
        match done {
            Ok(()) => *synced = last.seq,
            Err(_) => {
                let mut writer = lock(&self.writer);
                writer.unsynced.extend(files);
                writer.folder_changed |= folder.is_some();
            }
        }
        done
    }

    fn keep(&self) {
        let (oldest, folder) = {
            let mut writer = lock(&self.writer);
            writer.flush();
            // Before it is needed, so that nobody who waits for an answer waits for this.
            if let Err(error) = writer.make_spare() {
                log::debug!("the next segment of the audit log: {error}");
            }
            let keep = writer.options.segments.max(1) as u64;
            let oldest = (writer.segment.number + 1).saturating_sub(keep);
            (oldest, writer.folder.clone())
        };
        if let Err(error) = self.sync_up_to(u64::MAX) {
            log::error!("the audit log is not synced: {error}");
        }
        let old = segment::list(&folder).unwrap_or_default();
        for number in old.into_iter().filter(|number| *number < oldest) {
            if let Err(error) = segment::remove(&segment::path(&folder, number)) {
                log::warn!("segment {number} of the audit log is not removed: {error}");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        *lock(&self.ends.ended) = true;
        self.ends.changed.notify_all();
    }
}

/// What goes on beside appends, until the log ends.
fn keep(inner: &Weak<Inner>, ends: &Ends) {
    loop {
        let ended = lock(&ends.ended);
        let waited = ends
            .changed
            .wait_timeout_while(ended, ROUND, |ended| !*ended);
        let ended = *waited.unwrap_or_else(PoisonError::into_inner).0;
        match inner.upgrade() {
            Some(inner) if !ended => inner.keep(),
            _ => return,
        }
    }
}

/// The event of an append, for the table of who has opened what.
impl Adoption {
    fn event(&self, event: &Event<'_>, now: Time) {
        if let Event::Open(access) = event {
            self.access(access, now);
        }
    }
}
