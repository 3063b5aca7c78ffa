//! The control socket: who may connect, how many, and for how long.
//!
//! A peer's credentials are asked of the kernel before a byte of it is read. A connection has a
//! thread of its own and can hold up nobody else: reads and writes have a time limit, messages a
//! size limit, and a uid a share of the connections, of which some are kept for root.

mod audit;
mod backups;
mod calls;
mod config;
pub(crate) mod credentials;
mod daemon;
mod keys;
mod refusal;
mod secret;

pub(crate) use self::audit::verified_info;
pub(crate) use self::backups::{contents_info, version};
pub(crate) use self::keys::slot_info;

use std::collections::HashMap;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use control::ControlError;
use store::Operator;
use sys::lock::lock;

use crate::host::Host;

/// Connections at once, of all operators.
const CONNECTIONS: usize = 64;
/// Connections at once of one uid other than root; the rest stay free for others.
const CONNECTIONS_OF_A_UID: usize = 48;
/// A version that is named by nobody can go between being chosen and being read, under `keep` 0.
const TRIES: usize = 10;
/// A peer that does not take an answer within this time is let go.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// Counts the connections of each uid.
#[derive(Debug, Default)]
struct Places(Mutex<HashMap<u32, usize>>);

impl Places {
    fn take(self: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut taken = lock(&self.0);
        let all: usize = taken.values().sum();
        let own = taken.entry(uid).or_default();
        if uid != 0 && (*own >= CONNECTIONS_OF_A_UID || all >= CONNECTIONS_OF_A_UID)
            || all >= CONNECTIONS
        {
            return None;
        }
        *own += 1;
        Some(Place {
            places: self.clone(),
            uid,
        })
    }
}

/// One connection's place, given back when it ends.
struct Place {
    places: Arc<Places>,
    uid: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.0);
        if let Some(own) = taken.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

/// Serves `listener` from a thread of its own until the process ends.
///
/// # Errors
/// The thread cannot be started.
pub fn start(listener: UnixListener, host: Arc<Host>) -> io::Result<()> {
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let places = Arc::new(Places::default());
            for stream in listener.incoming() {
                match stream {
                    Ok(stream) => admit(stream, &host, &places),
                    Err(error) => {
                        // EMFILE and the like pass; a tight loop over them would not help them pass.
                        log::warn!("control socket: {error}");
                        std::thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        })?;
    Ok(())
}

/// Decides by credentials alone whether `stream` is served, and starts its thread.
fn admit(stream: UnixStream, host: &Arc<Host>, places: &Arc<Places>) {
    let Ok((operator, uid)) = authenticate(&stream, host) else {
        if let Ok(peer) = sys::peer::credentials(&stream) {
            host.audit.stranger(&peer, "control socket", "no operator");
        }
        return refuse(
            &stream,
            &ControlError::denied(
                "this user may not manage secrets",
                "run as root, or as a member of group `deploy`",
            ),
        );
    };
    let Some(place) = places.take(uid) else {
        return refuse(
            &stream,
            &ControlError::busy("too many connections to the control socket"),
        );
    };
    let host = host.clone();
    let started = std::thread::Builder::new()
        .name("operator".into())
        .spawn(move || {
            let _place = place;
            // Here and not before: a name service may take its time, and others wait to be admitted.
            let operator = operator.named(sys::users::name_of(uid));
            if let Err(error) = calls::serve(&stream, &host, &operator) {
                log::debug!("connection of uid {uid} ended: {error}");
            }
        });
    if let Err(error) = started {
        log::warn!("no thread for a connection: {error}");
    }
}

fn authenticate(stream: &UnixStream, host: &Host) -> io::Result<(Operator, u32)> {
    let peer = sys::peer::credentials(stream)?;
    let groups = sys::peer::groups(stream)?;
    stream.set_write_timeout(Some(WRITE_LIMIT))?;
    Operator::authenticate(&peer, &groups, host.deploy_group)
        .map(|operator| (operator, peer.uid))
        .ok_or_else(|| io::ErrorKind::PermissionDenied.into())
}

/// Says why, if the peer's buffer takes it at once, and hangs up.
fn refuse(stream: &UnixStream, error: &ControlError) {
    if stream.set_nonblocking(true).is_ok() {
        let _ = control::frame::write_error(&mut &*stream, error);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn members_cannot_take_the_places_that_are_kept_for_root() {
        let places = Arc::new(Places::default());
        let own: Vec<_> = (0..CONNECTIONS_OF_A_UID)
            .map(|_| places.take(1000).unwrap())
            .collect();
        assert!(places.take(1000).is_none());
        assert!(
            places.take(1001).is_none(),
            "two uids together take what is root's"
        );
        let roots: Vec<_> = std::iter::from_fn(|| places.take(0)).collect();
        assert_eq!(own.len() + roots.len(), CONNECTIONS);
        drop(own);
        assert!(places.take(1001).is_some());
        drop(roots);
        assert_eq!(
            lock(&places.0).len(),
            0,
            "a uid without a connection is still counted"
        );
    }
}
