//! Rings: touches through the master mounts that make inotify fire behind every view. secretsd
//! answers each of them, so a ring can hang until the next secretsd is there; that is why it is not
//! secretsd that rings, and why nothing else waits for a ring. It is not a thread of the injector that
//! hangs either: a process apart touches ([`super::touch`]), and the threads here wait for it.
//!
//! A service can hang those of its own instance too, for as long as it likes: by holding the lock of
//! its folder, in a getdents(2) into memory that is mapped from a stalled file system of its own. So
//! one thread at a time touches an instance, and the others do not wait behind it. What such an
//! instance is owed is kept, and done when its lock is free; whoever asked is told that it will be
//! late.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use control::inner::RingTarget;
use sys::apart::Apart;
use sys::lock::lock;

use super::connections::Connections;
use super::touch::Touch;

/// More threads than this touch nothing at once: with so many stuck instances, others wait.
const THREADS: usize = 256;
/// So many work, as long as none is stuck.
const WORKERS: usize = 8;
/// A touch takes some 100 us; a thread that takes this long for one is stuck, and is replaced.
const STUCK: Duration = Duration::from_millis(100);
/// Nobody waits longer when nothing goes on,
const NO_PROGRESS: Duration = Duration::from_millis(250);
/// nor when it goes on for so long; secretsd waits a second.
const LIMIT: Duration = Duration::from_millis(800);
/// An instance is owed this much at most. A secret has a target for its name, and one for each older
/// version that the kernel holds.
const OWED_MAX: usize = 16 * 1024;
/// What belongs to the master mounts and to no instance: it is not waited for by one either.
const NO_INSTANCE: u32 = 0;

type Job = (Touch, RingTarget);
type Act = dyn Fn(&Job) -> io::Result<()> + Send + Sync;

/// Who touches what.
#[derive(Debug)]
pub(super) struct Bell {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// How a file is touched; the newest way, for connections change.
    act: Option<Arc<Act>>,
    /// What each instance is owed, each once, beside what is being done.
    owed: BTreeMap<u32, BTreeSet<Job>>,
    /// Since when a thread does what of an instance.
    busy: BTreeMap<u32, Instant>,
    /// Instances of which somebody was told that they will be late.
    late: BTreeSet<u32>,
    /// Hears of each of those that is late no more.
    caught_up: Sender<u32>,
    /// How much was done; to see whether anything goes on.
    done: u64,
    threads: usize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("busy", &self.busy)
            .field("late", &self.late)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Is something still to be done of an instance?
    fn is_pending(&self, instance: u32) -> bool {
        self.owed.contains_key(&instance) || self.busy.contains_key(&instance)
    }

    /// An instance that a thread may turn to.
    fn next(&self) -> Option<u32> {
        let free = |instance: &&u32| !self.busy.contains_key(*instance);
        self.owed.keys().find(free).copied()
    }

    fn owe(&mut self, instance: u32, job: Job) {
        let owed = self.owed.entry(instance).or_default();
        if owed.len() < OWED_MAX {
            owed.insert(job);
        } else {
            log::warn!("instance {instance} is owed too many rings; its watchers miss one");
        }
    }
}

impl Bell {
    /// `caught_up` hears of instances that were late and are not any more.
    pub fn new(caught_up: Sender<u32>) -> Arc<Bell> {
        Arc::new(Bell {
            state: Mutex::new(State {
                act: None,
                owed: BTreeMap::new(),
                busy: BTreeMap::new(),
                late: BTreeSet::new(),
                caught_up,
                done: 0,
                threads: 0,
            }),
            changed: Condvar::new(),
        })
    }

    /// Touches all of `targets`, and waits for it as long as it goes on; gives the instances that
    /// will be late.
    pub fn touch(
        self: &Arc<Self>,
        apart: &Arc<Apart>,
        connections: &Arc<Connections>,
        how: Touch,
        targets: Vec<RingTarget>,
    ) -> Vec<u32> {
        let (apart, connections) = (Arc::clone(apart), Arc::clone(connections));
        let act = move |(how, target): &Job| {
            let master = match target.tree.as_str() {
                "config" => connections.config(),
                _ => connections.secret(),
            };
            Ok(apart.ask(&how.job(&target.path), master).map(drop)?)
        };
        let jobs = targets.into_iter().map(|target| (how, target));
        self.each(jobs.collect(), Arc::new(act))
    }

    fn each(self: &Arc<Self>, jobs: Vec<Job>, act: Arc<Act>) -> Vec<u32> {
        let start = Instant::now();
        let mut state = lock(&self.state);
        state.act = Some(act);
        let mut mine = BTreeSet::new();
        for job in jobs {
            let instance = job.1.instance().unwrap_or(NO_INSTANCE);
            mine.insert(instance);
            state.owe(instance, job);
        }
        let mut progress = (state.done, start);
        loop {
            self.staff(&mut state);
            mine.retain(|instance| state.is_pending(*instance));
            if mine.is_empty() {
                return Vec::new();
            }
            if state.done != progress.0 {
                progress = (state.done, Instant::now());
            }
            if progress.1.elapsed() > NO_PROGRESS || start.elapsed() > LIMIT {
                state.late.extend(&mine);
                return mine.into_iter().collect();
            }
            // Woken by what is done; and now and then, to see who is stuck.
            state = self.sleep(state, STUCK / 4);
        }
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        match self.changed.wait_timeout(state, time) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    /// Starts threads for what no thread will take soon.
    fn staff(self: &Arc<Self>, state: &mut State) {
        let stuck = state.busy.values().filter(|since| since.elapsed() > STUCK);
        let working = state.threads - stuck.count().min(state.threads);
        let free = |instance: &&u32| !state.busy.contains_key(*instance);
        let waiting = state.owed.keys().filter(free).take(WORKERS).count();
        let wanted = waiting.min(WORKERS.saturating_sub(working));
        for _ in 0..wanted.min(THREADS.saturating_sub(state.threads)) {
            let bell = Arc::clone(self);
            let started = std::thread::Builder::new()
                .name("ring".into())
                .spawn(move || bell.work());
            match started {
                Ok(_) => state.threads += 1,
                Err(error) => return log::warn!("no thread for rings: {error}"),
            }
        }
    }

    /// Does what is owed until nothing is.
    fn work(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        while let Some(instance) = state.next() {
            while let Some(job) = state.owed.get_mut(&instance).and_then(BTreeSet::pop_first) {
                state.busy.insert(instance, Instant::now());
                let act = state.act.clone();
                drop(state);
                // One file that is gone must not silence the others.
                if let Some(Err(error)) = act.map(|act| act(&job)) {
                    log::info!("not every watcher was told of a change: {error}");
                }
                state = lock(&self.state);
                state.done += 1;
            }
            state.owed.remove(&instance);
            state.busy.remove(&instance);
            if state.late.remove(&instance) {
                let _ = state.caught_up.send(instance);
            }
            self.changed.notify_all();
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc::channel;

    fn target(path: &str) -> RingTarget {
        RingTarget {
            tree: "secret".to_owned(),
            path: path.into(),
        }
    }

    /// Touches hang below instance 1, fail at 2, and are written down elsewhere.
    fn hands(gate: &Arc<Mutex<()>>, touched: &Arc<Mutex<Vec<String>>>) -> Arc<Act> {
        let (gate, touched) = (Arc::clone(gate), Arc::clone(touched));
        Arc::new(move |(_, target)| {
            match target.instance().unwrap_or(NO_INSTANCE) {
                1 => drop(lock(&gate)),
                2 => return Err(io::ErrorKind::PermissionDenied.into()),
                _ => {}
            }
            lock(&touched).push(target.path.display().to_string());
            Ok(())
        })
    }

    fn rings(paths: &[&str]) -> Vec<Job> {
        let jobs = paths.iter().map(|path| (Touch::Ring, target(path)));
        jobs.collect()
    }

    #[test]
    fn an_instance_that_hangs_or_fails_blocks_its_own_rings_at_most() {
        let (caught_up, hears) = channel();
        let bell = Bell::new(caught_up);
        let (gate, touched) = (Arc::default(), Arc::default());
        let act = hands(&gate, &touched);
        let closed = lock(&gate);
        let jobs = rings(&["1/a", "2/a", "2/b", "3/a", "3/b"]);
        assert_eq!(bell.each(jobs, Arc::clone(&act)), [1]);
        assert_eq!(*lock(&touched), ["3/a", "3/b"]);
        // Again, and as often as one likes: no thread is added to the one that hangs.
        for _ in 0..3 {
            assert_eq!(bell.each(rings(&["1/b"]), Arc::clone(&act)), [1]);
            assert!(bell.each(rings(&["3/a"]), Arc::clone(&act)).is_empty());
        }
        assert_eq!(lock(&bell.state).busy.len(), 1);
        assert!(hears.try_recv().is_err());
        lock(&touched).clear();
        drop(closed);
        // What it is owed comes, each once, and is told.
        assert_eq!(hears.recv(), Ok(1));
        assert_eq!(*lock(&touched), ["1/a", "1/b"]);
        assert!(bell.each(rings(&["1/a"]), act).is_empty());
        assert!(hears.try_recv().is_err(), "it was not late");
    }

    #[test]
    fn many_that_hang_do_not_stop_another() {
        let (caught_up, hears) = channel();
        let bell = Bell::new(caught_up);
        let gate = Arc::new(Mutex::new(()));
        let waits = Arc::clone(&gate);
        let act: Arc<Act> = Arc::new(move |(_, target)| {
            if target.instance().unwrap_or(NO_INSTANCE) != 1000 {
                drop(lock(&waits));
            }
            Ok(())
        });
        let closed = lock(&gate);
        let paths: Vec<String> = (1..=100).map(|number| format!("{number}/a")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        assert_eq!(bell.each(rings(&paths), Arc::clone(&act)).len(), 100);
        while !bell.each(rings(&["1000/a"]), Arc::clone(&act)).is_empty() {}
        assert!(lock(&bell.state).threads <= THREADS);
        drop(closed);
        let mut late: BTreeSet<u32> = (1..=100).collect();
        while !late.is_empty() {
            late.remove(&hears.recv().unwrap());
        }
    }
}
