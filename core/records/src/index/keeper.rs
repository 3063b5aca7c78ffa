//! The thread that keeps an index up to what the table says.
//!
//! A writer only names what it changed; the keeper looks up what the record is by then. So sled can
//! be slow, stuck or broken without a writer or a reader noticing more than a read of the journal.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use sys::lock::{lock, read, write};

use super::{Index, IndexError, Mark};
use crate::mac::Keys;
use crate::name::NameHash;

/// What was put lies in sled's memory no longer than this.
const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// Syncing and closing its files takes an index less, or it is stuck and may be left to itself: the
/// next open finds it without a mark, or behind.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// One call takes an index less, or it is stuck: sled waits for ever for a write that failed.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Where the keeper gets what it puts.
pub(crate) trait Source: Send + Sync + 'static {
    /// What the record of a name is now; `None`: there is none. `Err`: it cannot be read.
    fn current(&self, name: &NameHash) -> Result<Option<(u64, Vec<u8>)>, String>;
    /// The index failed; it is not asked any more.
    fn index_failed(&self, why: &str);
}

/// An index, and what it has yet to take.
pub(crate) struct Keeper {
    index: RwLock<Option<Arc<dyn Index>>>,
    /// Everything up to this transaction is in the index.
    applied: AtomicU64,
    failed: AtomicBool,
    /// Since when the thread is in one call of the index: milliseconds since `began`, plus 1; 0: it
    /// is in none.
    calling: AtomicU64,
    began: Instant,
    keys: Keys,
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Default)]
struct Work {
    names: BTreeSet<NameHash>,
    /// How far the index is once all names are done.
    mark: Option<Mark>,
    /// Names that were taken out and are not done yet.
    in_hand: usize,
    /// When to leave off what is left.
    stop_at: Option<Instant>,
    /// The index is of no use any more.
    discard: bool,
    ended: bool,
}

impl Keeper {
    /// Starts with what an index has: everything up to `applied`, and nothing of what is named.
    pub(crate) fn start(
        index: Arc<dyn Index>,
        keys: &Keys,
        applied: u64,
        source: Arc<dyn Source>,
    ) -> Result<Arc<Self>, std::io::Error> {
        let keeper = Arc::new(Self {
            index: RwLock::new(Some(index)),
            applied: AtomicU64::new(applied),
            failed: AtomicBool::new(false),
            calling: AtomicU64::new(0),
            began: Instant::now(),
            keys: keys.clone(),
            work: Mutex::default(),
            changed: Condvar::new(),
        });
        let own = keeper.clone();
        thread::Builder::new()
            .name("records-index".into())
            .spawn(move || own.run(&*source))?;
        Ok(keeper)
    }

    /// What the index has under a name, if it should have transaction `seq`.
    pub(crate) fn get(&self, name: &NameHash, seq: u64) -> Answer {
        let failed = self.failed.load(Ordering::Acquire) || self.is_stuck();
        if failed || seq > self.applied.load(Ordering::Acquire) {
            return Answer::NotYet;
        }
        let index = read(&self.index).clone();
        match index.map(|index| index.get(name)) {
            None => Answer::NotYet,
            Some(Ok(Some(found))) => Answer::Has(found),
            // A damaged page fails alone; putting the record again shows whether more is wrong.
            Some(Ok(None) | Err(_)) => Answer::Lacks,
        }
    }

    /// Names what has changed; with `mark`, that it is all up to there.
    pub(crate) fn changed(&self, names: impl IntoIterator<Item = NameHash>, mark: Option<Mark>) {
        let mut work = lock(&self.work);
        if work.ended {
            return;
        }
        work.names.extend(names);
        work.mark = mark.or(work.mark);
        drop(work);
        self.changed.notify_all();
    }

    /// How many names it has yet to look up.
    pub(crate) fn behind(&self) -> u64 {
        let work = lock(&self.work);
        (work.names.len() + work.in_hand) as u64
    }

    /// Whether the index has not returned from a call for so long that it may never do.
    pub(crate) fn is_stuck(&self) -> bool {
        match self.calling.load(Ordering::Acquire) {
            0 => false,
            since => self.began.elapsed() > STUCK_AFTER + Duration::from_millis(since),
        }
    }

    /// Ends the thread: what is left is taken if that is done within `grace`, then the index is made
    /// durable and closed.
    pub(crate) fn close(&self, grace: Duration) {
        self.stop(grace, false);
    }

    /// Ends the thread, and closes an index that nobody needs any more.
    pub(crate) fn discard(&self) {
        self.stop(Duration::ZERO, true);
    }

    fn stop(&self, grace: Duration, discard: bool) {
        let mut work = lock(&self.work);
        work.stop_at = Some(Instant::now() + grace);
        work.discard = discard;
        self.changed.notify_all();
        let limit = Instant::now() + grace + CLOSE_LIMIT;
        while !work.ended {
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                log::warn!("the index does not close; it is left to itself");
                return;
            }
            work = self.wait(work, left);
        }
    }

    fn wait<'a>(&self, work: MutexGuard<'a, Work>, time: Duration) -> MutexGuard<'a, Work> {
        self.changed
            .wait_timeout(work, time)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn run(&self, source: &dyn Source) {
        // Whatever happens here, nobody waits for us for ever.
        let _ended = Ended(self);
        let Some(index) = read(&self.index).clone() else {
            return;
        };
        if let Err(IndexError(why)) = self.keep(&*index, source) {
            // Before anybody begins another: nobody asks this one again.
            self.failed.store(true, Ordering::Release);
            source.index_failed(&why);
        }
        *write(&self.index) = None;
    }

    /// Calls the index; whoever looks sees for how long.
    fn call<T>(&self, call: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
        let since = self.began.elapsed().as_millis() as u64 + 1;
        self.calling.store(since, Ordering::Release);
        let done = call();
        self.calling.store(0, Ordering::Release);
        done
    }

    fn keep(&self, index: &dyn Index, source: &dyn Source) -> Result<(), IndexError> {
        let mut dirty: Option<Instant> = None;
        loop {
            let mut work = lock(&self.work);
            while work.names.is_empty() && work.mark.is_none() && work.stop_at.is_none() {
                let since = dirty.map(|since| since.elapsed());
                match since.map(|since| FLUSH_AFTER.saturating_sub(since)) {
                    Some(Duration::ZERO) => break,
                    left => work = self.wait(work, left.unwrap_or(Duration::from_secs(3600))),
                }
            }
            if work.discard {
                return Ok(());
            }
            let names = std::mem::take(&mut work.names);
            let mark = work.mark.take();
            let stopping = work.stop_at.is_some();
            work.in_hand = names.len();
            drop(work);
            if names.is_empty() && mark.is_none() {
                if stopping {
                    return self.call(|| index.sync());
                }
                dirty = None;
                self.call(|| index.flush())?;
                continue;
            }
            if !self.apply(index, source, names)? {
                // Without the mark: the next open sees that it is not whole.
                let discard = lock(&self.work).discard;
                return if discard {
                    Ok(())
                } else {
                    self.call(|| index.sync())
                };
            }
            if let Some(mark) = mark {
                self.call(|| index.set_mark(&mark.bytes(&self.keys)))?;
                self.applied.store(mark.seq, Ordering::Release);
            }
            // Only now: who is told that nothing is left finds it served from here.
            lock(&self.work).in_hand = 0;
            let since = *dirty.get_or_insert_with(Instant::now);
            if since.elapsed() >= FLUSH_AFTER {
                dirty = None;
                self.call(|| index.flush())?;
            }
        }
    }

    /// `false`: left off, and the mark must not be set.
    fn apply(
        &self,
        index: &dyn Index,
        source: &dyn Source,
        names: BTreeSet<NameHash>,
    ) -> Result<bool, IndexError> {
        for (name, count) in names.into_iter().zip(1u32..) {
            match source.current(&name).map_err(IndexError)? {
                Some((seq, record)) => self.call(|| index.put(&name, seq, &record))?,
                None => self.call(|| index.remove(&name))?,
            }
            if count % 64 == 0 {
                let mut work = lock(&self.work);
                work.in_hand = work.in_hand.saturating_sub(64).max(1);
                if work.stop_at.is_some_and(|at| at <= Instant::now()) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// What the index says to a read.
pub(crate) enum Answer {
    /// Transaction and bytes; not checked.
    Has((u64, Vec<u8>)),
    /// It should have it, and does not.
    Lacks,
    /// It is not expected to have it, or failed.
    NotYet,
}

struct Ended<'a>(&'a Keeper);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        // Nothing keeps it up any more.
        self.0.failed.store(true, Ordering::Release);
        let mut work = lock(&self.0.work);
        work.ended = true;
        work.names.clear();
        work.in_hand = 0;
        drop(work);
        self.0.changed.notify_all();
    }
}
