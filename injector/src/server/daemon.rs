//! The link to secretsd, which comes and goes.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use control::inner::{FromInjector, Link, Reply};
use sys::lock::lock;

/// How long an instance that is being made waits for secretsd: some of its restarts.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a word to secretsd may take that it learns otherwise, too: it may be stopped.
const WORD: Duration = Duration::from_secs(2);
/// So many may go away before they answer the same question: it may be what ends them.
const TRIES: u32 = 3;

/// Why secretsd gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum DaemonError {
    #[error(
        "secretsd is not there; see the log of `deploy-inject up`, or systemctl status secretsd"
    )]
    Away,
    #[error("secretsd went away before it answered: {0}")]
    Lost(String),
}

/// Where secretsd's link is, once it has taken the connections over.
#[derive(Debug, Default)]
pub(super) struct Daemon {
    link: Mutex<Option<Link>>,
    came: Condvar,
}

impl Daemon {
    /// secretsd serves the connections from now on.
    pub fn serves(&self, link: Link) {
        *lock(&self.link) = Some(link);
        self.came.notify_all();
    }

    /// The link that serves now, if any.
    pub fn link(&self) -> Option<Link> {
        lock(&self.link).clone().filter(|link| !link.is_closed())
    }

    /// Asks secretsd for what may be done twice, and waits for it if it is just being started again.
    /// Who goes away before the answer is followed by one that is asked anew.
    pub fn ask(&self, body: &FromInjector) -> Result<Reply, DaemonError> {
        let mut tries = TRIES;
        loop {
            let link = self.wait().ok_or(DaemonError::Away)?;
            tries -= 1;
            match ask(&link, body, &[]) {
                Err(DaemonError::Lost(_)) if tries > 0 && link.is_closed() => {}
                done => return done,
            }
        }
    }

    /// Tells secretsd something that it learns at its next take-over otherwise; whether it says that
    /// it knows.
    pub fn tell(&self, body: &FromInjector) -> bool {
        let Some(link) = self.link() else {
            return false;
        };
        link.request_within(WORD, body)
            .inspect_err(|error| log::debug!("{error}"))
            .is_ok()
    }

    fn wait(&self) -> Option<Link> {
        let until = Instant::now() + PATIENCE;
        let mut slot = lock(&self.link);
        loop {
            if let Some(link) = slot.as_ref().filter(|link| !link.is_closed()) {
                return Some(link.clone());
            }
            let left = until.checked_duration_since(Instant::now())?;
            slot = match self.came.wait_timeout(slot, left) {
                Ok((slot, _)) => slot,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

/// Asks over one link.
pub(super) fn ask(
    link: &Link,
    body: &FromInjector,
    fds: &[BorrowedFd<'_>],
) -> Result<Reply, DaemonError> {
    match link.request(body, fds) {
        Ok((reply, _)) => Ok(reply),
        Err(error) => Err(DaemonError::Lost(error.to_string())),
    }
}

/// Descriptors that secretsd wants back after its death: small memfds, none with a value in it.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Vec<(String, OwnedFd)>>);

/// More than secretsd uses; a limit, for it is not trusted to be well.
const HELD_MAX: usize = 4;

impl Held {
    /// Those of an earlier life of ours.
    pub fn take_over(stored: &mut Vec<(String, OwnedFd)>) -> Held {
        let (held, rest) = std::mem::take(stored)
            .into_iter()
            .partition::<Vec<_>, _>(|(name, _)| name.starts_with("held-"));
        *stored = rest;
        let strip = |(name, fd): (String, OwnedFd)| (name["held-".len()..].to_owned(), fd);
        Held(Mutex::new(held.into_iter().map(strip).collect()))
    }

    /// Keeps a descriptor, in place of one of the same name.
    pub fn hold(&self, name: &str, fd: OwnedFd) -> std::io::Result<()> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(plain) {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        let mut held = lock(&self.0);
        held.retain(|(other, _)| other != name);
        if held.len() == HELD_MAX {
            return Err(std::io::Error::other("too many descriptors held"));
        }
        let stored = format!("held-{name}");
        crate::notify::forget(&stored)?;
        crate::notify::store(&stored, std::os::fd::AsFd::as_fd(&fd))?;
        held.push((name.to_owned(), fd));
        Ok(())
    }

    /// Has secretsd given one of this name?
    pub fn has(&self, name: &str) -> bool {
        lock(&self.0).iter().any(|(other, _)| other == name)
    }

    /// Forgets one: it told of a connection that is gone.
    pub fn forget(&self, name: &str) {
        lock(&self.0).retain(|(other, _)| other != name);
        let _ = crate::notify::forget(&format!("held-{name}"));
    }

    /// Copies of all, with their names.
    pub fn copies(&self) -> std::io::Result<Vec<(String, OwnedFd)>> {
        lock(&self.0)
            .iter()
            .map(|(name, fd)| Ok((name.clone(), fd.try_clone()?)))
            .collect()
    }
}
