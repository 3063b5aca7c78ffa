//! The link to the injector: found again whenever it is lost, and what goes over it without holding
//! anybody up. The injector answers a ring only when we have answered the kernel, so nobody here
//! waits for one longer than [`PATIENCE`]. What it has not done by then is kept: it is done later, by
//! this injector or by the next one.

mod letter;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use control::inner::{Link, NameVersion, Reply, Role, ToInjector, VERSION};
use fuse_fs::Touched;
use sys::lock::lock;
use sys::places::Places;

use self::letter::Letter;
use crate::host::acts::Behind;
use crate::host::{Host, take_over};

/// The longest that an operator waits for rings.
const PATIENCE: Duration = Duration::from_secs(1);
/// Changes that are told at once; each has a thread. More wait until one of these is done.
const AT_ONCE: usize = 32;
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
    sending: Places,
    kept: Arc<Mutex<Kept>>,
}

/// What is not done yet.
#[derive(Debug, Default)]
struct Kept {
    /// What no injector has taken.
    unsent: Letter,
    /// What this injector does as soon as an instance lets it; and the next one, should it end before.
    late: Letter,
}

#[derive(Debug, Default)]
struct State {
    /// Over which it has handed its connections over.
    link: Option<Link>,
    /// All that belongs to the take-over is done.
    is_complete: bool,
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
            sending: Places::new(AT_ONCE),
            kept: Arc::default(),
        }
    }

    /// Has it handed its connections over, and is it still there?
    pub fn is_there(&self) -> bool {
        self.link().is_some()
    }

    /// Over which it has handed its connections over.
    pub fn link(&self) -> Option<Link> {
        lock(&self.state)
            .link
            .clone()
            .filter(|link| !link.is_closed())
    }

    /// It has handed its connections over by this link, and learns what an earlier one may not have:
    /// with `all` the versions that it tells services, unless the store is sealed. What changes from
    /// here on is told by the link, and what changed before is in `all`, which is asked for now.
    pub fn serves(&self, link: &Link, all: impl FnOnce() -> Option<Vec<NameVersion>>) {
        lock(&self.state).link = Some(link.clone());
        let mut letter = match all() {
            Some(all) => Letter::of_versions(all, true),
            None => Letter::default(),
        };
        let kept = std::mem::take(&mut *lock(&self.kept));
        letter.keep(kept.late.without_versions());
        letter.keep(kept.unsent.without_versions());
        self.send(letter);
    }

    /// Everybody has been told of what an earlier secretsd did not live to tell of.
    pub fn take_over_is_complete(&self) {
        lock(&self.state).is_complete = true;
        self.changed.notify_all();
    }

    /// These instances were late, and are not any more.
    pub fn caught_up(&self, instances: &[u32]) {
        lock(&self.kept).late.forget(instances);
    }

    /// All versions that it tells services.
    pub fn tell_all_versions(&self, all: Vec<NameVersion>) {
        self.send(Letter::of_versions(all, true));
    }

    /// Versions that it did not need to know before.
    pub fn tell_versions(&self, versions: Vec<NameVersion>) {
        self.send(Letter::of_versions(versions, false));
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
        while !state.is_complete {
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
    /// versions that names are at now. Waits until that is done, but not longer than [`PATIENCE`];
    /// gives the instances whose watchers have not been told by then. They will be.
    pub fn pass_on(&self, touched: Touched, versions: Vec<NameVersion>) -> BTreeSet<u32> {
        self.send(Letter::of_change(touched, versions))
    }

    fn send(&self, mut letter: Letter) -> BTreeSet<u32> {
        if letter.is_empty() {
            return BTreeSet::new();
        }
        let instances = letter.instances();
        let (link, place) = loop {
            if let (Some(link), Some(place)) = (self.link(), self.sending.take()) {
                break (link, place);
            }
            let mut kept = lock(&self.kept);
            kept.unsent.keep(letter);
            // Who has come, or was done, since we looked has seen what was kept before.
            if self.link().is_none() || self.sending.are_taken() {
                return instances;
            }
            letter = std::mem::take(&mut kept.unsent);
        };
        let kept = Arc::clone(&self.kept);
        let (done, is_done) = channel();
        let started = std::thread::Builder::new()
            .name("rings".into())
            .spawn(move || {
                let _place = place;
                let _ = done.send(send(letter, &link, &kept));
                // What found no place meanwhile.
                loop {
                    let unsent = std::mem::take(&mut lock(&kept).unsent);
                    if unsent.is_empty() {
                        return;
                    }
                    send(unsent, &link, &kept);
                    if link.is_closed() {
                        return;
                    }
                }
            });
        match started {
            Ok(_) => is_done.recv_timeout(PATIENCE).unwrap_or(instances),
            Err(error) => {
                log::warn!("no thread for rings: {error}");
                instances
            }
        }
    }
}

/// Gives the instances that will be late, all of those of the letter if the link is lost.
fn send(letter: Letter, link: &Link, kept: &Mutex<Kept>) -> BTreeSet<u32> {
    let sent = letter.send(link);
    let mut late = sent.late.instances();
    late.extend(sent.unsent.instances());
    let mut kept = lock(kept);
    kept.late.keep(sent.late);
    kept.unsent.keep_older(sent.unsent);
    late
}

/// Names the instances that a change did not reach in all ways.
pub(crate) fn warn_of_behind(behind: &Behind) {
    for (instance, service) in &behind.stale {
        log::warn!(
            "instance {instance} of {service} holds a folder of its view locked; names that it has \
             looked up before may still show there, without being readable"
        );
    }
    for (instance, service) in &behind.unrung {
        log::warn!(
            "watchers of instance {instance} of {service} could not be told yet; they will be as \
             soon as that is possible"
        );
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
