//! Telling the kernel to forget names, while some service may stand in the way.
//!
//! `inval_entry` takes the folder's lock, and a process can hold that for as long as it likes
//! (getdents into a buffer that it has mapped from a file system of its own). So each instance has
//! its own queue, one job of it runs at a time, and a worker that is stuck is replaced: an instance
//! blocks nobody but itself. One that was waited for in vain is not waited for again until it lets go.
//! The calls themselves are made by a process apart (`kernel`), for which these threads wait.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sys::lock::lock;

/// Workers that are not stuck.
const WORKERS: usize = 4;
/// A worker that takes this long for one job is stuck.
const STUCK: Duration = Duration::from_millis(100);
/// More threads than this are never started: with so many stuck instances, later ones wait.
const THREADS: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    /// Jobs of each instance that has any, running ones not included.
    waiting: HashMap<u32, VecDeque<Job>>,
    /// Instances that have jobs and none running, in order.
    ready: VecDeque<u32>,
    /// Since when each instance's job runs, and whether its worker was replaced.
    running: HashMap<u32, (Instant, bool)>,
    /// How many jobs of each instance are not done.
    pending: HashMap<u32, usize>,
    /// Instances whose job runs still that somebody has waited for in vain.
    late: HashSet<u32>,
    threads: usize,
    idle: usize,
}

/// The pool. Clones are the same pool; its threads live as long as the process.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is a job, or one is done.
    changed: Condvar,
}

impl Pool {
    /// Queues a job for an instance.
    pub fn submit(&self, instance: u32, job: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.0.state);
        *state.pending.entry(instance).or_default() += 1;
        let queue = state.waiting.entry(instance).or_default();
        queue.push_back(Box::new(job));
        if queue.len() == 1 && !state.running.contains_key(&instance) {
            state.ready.push_back(instance);
        }
        self.staff(&mut state);
        self.0.changed.notify_all();
    }

    /// Waits until nothing of `instances` is pending, at most `patience`, and not at all for those
    /// that are late already; gives those that still have something.
    pub fn wait(&self, instances: &[u32], patience: Duration) -> Vec<u32> {
        let until = Instant::now() + patience;
        let mut state = lock(&self.0.state);
        loop {
            let pending = |one: &&u32| state.pending.contains_key(*one);
            let awaited = |one: &u32| pending(&one) && !state.late.contains(one);
            let left = until.saturating_duration_since(Instant::now());
            if !instances.iter().any(awaited) || left.is_zero() {
                let pending: Vec<u32> = instances.iter().filter(pending).copied().collect();
                let State { running, late, .. } = &mut *state;
                let is_stuck = |one: &&u32| {
                    let since = running.get(*one);
                    since.is_some_and(|(since, _)| since.elapsed() > STUCK)
                };
                late.extend(pending.iter().filter(is_stuck));
                return pending;
            }
            self.staff(&mut state);
            // Woken by each job that is done; and now and then, to see who is stuck.
            state = self.sleep(state, left.min(STUCK / 4));
        }
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        match self.0.changed.wait_timeout(state, time) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    /// Starts a worker if there is work that no worker will take soon.
    fn staff(&self, state: &mut State) {
        if state.ready.len() <= state.idle || state.threads >= THREADS {
            return;
        }
        for (since, replaced) in state.running.values_mut() {
            *replaced |= since.elapsed() > STUCK;
        }
        let stuck = state
            .running
            .values()
            .filter(|(_, replaced)| *replaced)
            .count();
        if state.threads.saturating_sub(stuck) >= WORKERS {
            return;
        }
        let pool = self.clone();
        let started = std::thread::Builder::new()
            .name("forget-names".into())
            .spawn(move || pool.work());
        match started {
            Ok(_) => state.threads += 1,
            Err(error) => log::warn!("no thread to invalidate names: {error}"),
        }
    }

    fn work(&self) {
        let mut state = lock(&self.0.state);
        loop {
            let Some(instance) = state.ready.pop_front() else {
                // Those that replaced a stuck one go when it is back.
                if state.threads > WORKERS {
                    state.threads -= 1;
                    return;
                }
                state.idle += 1;
                state = match self.0.changed.wait(state) {
                    Ok(state) => state,
                    Err(poisoned) => poisoned.into_inner(),
                };
                state.idle -= 1;
                continue;
            };
            let Some(job) = state
                .waiting
                .get_mut(&instance)
                .and_then(VecDeque::pop_front)
            else {
                continue;
            };
            state.running.insert(instance, (Instant::now(), false));
            drop(state);
            job();
            state = lock(&self.0.state);
            state.running.remove(&instance);
            state.late.remove(&instance);
            match state.waiting.get(&instance).map(VecDeque::is_empty) {
                Some(false) => state.ready.push_back(instance),
                _ => drop(state.waiting.remove(&instance)),
            }
            if let Some(count) = state.pending.get_mut(&instance) {
                *count -= 1;
                if *count == 0 {
                    state.pending.remove(&instance);
                }
            }
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc::{channel, sync_channel};

    const LONG: Duration = Duration::from_secs(20);
    const FOR_EVER: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn stuck_instances_delay_nobody_else() {
        let pool = Pool::default();
        let (go, stuck) = sync_channel::<()>(0);
        let stuck = Arc::new(Mutex::new(stuck));
        let blockers: Vec<u32> = (1..=2 * WORKERS as u32).collect();
        for instance in &blockers {
            let stuck = Arc::clone(&stuck);
            pool.submit(*instance, move || {
                let _ = stuck.lock().unwrap().recv();
            });
        }
        let (done, is_done) = channel();
        pool.submit(1000, move || done.send(()).unwrap());
        assert!(pool.wait(&[1000], LONG).is_empty());
        is_done.try_recv().unwrap();
        assert_eq!(pool.wait(&blockers, STUCK * 2), blockers);
        // This would be for ever.
        assert_eq!(pool.wait(&blockers, FOR_EVER), blockers);
        for _ in &blockers {
            go.send(()).unwrap();
        }
        while !pool.wait(&blockers, LONG).is_empty() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn jobs_of_one_instance_run_in_order_and_one_at_a_time() {
        let pool = Pool::default();
        let (done, order) = channel();
        for number in 0..100 {
            let done = done.clone();
            pool.submit(7, move || done.send(number).unwrap());
        }
        assert!(pool.wait(&[7], LONG).is_empty());
        let order: Vec<i32> = order.try_iter().collect();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
