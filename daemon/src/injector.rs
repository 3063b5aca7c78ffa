//! The link to the injector: found again whenever it is lost, and what goes over it without holding
//! anybody up. The injector answers a ring only when we have answered the kernel, so nobody here
//! waits for one longer than [`PATIENCE`].

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use control::inner::{Entry, Link, NameVersion, Reply, RingTarget, Role, ToInjector, VERSION};
use fuse_fs::{RingPath, Touched};
use model::ServiceName;
use sys::lock::lock;

use crate::host::{Host, take_over};

/// The longest that an operator waits for rings.
const PATIENCE: Duration = Duration::from_secs(1);
/// Changes whose rings are under way at once; each has a thread. The rings of more are left out.
const AT_ONCE: usize = 32;
/// A frame to the injector is at most 4 MiB, a path of ours at most some 600 bytes.
const TARGETS_OF_A_FRAME: usize = 4096;
/// Between two attempts to find the injector.
const RETRY: Duration = Duration::from_millis(100);
/// At the start: how long until somebody listens, and how long until he hands over. The keeper
/// listens for an injector that is still being started, hence the second.
const NOBODY_LISTENS: Duration = Duration::from_secs(5);
const NO_TAKE_OVER: Duration = Duration::from_secs(30);

/// The injector, as far as we know of it.
#[derive(Debug)]
pub(crate) struct Injector {
    socket: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    sending: Arc<AtomicUsize>,
    /// Entries that no injector has taken yet, by instance: the registry must not lose them.
    unsaid: Arc<Mutex<BTreeMap<u32, Vec<Entry>>>>,
}

#[derive(Debug, Default)]
struct State {
    /// Over which it has handed its connections over.
    link: Option<Link>,
    /// It took our connection, and owes an answer.
    listens: bool,
    /// Why there is no link.
    why_not: String,
}

/// Nobody handed the FUSE connections over.
#[derive(Debug, thiserror::Error)]
#[error("no injector on {}: {why}; is `deploy-inject up` running? see also --run-dir", socket.display())]
pub(crate) struct NoInjector {
    socket: PathBuf,
    why: String,
}

impl Injector {
    /// One that is not there yet.
    pub fn new(socket: PathBuf) -> Injector {
        Injector {
            socket,
            state: Mutex::default(),
            changed: Condvar::new(),
            sending: Arc::default(),
            unsaid: Arc::default(),
        }
    }

    /// Has it handed its connections over, and is it still there?
    pub fn is_there(&self) -> bool {
        self.link().is_some()
    }

    fn link(&self) -> Option<Link> {
        lock(&self.state)
            .link
            .clone()
            .filter(|link| !link.is_closed())
    }

    /// It has handed its connections over by this link, and learns what an earlier one may not have:
    /// with `all` the versions that it tells services, unless the store is sealed.
    pub fn serves(&self, link: &Link, all: Option<Vec<NameVersion>>) {
        lock(&self.state).link = Some(link.clone());
        self.changed.notify_all();
        let unsaid = std::mem::take(&mut *lock(&self.unsaid));
        self.send(Letter {
            entries: unsaid,
            all_versions: all.is_some(),
            versions: all.unwrap_or_default(),
            ..Letter::default()
        });
    }

    /// All versions that it tells services.
    pub fn tell_all_versions(&self, all: Vec<NameVersion>) {
        self.send(Letter {
            all_versions: true,
            versions: all,
            ..Letter::default()
        });
    }

    /// Versions that it did not need to know before.
    pub fn tell_versions(&self, versions: Vec<NameVersion>) {
        self.send(Letter {
            versions,
            ..Letter::default()
        });
    }

    fn listens(&self) {
        lock(&self.state).listens = true;
    }

    fn is_away(&self, why: String) {
        let mut state = lock(&self.state);
        if state.why_not != why {
            log::warn!("no injector: {why}");
        }
        *state = State {
            why_not: why,
            ..State::default()
        };
    }

    /// Waits for the first take-over; `stop` is asked now and then whether to go on.
    ///
    /// # Errors
    /// There was none in time, or `stop` said so.
    pub fn wait(&self, mut stop: impl FnMut() -> bool) -> Result<(), NoInjector> {
        let start = Instant::now();
        let mut state = lock(&self.state);
        while state.link.is_none() {
            let patience = if state.listens {
                NO_TAKE_OVER
            } else {
                NOBODY_LISTENS
            };
            if start.elapsed() > patience || stop() {
                let why = match state.why_not.as_str() {
                    "" => "it does not hand its FUSE connections over".to_owned(),
                    why => why.to_owned(),
                };
                return Err(NoInjector {
                    socket: self.socket.clone(),
                    why,
                });
            }
            state = match self.changed.wait_timeout(state, RETRY) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        Ok(())
    }

    /// Has the injector ring for what changed, keep entries that are new, and tell services of the
    /// versions that names are at now. Waits until that is done, but not longer than [`PATIENCE`].
    pub fn pass_on(&self, touched: Touched, mut versions: Vec<NameVersion>) {
        warn_of_stuck(&touched.stuck);
        if touched.rings.is_empty() && touched.unlinks.is_empty() {
            // Nobody asks for them.
            versions.clear();
        }
        self.send(Letter {
            entries: touched.new_entries.into_iter().collect(),
            unlinks: touched.unlinks.into_iter().map(target).collect(),
            rings: touched.rings.into_iter().map(target).collect(),
            versions,
            all_versions: false,
        });
    }

    fn send(&self, letter: Letter) {
        if letter.is_empty() {
            return;
        }
        let Some(link) = self.link() else {
            // Rings wake watchers that are there now; the next injector has no use for them.
            lock(&self.unsaid).extend(letter.entries);
            return;
        };
        let Some(place) = Place::take(&self.sending) else {
            log::warn!("too many rings are waiting; watchers miss a change");
            lock(&self.unsaid).extend(letter.entries);
            return;
        };
        let unsaid = Arc::clone(&self.unsaid);
        let (done, is_done) = channel::<()>();
        let started = std::thread::Builder::new()
            .name("rings".into())
            .spawn(move || {
                let _place = place;
                letter.send(&link, &unsaid);
                drop(done);
            });
        match started {
            // What is awaited is the end of the thread's sender: done or not, it says no word.
            Ok(_) => drop(is_done.recv_timeout(PATIENCE)),
            Err(error) => log::warn!("no thread for rings: {error}"),
        }
    }
}

/// What a change has to tell the injector.
#[derive(Debug, Default)]
struct Letter {
    entries: BTreeMap<u32, Vec<Entry>>,
    unlinks: Vec<RingTarget>,
    rings: Vec<RingTarget>,
    versions: Vec<NameVersion>,
    /// These are all versions.
    all_versions: bool,
}

impl Letter {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.unlinks.is_empty()
            && self.rings.is_empty()
            && self.versions.is_empty()
            && !self.all_versions
    }

    /// Entries first: what has a number that no registry knows must not be lost.
    fn send(self, link: &Link, unsaid: &Mutex<BTreeMap<u32, Vec<Entry>>>) {
        for (number, entries) in self.entries {
            let question = ToInjector::Entries { number, entries };
            if ask(link, &question).is_err()
                && link.is_closed()
                && let ToInjector::Entries { number, entries } = question
            {
                // Unless newer ones came meanwhile.
                lock(unsaid).entry(number).or_insert(entries);
            }
        }
        for targets in self.unlinks.chunks(TARGETS_OF_A_FRAME) {
            let targets = targets.to_vec();
            log_failure(ask(link, &ToInjector::Unlink { targets }));
        }
        for targets in self.rings.chunks(TARGETS_OF_A_FRAME) {
            let targets = targets.to_vec();
            log_failure(ask(link, &ToInjector::Ring { targets }));
        }
        if !self.versions.is_empty() || self.all_versions {
            let question = ToInjector::Changed {
                versions: self.versions,
                all: self.all_versions,
            };
            // The next injector is told all.
            if let Err(error) = ask(link, &question) {
                log::info!("not every service was told of a change: {error}");
            }
        }
    }
}

fn log_failure(result: Result<(), String>) {
    if let Err(error) = result {
        log::info!("not every watcher was told of a change: {error}");
    }
}

/// Names these instances, which keep others' acts waiting and harm themselves alone.
pub(crate) fn warn_of_stuck(stuck: &[(u32, ServiceName)]) {
    for (instance, service) in stuck {
        log::warn!(
            "instance {instance} of {service} holds a folder of its view locked; names that it has \
             looked up before may still show there, without being readable"
        );
    }
}

fn target(path: RingPath) -> RingTarget {
    let tree = match path.tree {
        model::Tree::Secret => "secret",
        model::Tree::Config => "config",
    };
    RingTarget {
        tree: tree.to_owned(),
        path: path.path,
    }
}

/// A thread's place among [`AT_ONCE`], given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>) -> Option<Place> {
        let place = Place(Arc::clone(taken));
        (taken.fetch_add(1, Ordering::AcqRel) < AT_ONCE).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Asks the injector for something that has no result.
pub(crate) fn ask(link: &Link, question: &ToInjector) -> Result<(), String> {
    ask_with(link, question, &[])
}

/// The same, with descriptors.
pub(crate) fn ask_with(
    link: &Link,
    question: &ToInjector,
    fds: &[std::os::fd::BorrowedFd<'_>],
) -> Result<(), String> {
    match link.request(question, fds) {
        Ok((Reply::Ok, _)) => Ok(()),
        Ok((Reply::Failed { message }, _)) => Err(message),
        Ok(_) => Err("it answers another question".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Finds the injector, and finds it again each time that it was lost, from a thread of its own until
/// the process ends.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn start(host: &Arc<Host>) -> io::Result<()> {
    let host = Arc::clone(host);
    std::thread::Builder::new()
        .name("injector".into())
        .spawn(move || {
            loop {
                match connect(&host) {
                    Ok(hung_up) => {
                        // Nobody ever sends: this ends when the handler goes, and that with its link.
                        let _ = hung_up.recv();
                        host.injector
                            .is_away("it hung up; waiting for the next one".to_owned());
                    }
                    Err(error) => host.injector.is_away(error),
                }
                std::thread::sleep(RETRY);
            }
        })?;
    Ok(())
}

/// Connects and says who we are; the injector then asks us to take over.
fn connect(host: &Arc<Host>) -> Result<Receiver<()>, String> {
    let (alive, hung_up) = channel();
    let answering = Arc::clone(host);
    let socket: &Path = &host.injector.socket;
    let link = Link::connect_serving(socket, move |link, question, fds| {
        let _alive = &alive;
        take_over::answer(&answering, link, question, fds)
    })
    .map_err(|error| error.to_string())?;
    host.injector.listens();
    let hello = ToInjector::Hello {
        role: Role::Daemon,
        version: VERSION,
    };
    loop {
        match ask(&link, &hello) {
            Ok(()) => return Ok(hung_up),
            Err(error) if link.is_closed() => return Err(error),
            // Over the same link: one that serves is closed by its other end alone.
            Err(error) => {
                lock(&host.injector.state).why_not = format!("it refuses us: {error}");
                std::thread::sleep(RETRY * 10);
            }
        }
    }
}

#[cfg(test)]
mod tests;
